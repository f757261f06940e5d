"""The register of voices: nothing by half, nothing lost, nobody mixed up."""

import os
import signal
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.verification import schema, voices
from wavlm_meeting.verification.exchange import read_voices, write_voices
from wavlm_meeting.verification.voices import Model, Register, Take, Voice, default_place

SMALL = Model("a" * 64, "small", 8)
LARGE = Model("b" * 64, "large", 16)

TAKES = """
import sys
import numpy as np
from wavlm_meeting.verification.voices import Model, Register, Take

MODEL = Model("d" * 64, "other", 256)

def takes(seed, count):
    rng = np.random.default_rng(seed)
    rows = rng.standard_normal((count, 256)).astype(np.float32)
    return [Take(f"{seed}-{n}.wav", MODEL, row, 3.0, "2026-01-01T00:00:00+00:00")
            for n, row in enumerate(rows)]
"""
"""What the processes of some tests begin with."""

ENROLLS = """
seed = int(sys.argv[2])
for number in range(20):
    with Register(sys.argv[1], create=True) as register:
        register.enroll(f"person {seed} {number % 5}", takes(100 * seed + number, 2))
"""

DIES = """
with Register(sys.argv[1]) as register, register._change():
    for number in range(40):
        register._add(Voice(f"stranger {number}", tuple(takes(number, 100))))
    print("amid", flush=True)
    sys.stdin.read()
"""


def take(seed: int, model: Model = SMALL, file: str = "") -> Take:
    """Make a take that no other seed has."""
    embedding = np.random.default_rng(seed).standard_normal(model.size).astype(np.float32)
    return Take(file or f"{seed}.wav", model, embedding, 2.5 + seed, "2026-01-02T03:04:05+00:00")


def assert_equal(found: list[Voice], expected: list[Voice]) -> None:
    """Check that voices are the same in everything, embeddings to the bit."""
    assert [voice.name for voice in found] == [voice.name for voice in expected]
    for one, other in zip(found, expected, strict=True):
        assert len(one.takes) == len(other.takes)
        for mine, theirs in zip(one.takes, other.takes, strict=True):
            assert mine.embedding.tobytes() == theirs.embedding.tobytes()
            facts = [
                (each.file, each.model, each.speech_s, each.created) for each in (mine, theirs)
            ]
            assert facts[0] == facts[1]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """Give the path of a register with two voices, one of them heard by two models."""
    path = tmp_path / "voices.db"
    with Register(path, create=True) as register:
        register.enroll("Zoë", [take(1)])
        register.enroll("Anna Bell", [take(2), take(3, LARGE)])
    return path


def test_gives_back_what_was_enrolled(place: Path) -> None:
    """Names, files, models, times and embeddings come back, voices in the order of their names."""
    expected = [Voice("Anna Bell", (take(2), take(3, LARGE))), Voice("Zoë", (take(1),))]
    with Register(place) as register:
        assert_equal(register.voices(), expected)
        assert_equal([register.voice("anna_bell")], expected[:1])


def test_models_never_meet(place: Path) -> None:
    """Asked for a model, the register gives what that model heard, and nothing else."""
    with Register(place) as register:
        assert_equal(register.voices(LARGE.sha256), [Voice("Anna Bell", (take(3, LARGE),))])
        assert register.voices("c" * 64) == []
        with pytest.raises(SettingsError, match="8 numbers"):
            register.enroll("Max", [take(4, Model(LARGE.sha256, "large", 8))])


def test_takes_are_added_once(place: Path) -> None:
    """A voice gets more takes, under any spelling of its name; the same take again is no more."""
    with Register(place) as register:
        register.enroll("  anna   BELL ", [take(2), take(5)])
        voice = register.voice("Anna Bell")
    assert_equal([voice], [Voice("Anna Bell", (take(2), take(3, LARGE), take(5)))])


def test_a_take_has_one_owner_and_nothing_is_half_enrolled(place: Path) -> None:
    """Somebody else's recording is refused with their name, and the takes before it go as well."""
    with Register(place) as register:
        before = register.voices()
        with pytest.raises(SettingsError, match="Zoë"):
            register.enroll("Max", [take(6), take(1)])
        assert_equal(register.voices(), before)


