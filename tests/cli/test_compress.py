"""`wavlm-meeting compress`, as typed: the embedded model made smaller, and used."""

import inspect
from pathlib import Path

import pytest
import soundfile

from commands import Command, assert_refused
from wavlm_meeting.checkpoints.card import read_card
from wavlm_meeting.cli import compress as compress_command

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from wavlm_meeting.training.compression import compress

SETTINGS = """
[pruning]
steps = 4
[recovery]
steps = 2
[batches]
utterances = 2
longest_s = 1.5
[trainer]
workers = 0
"""


def test_from_tiny_to_a_smaller_one(command: Command, conversation: Path) -> None:
    """A fifth of the encoder is left, hidden states are compared, and the result diarizes."""
    folder = command.folder / "audio"
    folder.mkdir()
    samples, rate = soundfile.read(conversation)
    for number in range(3):
        piece = samples[number * 5 * rate : (number + 1) * 5 * rate]
        soundfile.write(folder / f"{number}.wav", piece, rate)
    (command.folder / "brief.toml").write_text(SETTINGS)
    words = ("compress", "--teacher", "tiny", "--data", "audio", "--out", "work")
    answer = command(*words, "--target-size", "40%", "--settings", "brief.toml")
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.splitlines()[-1] == "work/model: done."
    assert "asked for were 40.0%" in answer.stderr
    assert "recovered" in answer.stdout

    card = read_card(command.folder / "work/model")
    share = card.figures["parameters of the encoder"] / card.figures["parameters of the teacher's"]
    assert abs(share - 0.4) < 0.02
    assert answer.stdout.count("hidden state") == card.encoder.layers + 1
    assert "diarization" in card.heads
    used = command("diarize", str(conversation), "--model", "work/model")
    assert used.returncode == 0, used.stderr


def test_command_and_function_agree() -> None:
    """They have the same parameters with the same defaults, but for showing."""
    typed, called = (
        {name: item.default for name, item in inspect.signature(twin).parameters.items()}
        for twin in (compress_command.compress, compress)
    )
    assert {**typed, "report": None} == {**called, "quiet": False}


def test_mistakes(command: Command) -> None:
    """Each is one line on standard error, status 2, and nothing is made."""
    (command.folder / "audio").mkdir()
    words = ("compress", "--teacher", "tiny", "--data", "audio", "--out", "work")
    assert_refused(command(*words, "--target-size", "150%"), "target size is '150%'", "20%")
    (command.folder / "wrong.toml").write_text("[pruning]\nstep = 4\n")
    wrong = command(*words, "--target-size", "20%", "--settings", "wrong.toml")
    assert_refused(wrong, "did you mean 'steps'?")
    assert not (command.folder / "work").exists()
