"""`wavlm-meeting manifest` as typed."""

import json

import numpy as np
import pytest
import soundfile

from commands import Command, assert_refused

pytest.importorskip("lhotse", reason="manifests need the extra 'train'")


def test_a_folder_becomes_shards(command: Command) -> None:
    """Files at any depth, the broken one named; a second call changes nothing and says the same."""
    folder = command.folder / "speech"
    (folder / "deep" / "er").mkdir(parents=True)
    for path in (folder / "a.flac", folder / "deep" / "er" / "b.wav"):
        soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 36_000), 16_000)
    (folder / "broken.mp3").write_text("no")
    answer = command("manifest", "speech", "--out", "shards")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("shards: 2 cuts, 0.00 hours; 1 of")
    assert answer.stderr.startswith("note: broken.mp3: skipped, ")
    assert len(answer.stderr.splitlines()) == 1
    before = {path: path.stat().st_mtime_ns for path in (command.folder / "shards").iterdir()}
    again = command("manifest", "speech", "--out", "shards", "--json")
    found = json.loads(again.stdout)
    assert (found["cuts"], len(found["skipped"])) == (2, 1)
    assert found["hours"] == pytest.approx(2 * 2.25 / 3600)
    after = {path: path.stat().st_mtime_ns for path in (command.folder / "shards").iterdir()}
    tars = [path for path in before if path.suffix == ".tar"]
    assert [before[path] for path in tars] == [after[path] for path in tars]


def test_folders_without_speech(command: Command) -> None:
    """An empty folder, one that is not there, and one with nothing readable are one line each."""
    (command.folder / "empty").mkdir()
    assert_refused(command("manifest", "empty", "--out", "x"), "no audio or video")
    assert_refused(command("manifest", "nowhere", "--out", "x"), "nowhere", "no such folder")
    (command.folder / "bad").mkdir()
    (command.folder / "bad" / "x.wav").write_text("no")
    assert_refused(command("manifest", "bad", "--out", "y"), "no recording could be read; 1")