@pytest.mark.parametrize("name", ["", "  ", "SPEAKER_00", "speaker 7", "a\x00b", "tab\x1b", "a;;b"])
def test_refuses_what_is_no_name(name: str, place: Path) -> None:
    """Empty names, control characters and those of unknown speakers cannot be enrolled."""
    with Register(place) as register, pytest.raises(SettingsError, match="name"):
        register.enroll(name, [take(7)])


def test_rename(place: Path) -> None:
    """A voice keeps its takes under its new name; a name of somebody else is refused."""
    with Register(place) as register:
        register.rename("zoë", "Zoe")
        register.rename("Zoe", "ZOE")  # another spelling is no clash
        assert_equal(register.voices()[1:], [Voice("ZOE", (take(1),))])
        with pytest.raises(SettingsError, match="Anna Bell"):
            register.rename("ZOE", "Anna Bell")
        with pytest.raises(SettingsError, match="did you mean 'ZOE'"):
            register.rename("zoee", "Max")


def test_forget_leaves_no_trace(place: Path) -> None:
    """A forgotten voice's name, files and embeddings are no longer in the file's bytes."""
    secret = take(2).embedding.tobytes()
    assert secret in place.read_bytes()
    with Register(place) as register:
        register.forget("Anna Bell")
        assert_equal(register.voices(), [Voice("Zoë", (take(1),))])
    left = place.read_bytes()
    assert secret not in left
    assert b"Anna" not in left
    assert LARGE.sha256.encode() not in left


def test_export_and_import_are_exact(place: Path, tmp_path: Path) -> None:
    """What is exported and imported elsewhere is the same to the bit, and again adds nothing."""
    exported = tmp_path / "voices.json"
    with Register(place) as register:
        everybody = register.voices()
    write_voices(everybody, exported)
    assert_equal(read_voices(exported), everybody)
    with Register(tmp_path / "other.db", create=True) as other:
        assert other.merge(read_voices(exported)) == 3
        assert_equal(other.voices(), everybody)
        assert other.merge(read_voices(exported)) == 0
        assert_equal(other.voices(), everybody)


def test_import_names_clashes(place: Path) -> None:
    """One name with other recordings may be two people: all are named, and nothing is added."""
    others = [
        Voice("Max", (take(8),)),
        Voice("zoë", (take(9),)),
        Voice("Anna_Bell", (take(2), take(10))),  # has a take in common: the same person
    ]
    with Register(place) as register:
        before = register.voices()
        with pytest.raises(SettingsError, match=r"recordings: zoë;.*--same-names"):
            register.merge(others)
        assert_equal(register.voices(), before)
        assert register.merge(others, same_names=True) == 3
        assert len(register.voice("Zoë").takes) == 2
        assert len(register.voice("Anna Bell").takes) == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (('"speech_s": 3.5', '"speech_s": "long"'), "speech_s"),
        (('"speech_s": 3.5', '"speech": 3.5'), "speech"),
        (('"name": "Zoë"', '"name": "anna bell"'), "twice"),
        (('"name": "Zoë"', '"name": "SPEAKER_01"'), "SPEAKER_01"),
        (("wavlm-meeting voices 1", "wavlm-meeting voices 2"), "voices 1"),
        (("2026-01-02", "yesterday"), "created"),
        (("a" * 64, "a" * 63), "model"),
        (("{", "["), "JSON"),
    ],
)
def test_import_refuses_what_was_not_exported(
    change: tuple[str, str], says: str, place: Path, tmp_path: Path
) -> None:
    """A file that is damaged or foreign is refused with the faulty entry."""
    exported = tmp_path / "voices.json"
    with Register(place) as register:
        write_voices(register.voices(), exported)
    text = exported.read_text()
    assert change[0] in text
    exported.write_text(text.replace(*change))
    with pytest.raises(FormatError, match=says):
        read_voices(exported)


def test_two_writers(tmp_path: Path) -> None:
    """Two processes that begin a register together and enroll at once: all of both is there."""
    path = tmp_path / "new" / "voices.db"
    words = [sys.executable, "-P", "-c", TAKES + ENROLLS, path]
    processes = [subprocess.Popen([*words, str(seed)]) for seed in (1, 2)]
    assert [process.wait(120) for process in processes] == [0, 0]
    with Register(path) as register:
        found = register.voices()
    assert len(found) == 10
    assert [len(voice.takes) for voice in found] == [8] * 10


