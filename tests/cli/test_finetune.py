"""`wavlm-meeting finetune diarization`, as typed: from ten files to a model and a table."""

import json
from pathlib import Path

import pytest

from commands import Command, assert_refused
from wavlm_meeting.checkpoints.card import read_card
from wavlm_meeting.errors import SettingsError

pytest.importorskip("lightning", reason="training needs the extra 'train'")
pytest.importorskip("speechbrain", reason="training needs the extra 'train'")

from small_conversations import write_conversation
from wavlm_meeting.formats.rttm import write_rttm
from wavlm_meeting.training.diarization_finetuning import finetune_diarization
from wavlm_meeting.training.diarization_recordings import read_conversations

NAMES = ("a", "bb", "ccc", "dddd", "eeeee", "ffffff")


@pytest.fixture
def files(command: Command) -> Path:
    """Write six recordings and their references."""
    for name in NAMES:
        reference = write_conversation(command.folder / f"audio/{name}.wav")
        (command.folder / "rttm").mkdir(exist_ok=True)
        write_rttm(reference, command.folder / f"rttm/{name}.rttm")
    return command.folder


def test_from_files_to_a_model(command: Command, files: Path) -> None:
    """A table before and after on what was held out, a model, and the same again after a stop."""
    words = ("finetune", "diarization", "--audio", "audio", "--rttm", "rttm", "--out", "work")
    answer = command(*words, "--steps", "1", "--held-out", "0.3")
    assert answer.returncode == 0, answer.stderr
    lines = answer.stdout.splitlines()
    rows = {line.split("  ")[1]: line for line in lines if line.startswith("  ")}
    assert {"before", "thresholds alone", "after"} <= rows.keys()
    assert "DER %, collar 0 s" in answer.stdout
    assert "DER %, collar 0.25 s" in answer.stdout
    assert lines[-1] == "work/model: done."

    parts = {
        part: {each.name for each in read_conversations(files / f"work/prepared/{part}.jsonl.gz")}
        for part in ("train", "dev", "held_out")
    }
    assert {part: len(names) for part, names in parts.items()} == {
        "train": 2, "dev": 3, "held_out": 1
    }  # fmt: skip
    assert set.union(*parts.values()) == set(NAMES)
    assert all(name in answer.stderr for name in parts["held_out"])

    results = json.loads((files / "work/results.json").read_text())
    der = results["figures"]["after"]["der, collar 0.25"]
    assert f"{100 * der:.2f}" in rows["after"]
    card = read_card(files / "work/model")
    assert card.name == "tiny-tuned"
    assert card.training.data[-1].name.startswith("2 recordings")
    assert command("diarize", "audio/a.wav", "--model", "work/model").returncode == 0

    again = command(*words, "--steps", "1", "--held-out", "0.3")
    assert again.returncode == 0, again.stderr
    assert again.stdout == answer.stdout
    with pytest.raises(SettingsError, match="other options; name another folder"):
        finetune_diarization(files / "audio", files / "rttm", files / "work", steps=2)


def test_files_that_do_not_belong_together(command: Command, files: Path) -> None:
    """Each mistake is one line that names the files."""

    def refused(*says: str) -> None:
        with pytest.raises(SettingsError) as caught:
            finetune_diarization(files / "audio", files / "rttm", files / "work")
        assert all(part in str(caught.value) for part in says), caught.value
        assert "\n" not in str(caught.value)
        assert not (files / "work/training").exists()

    rttm = files / "rttm/a.rttm"
    text = rttm.read_text()
    rttm.unlink()
    (files / "rttm/z.rttm").write_text(text)
    refused("rttm for a;", "audio for z:")
    (files / "rttm/z.rttm").unlink()
    rttm.write_text(text.replace(" a ", " other ", 1))
    refused("a.rttm: names other", "is called a")
    rttm.write_text("SPEAKER a 1 50.0 1.0 <NA> <NA> x <NA> <NA>\n")
    refused("audio/a.wav: ends at 10.0 s", "51.0 s")
    rttm.write_text(text)
    for name in ("a", "bb"):
        (files / f"rttm/{name}.rttm").unlink()
        (files / f"audio/{name}.wav").unlink()
    words = ("--audio", "audio", "--rttm", "rttm", "--out", "work")
    says = "audio: 4 recordings; it takes 6"
    assert_refused(command("finetune", "diarization", *words), says)
