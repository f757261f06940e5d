"""The register from the command line: enroll, identify, voices, diarize --identify, as typed."""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import Answer, Command, assert_refused
from known_voices import MAN, STRANGER, WOMAN, recordings
from wavlm_meeting.audio import read_audio
from wavlm_meeting.checkpoints import load_model
from wavlm_meeting.checkpoints.bundle import write_bundle
from wavlm_meeting.formats import read_json, read_rttm
from wavlm_meeting.verification.voices import Register

RATE = 16_000


@pytest.fixture
def register(known: Path, tmp_path: Path) -> Path:
    """Give a copy of it to change."""
    return Path(shutil.copy(known, tmp_path / "voices.db"))


def names(path: Path) -> list[str]:
    """Return the names in a register."""
    with Register(path) as opened:
        return [voice.name for voice in opened.voices()]


def test_enroll_and_identify(command: Command, shared_dir: Path, calibration: Path) -> None:
    """Who is enrolled is identified in the user's own register, and a stranger is unknown."""
    own = {"WAVLM_MEETING_VOICES": str(command.folder / "own" / "voices.db")}
    files = recordings(shared_dir, WOMAN, 3)
    answer = command("enroll", "Anna Bell", *files, **own)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.startswith("Anna Bell: 3 recordings, ")
    tried = [recordings(shared_dir, who, 1, 7)[0] for who in (WOMAN, STRANGER)]
    words = ["identify", *tried, "gone.wav", "--backend", calibration]
    answer = command(*words, **own)
    assert answer.returncode == 2
    assert answer.stderr == "error: gone.wav: no such file; check the path.\n"
    rows = [line for line in answer.stdout.splitlines() if ".opus" in line]
    assert "Anna Bell" in rows[0]
    assert "unknown" in rows[1]
    found = json.loads(command(*words, "--json", **own).stdout)
    assert [each["name"] for each in found] == ["Anna Bell", None]
    assert [each["file"] for each in found] == [str(file) for file in tried]


def test_voices(command: Command, register: Path) -> None:
    """Voices are listed, shown, renamed and forgotten."""
    there = ["--register", register]
    listed = json.loads(command("voices", "list", "--json", *there).stdout)
    assert [(each["name"], each["recordings"]) for each in listed] == [("Anna Bell", 3), ("Max", 3)]
    assert listed[0]["models"] == ["tiny"]
    shown = json.loads(command("voices", "show", "anna bell", "--json", *there).stdout)
    assert shown["name"] == "Anna Bell"
    assert len(shown["takes"]) == 3
    assert command("voices", "rename", "Max", "Moritz", *there).returncode == 0
    assert command("voices", "forget", "Anna Bell", *there).returncode == 0
    assert names(register) == ["Moritz"]
    answer = command("voices", "list", *there)
    assert (answer.returncode, answer.stderr) == (0, "")
    rows = [line.split() for line in answer.stdout.splitlines()]
    assert [row[:2] for row in rows if "tiny" in row] == [["Moritz", "3"]]


def test_export_and_import(command: Command, register: Path) -> None:
    """Voices go from one register to another; a name with other recordings is refused."""
    assert command("voices", "export", "all.json", "--register", register).returncode == 0
    answer = command("voices", "import", "all.json", "--register", "new/other.db")
    assert answer.returncode == 0, answer.stderr
    assert names(command.folder / "new/other.db") == ["Anna Bell", "Max"]
    with Register(command.folder / "third.db", create=True) as third, Register(register) as opened:
        third.enroll("Anna Bell", opened.voice("Max").takes)
    answer = command("voices", "import", "all.json", "--register", "third.db")
    assert_refused(answer, "Anna Bell", "--same-names")
    assert names(command.folder / "third.db") == ["Anna Bell"]


def test_names_in_rttm_and_json(
    command: Command, register: Path, shared_dir: Path, calibration: Path
) -> None:
    """`diarize --identify` names who is known; RTTM has `_` where a name has a space."""
    parts = [
        np.concatenate([read_audio(file) for file in recordings(shared_dir, person, 2, 6)])
        for person in (WOMAN, MAN)
    ]
    soundfile.write(command.folder / "call.wav", np.concatenate(parts), RATE)
    words = ["diarize", "call.wav", "--format", "json", "--identify", "--false-accepts", "0.02"]
    answer = command(*words, "--register", register, "--backend", calibration)
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "Anna Bell" in answer.stdout
    document = read_json(command.folder / "call.json")
    assert {turn.speaker for turn in document.turns} == {"Anna Bell", "Max"}
    annotation = read_rttm(command.folder / "call.rttm")["call"]
    assert set(annotation.labels()) == {"Anna_Bell", "Max"}
    middle = len(parts[0]) / RATE
    hers = [segment for segment, _, name in annotation.itertracks(yield_label=True) if "A" in name]
    assert max(segment.end for segment in hers) < middle + 1