def test_killed_amid_a_change(place: Path) -> None:
    """Of a process that is killed while it writes, nothing stays, and the next one is not kept."""
    code = TAKES + "from wavlm_meeting.verification.voices import Voice\n" + DIES
    with Register(place) as register:
        before = register.voices()
    words = [sys.executable, "-P", "-c", code, place]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"amid\n"
        assert place.with_name("voices.db-journal").stat().st_size, "nothing is being written"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    with Register(place) as register:
        assert_equal(register.voices(), before)
        register.enroll("Max", [take(11)])
        assert len(register.voices()) == 3


def test_waits_and_then_says_why(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A register that somebody else keeps locked is one line, and its voices can be read."""
    monkeypatch.setattr(voices, "WAIT_S", 0.1)
    with Register(place) as one, Register(place) as other, one._change():
        assert len(other.voices()) == 2
        with pytest.raises(SettingsError, match="another process"):
            other.enroll("Max", [take(12)])


def test_only_its_owner_reads_it(place: Path, tmp_path: Path) -> None:
    """Register and export are readable by the user alone."""
    with Register(place) as register:
        write_voices(register.voices(), tmp_path / "voices.json")
    for path in (place, tmp_path / "voices.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_older_registers_become_todays(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A register of an older version is brought up to date; a newer one is refused as it is."""
    step = ("ALTER TABLE voice ADD COLUMN note TEXT NOT NULL DEFAULT ''",)
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, step))
        with Register(place) as register:
            assert len(register.voices()) == 2
            register.enroll("Max", [take(13)])
    database = sqlite3.connect(place)
    assert database.execute("SELECT count(note) FROM voice").fetchone() == (3,)
    database.close()
    before = place.read_bytes()
    with pytest.raises(FormatError, match=r"version 2.*update"):
        Register(place)
    assert place.read_bytes() == before


def test_a_failed_migration_changes_nothing(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A migration that breaks off leaves the register at its version, whole."""
    steps = ("ALTER TABLE voice ADD COLUMN note TEXT", "SELECT nothing FROM nowhere")
    with monkeypatch.context() as newer:
        newer.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, steps))
        with pytest.raises(sqlite3.OperationalError):
            Register(place)
    with Register(place) as register:
        assert len(register.voices()) == 2


def test_refuses_what_is_no_register(tmp_path: Path, place: Path) -> None:
    """A missing file, a text, a folder, another program's database and a torn one: a line each."""
    with pytest.raises(SettingsError, match=r"gone.db: no register.*enroll"):
        Register(tmp_path / "gone.db")
    assert not (tmp_path / "gone.db").exists()
    text = tmp_path / "notes.txt"
    text.write_text("Who said what? " * 100)
    with pytest.raises(FormatError, match=r"notes.txt: not a register"):
        Register(text, create=True)
    assert text.read_text() == "Who said what? " * 100
    with pytest.raises(SettingsError, match="cannot be opened"):
        Register(tmp_path)
    foreign = tmp_path / "foreign.db"
    database = sqlite3.connect(foreign)
    database.execute("CREATE TABLE voice (name TEXT)")
    database.close()
    with pytest.raises(FormatError, match=r"foreign.db: not a register"):
        Register(foreign)
    torn = bytearray(place.read_bytes())
    torn[4096 : len(torn) - 4096] = os.urandom(len(torn) - 8192)
    place.write_bytes(torn)
    with pytest.raises(FormatError, match="damaged"), Register(place) as register:
        register.voices()


def test_default_place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The register's place is named by its variable, else by XDG's, else it is in the home."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv(voices.PLACE, raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    assert default_place() == tmp_path / ".local/share/wavlm-meeting/voices.db"
    monkeypatch.setenv("XDG_DATA_HOME", "relative")  # to be ignored, says the specification
    assert default_place() == tmp_path / ".local/share/wavlm-meeting/voices.db"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    assert default_place() == tmp_path / "data/wavlm-meeting/voices.db"
    monkeypatch.setenv(voices.PLACE, "mine.db")
    assert default_place() == Path("mine.db")
