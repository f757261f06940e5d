"""Mistakes people make on a command line: one line that names the cure, exit status 2."""

import subprocess
from pathlib import Path

import pytest

from commands import COMMAND, Command, assert_refused

MISTYPED = {
    "no such file": (["gone.wav"], ["gone.wav", "no such file"]),
    "text": (["notes.wav"], ["notes.wav", "text file"]),
    "URL": (["https://example.org/call.wav"], ["https://example.org/call.wav", "download it"]),
    "folder without audio": (["empty"], ["empty", "no audio"]),
    "no speakers": (["x.wav", "--num-speakers", "0"], ["--num-speakers", "1"]),
    "word for a count": (["x.wav", "--min-speakers", "two"], ["--min-speakers", "integer"]),
    "count and bound": (
        ["x.wav", "--num-speakers", "2", "--max-speakers", "3"],
        ["--num-speakers", "leave out"],
    ),
    "crossed bounds": (
        ["x.wav", "--min-speakers", "4", "--max-speakers", "2"],
        ["--min-speakers 4", "--max-speakers 2"],
    ),
    "channel zero": (["x.wav", "--channel", "0"], ["--channel", "1"]),
    "format": (["x.wav", "--format", "jsn"], ["jsn", "did you mean 'json'"]),
    "option": (["x.wav", "--num-speaker", "2"], ["--num-speaker"]),
}


@pytest.fixture
def here(command: Command) -> Path:
    """Give the command's folder, with a text file and an empty folder in it."""
    (command.folder / "notes.wav").write_text("Who said what?\n")
    (command.folder / "empty").mkdir()
    return command.folder


@pytest.mark.parametrize("mistake", MISTYPED)
def test_diarize_refuses(mistake: str, here: Path, command: Command) -> None:
    """Each mistake in `diarize` is one line, costs no model loading and writes nothing."""
    words, says = MISTYPED[mistake]
    before = sorted(here.rglob("*"))
    assert_refused(command("diarize", *words), *says)
    assert sorted(here.rglob("*")) == before


def test_out_that_is_a_file(command: Command, silence: Path) -> None:
    """`--out` that names a file is refused, and the file keeps its content."""
    (command.folder / "report").write_text("mine")
    assert_refused(command("diarize", silence, "--out", "report"), "report", "folder")
    assert (command.folder / "report").read_text() == "mine"


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [("--model", "tinny", "tinny"), ("--device", "gpu", "'gpu'"), ("--device", "cuda:99", "cuda")],
)
def test_what_is_not_there(
    option: str, value: str, says: str, command: Command, silence: Path
) -> None:
    """A model or device that does not exist is one line, and nothing is written."""
    answer = command("diarize", silence, option, value, HF_HUB_OFFLINE="1")
    assert_refused(answer, says)
    assert not list(command.folder.iterdir())


def test_clashing_names(command: Command, tmp_path: Path, silence: Path) -> None:
    """Two recordings whose results would have one name are refused before any is analysed."""
    other = tmp_path / f"{silence.stem}.flac"
    other.write_bytes(silence.read_bytes())
    assert_refused(command("diarize", silence, other), str(silence), str(other), "--out")
    assert not list(command.folder.iterdir())


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("SPEAKER call 1 zero 2.0 <NA> <NA> anna <NA> <NA>\n", ":1"),
        ("SPEAKER call 1 0.0 2.0 <NA> <NA> anna <NA> <NA>\nSPEAKER call\n", ":2"),
        ("start,end,speaker\n", ":1"),
    ],
)
def test_score_names_the_faulty_line(text: str, says: str, command: Command) -> None:
    """A bad RTTM is refused with its name and the number of the faulty line."""
    (command.folder / "bad.rttm").write_text(text)
    good = "SPEAKER call 1 0.0 2.0 <NA> <NA> anna <NA> <NA>\n"
    (command.folder / "good.rttm").write_text(good)
    answer = command("score", "diarization", "good.rttm", "bad.rttm")
    assert_refused(answer, f"bad.rttm{says}")


@pytest.mark.parametrize(
    "words",
    [
        ["diarise", "x.wav"],
        ["--verbose", "diarize", "x.wav"],
        ["score", "diarization", "only-one.rttm"],
        ["score", "diarization", "a.rttm", "b.rttm", "--collar", "-1"],
        ["score", "diarization", "gone.rttm", "gone-too.rttm"],
        ["report", "timeline", "gone.rttm", "--out", "picture.png"],
        ["report", "timeline", "gone.rttm", "--out", "picture.doc"],
        ["models", "show", "no-such-model"],
        ["doctor", "--device", "abacus"],
    ],
    ids=" ".join,
)
def test_other_commands_refuse(words: list[str], command: Command) -> None:
    """Every command answers a mistake with one line and status 2."""
    assert_refused(command(*words, HF_HUB_OFFLINE="1"))


@pytest.mark.parametrize(
    "words", [[], ["diarize"], ["score"], ["report"], ["models"]], ids=" ".join
)
def test_bare_commands_show_their_help(words: list[str], command: Command) -> None:
    """A command without its arguments answers with its help, not with an error."""
    answer = command(*words)
    assert "Usage: wavlm-meeting" in answer.stdout + answer.stderr
    assert "error:" not in answer.stderr


def test_nobody_reads_on() -> None:
    """A reader that leaves early, as `head` does, is no bug of ours: nothing is said."""
    words = [COMMAND, "models", "list"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout is not None
        assert running.stderr is not None
        running.stdout.close()
        said = running.stderr.read().decode()
    assert "bug" not in said


def test_an_interrupt_in_other_words(here: Path, command: Command) -> None:
    """A module that is interrupted while it loads may call that an import that failed."""
    (here / "soundfile.py").write_text(
        "try:\n    raise KeyboardInterrupt\n"
        "except KeyboardInterrupt as stopped:\n    raise ImportError('initialization failed')\n"
    )
    answer = command("diarize", "notes.wav", PYTHONPATH=str(here))
    assert answer.returncode == 130
    assert answer.stderr == "error: interrupted; files already written are complete.\n"