def other_model(folder: Path) -> Path:
    """Write a model that differs from `tiny` in a single number."""
    bundle = load_model("tiny")
    state = {part: dict(tensors) for part, tensors in bundle.state.items()}
    weight = next(iter(state["encoder"]))
    state["encoder"][weight] = state["encoder"][weight] + 1e-6
    write_bundle(folder, state, bundle.card.model_copy(update={"weights": None}))
    return folder


def refuse(command: Command, register: Path, *words: str | Path) -> Answer:
    """Run a command that ought to be refused, and check that it leaves the register as it was."""
    before = register.read_bytes()
    answer = command(*words, "--register", register)
    assert register.read_bytes() == before
    return answer


def test_recordings_that_will_not_do(
    command: Command, register: Path, shared_dir: Path, silence: Path, conversation: Path
) -> None:
    """Missing, silent, too short, two people: one line each, and nothing is enrolled by half."""
    good = recordings(shared_dir, STRANGER, 1)[0]
    samples = read_audio(good)
    loud = int(np.argmax(np.abs(samples)))
    soundfile.write(command.folder / "short.wav", samples[loud : loud + RATE // 5], RATE)
    for bad, says in (
        ("gone.wav", "no such file"),
        (silence, "silent"),
        ("short.wav", "s of speech"),
        (conversation, "more than one voice"),
    ):
        answer = refuse(command, register, "enroll", "Eva", good, bad)
        assert_refused(answer, str(bad), says)


def test_clipped_is_warned_of(command: Command, register: Path, shared_dir: Path) -> None:
    """A clipped recording is enrolled with a warning of one line."""
    samples = read_audio(recordings(shared_dir, STRANGER, 1)[0])
    loud = np.clip(8 * samples / np.abs(samples).max(), -1, 1)
    soundfile.write(command.folder / "loud.wav", loud, RATE)
    answer = command("enroll", "Eva", "loud.wav", "--register", register)
    assert answer.returncode == 0
    (line,) = answer.stderr.splitlines()
    assert line.startswith("warning: loud.wav: ")
    assert names(register) == ["Anna Bell", "Eva", "Max"]


def test_names_that_will_not_do(command: Command, register: Path) -> None:
    """A name of somebody else and one that nobody has are a line each, with the nearest name."""
    for words, says in (
        (["voices", "rename", "Max", "anna_bell"], ["anna_bell", "choose another"]),
        (["voices", "forget", "Ana Bell"], ["Ana Bell", "did you mean 'Anna Bell'"]),
    ):
        assert_refused(refuse(command, register, *words), *says)


def test_registers_that_will_not_do(command: Command, register: Path, shared_dir: Path) -> None:
    """None, an empty one, a text, a newer one: one line with its cure."""
    (command.folder / "notes.db").write_text("Who said what?\n" * 50)
    newer = shutil.copy(register, command.folder / "newer.db")
    database = sqlite3.connect(newer)
    database.execute("PRAGMA user_version = 99")
    database.close()
    with Register(command.folder / "nobody.db", create=True):
        pass
    file = recordings(shared_dir, WOMAN, 1)[0]
    for words, bad, says in (
        (["identify", file], "gone.db", ["no register", "enroll"]),
        (["identify", file], "nobody.db", ["no voices yet", "enroll"]),
        (["voices", "list"], "notes.db", ["not a register"]),
        (["voices", "list"], "newer.db", ["version 99", "update"]),
    ):
        assert_refused(command(*words, "--register", bad), bad, *says)
    assert not (command.folder / "gone.db").exists()


def test_models_do_not_mix(
    command: Command, register: Path, shared_dir: Path, tmp_path: Path
) -> None:
    """Voices of another model are refused with both names, and enrolling with it mixes nothing."""
    model = other_model(tmp_path / "other")
    file = recordings(shared_dir, WOMAN, 1, 7)[0]
    words = ["--model", model, "--register", register]
    assert_refused(
        command("identify", file, "--threshold", "0.5", *words), "tiny", "different models"
    )
    answer = command("enroll", "Anna Bell", file, *words)
    assert answer.returncode == 0, answer.stderr
    # Nothing tells strangers from her without a calibration: the line says what to add.
    assert_refused(command("identify", file, *words), "no calibration", "--threshold", "--backend")
    with Register(register) as opened:
        assert [len(voice.takes) for voice in opened.voices()] == [4, 3]
