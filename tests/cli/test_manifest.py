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


def test_parts_make_one_folder(command: Command) -> None:
    """Two processes write what one does; another number of parts is refused, and so is a change."""
    folder = command.folder / "speech"
    folder.mkdir()
    for name in "abc":
        samples = np.random.default_rng(ord(name)).normal(0, 0.1, 24_000)
        soundfile.write(folder / f"{name}.wav", samples, 16_000)
    first = command("manifest", "speech", "--out", "shards", "--part", "0/2")
    assert first.stdout.startswith("shards: 2 cuts"), first.stderr
    second = command("manifest", "speech", "--out", "shards", "--part", "1/2")
    assert second.stdout.startswith("shards: 1 cuts"), second.stderr
    names = {path.name for path in (command.folder / "shards").iterdir()}
    assert names == {
        "index.0-of-2.jsonl", "index.1-of-2.jsonl", "recording.000000.tar", "recording.000001.tar",
        "cuts.000000.jsonl.gz", "cuts.000001.jsonl.gz",
    }  # fmt: skip
    other = command("manifest", "speech", "--out", "shards")
    assert_refused(other, "shards: was begun in 2 parts; go on in 2 parts")
    (folder / "a.wav").unlink()
    changed = command("manifest", "speech", "--out", "shards", "--part", "0/2")
    assert_refused(changed, "other files than are there now", "new folder")


@pytest.mark.parametrize(("part", "says"), [("1", "as in 0/4"), ("2/2", "0 to N - 1")])
def test_parts_that_are_none(command: Command, part: str, says: str) -> None:
    """What is no part of a whole is one line."""
    (command.folder / "speech").mkdir()
    soundfile.write(command.folder / "speech" / "a.wav", np.zeros(24_000), 16_000)
    assert_refused(command("manifest", "speech", "--out", "x", "--part", part), part, says)


def test_folders_without_speech(command: Command) -> None:
    """An empty folder, one that is not there, and one with nothing readable are one line each."""
    (command.folder / "empty").mkdir()
    assert_refused(command("manifest", "empty", "--out", "x"), "no audio or video")
    assert_refused(command("manifest", "nowhere", "--out", "x"), "nowhere", "no such folder")
    (command.folder / "bad").mkdir()
    (command.folder / "bad" / "x.wav").write_text("no")
    assert_refused(command("manifest", "bad", "--out", "y"), "no recording could be read; 1")
