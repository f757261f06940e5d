"""`wavlm-meeting score separation`, as typed."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from commands import Command, assert_refused

RATE = 16_000
SECONDS = 4


@pytest.fixture
def talkers() -> NDArray[np.float64]:
    """Give two voices of a kind: noise that comes and goes, one high and one low."""
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((2, SECONDS * RATE + 1))
    shaped = np.stack([np.diff(noise[0]), noise[1, 1:] + noise[1, :-1]])
    syllables = np.sin(2 * np.pi * np.array([[2.0], [3.0]]) * np.arange(SECONDS * RATE) / RATE)
    return 0.1 * shaped * np.maximum(syllables, 0.01)


def write(folder: Path, signals: NDArray[np.float64], name: str = "call", rate: int = RATE) -> None:
    """Write signals as <name>_1.wav, <name>_2.wav; of one, as <name>.wav."""
    folder.mkdir(exist_ok=True)
    if signals.ndim == 1:
        soundfile.write(folder / f"{name}.wav", signals, rate, "FLOAT")
        return
    for number, signal in enumerate(signals, 1):
        soundfile.write(folder / f"{name}_{number}.wav", signal, rate, "FLOAT")


@pytest.fixture
def here(command: Command, talkers: NDArray[np.float64]) -> Path:
    """Give the command's folder: references, a mixture, and tracks with 20 dB of the other one."""
    write(command.folder / "references", talkers)
    write(command.folder / "mixtures", talkers.sum(axis=0))
    write(command.folder / "tracks", talkers[::-1] + 0.1 * talkers)
    return command.folder


def test_tracks_against_references(here: Path, command: Command) -> None:
    """JSON holds each talker's figures and track, and the table the same means."""
    words = ("score", "separation", "tracks", "--reference", "references", "--mixture", "mixtures")
    found = json.loads(command(*words, "--json").stdout)
    call = found["recordings"]["call"]
    assert call["tracks"] == [2, 1]
    energies = [
        float((soundfile.read(here / f"references/call_{n}.wav")[0] ** 2).sum()) for n in (1, 2)
    ]
    difference_db = 10 * np.log10(energies[0] / energies[1])
    # The two hardly correlate, so that a tenth of the other one's amplitude is 20 dB below it.
    assert call["sdr"] == pytest.approx([20 + difference_db, 20 - difference_db], abs=0.2)
    assert call["si_sdr_improvement"] == pytest.approx([20, 20], abs=0.5)
    assert found["mean"]["sdr"] == pytest.approx(np.mean(call["sdr"]), abs=1e-3)
    table = command(*words)
    assert table.stderr == ""
    row = next(line.split() for line in table.stdout.splitlines() if "call" in line)
    assert float(row[1]) == pytest.approx(found["mean"]["si_sdr"], abs=0.01)
    assert float(row[2]) == pytest.approx(found["mean"]["si_sdr_improvement"], abs=0.01)
    assert row[-1] == "2"


@pytest.mark.skipif(
    not (find_spec("pesq") and find_spec("pystoi")), reason="PESQ and STOI need the extra 'train'"
)
def test_pesq_and_stoi_are_columns(here: Path, command: Command) -> None:
    """Where they are installed, PESQ and STOI stand in the table and are in JSON."""
    assert here.is_dir()
    words = ("score", "separation", "tracks", "--reference", "references")
    answer = command(*words)
    assert "PESQ" in answer.stdout
    mean = json.loads(command(*words, "--json").stdout)["mean"]
    assert 0.5 < mean["stoi"] <= 1
    assert 1 <= mean["pesq"] <= 4.7
    assert "si_sdr_improvement" not in mean


def test_without_their_packages_a_note_says_how(here: Path, command: Command) -> None:
    """Where PESQ and STOI are not installed, all else is shown, and a note says what to do."""
    (here / "without").mkdir()
    (here / "without/sitecustomize.py").write_text(
        "import importlib.util as util\n"
        "find = util.find_spec\n"
        "util.find_spec = lambda name, package=None: (\n"
        "    None if name in {'pesq', 'pystoi'} else find(name, package)\n"
        ")\n"
    )
    words = ("score", "separation", "tracks", "--reference", "references")
    answer = command(*words, PYTHONPATH=str(here / "without"))
    assert answer.returncode == 0, answer
    assert "SI-SDR" in answer.stdout
    assert "PESQ" not in answer.stdout
    assert answer.stderr == "note: no PESQ and STOI; for them: pip install pesq pystoi\n"


def test_leakage_of_real_recordings(here: Path, command: Command) -> None:
    """With an RTTM alone, the share of the wrong track is counted while one person speaks."""
    signals = np.zeros((2, 4 * RATE))
    signals[0, : 2 * RATE], signals[1, : 2 * RATE] = 0.5, 0.05
    signals[1, 2 * RATE :], signals[0, 2 * RATE :] = 0.5, 0.05
    for name in ("monday", "tuesday"):
        write(here / "real", signals, name)
    turns = "".join(
        f"SPEAKER {name} 1 {start} 2 <NA> <NA> {who} <NA> <NA>\n"
        for name in ("monday", "tuesday")
        for start, who in ((0, "anna"), (2, "ben"))
    )
    (here / "turns.rttm").write_text(turns)
    words = ("score", "separation", "real", "--rttm", "turns.rttm")
    found = json.loads(command(*words, "--json").stdout)
    expected = {"leakage_db": round(10 * np.log10(0.01 / 1.01), 4), "lone_s": 4.0}
    assert found["leakage"] == {"monday": expected, "tuesday": expected}
    assert found["total_leakage"] == {**expected, "lone_s": 8.0}
    rows = [line.split() for line in command(*words).stdout.splitlines()]
    assert ["total", "-20.04", "8.000"] in rows


def test_names_within_names(here: Path, command: Command, talkers: NDArray[np.float64]) -> None:
    """Tracks belong to the longest name that fits, and what has no reference is named."""
    write(here / "tracks", talkers, "call_b")
    write(here / "references", talkers, "call_b")
    write(here / "tracks", talkers, "other")
    answer = command("score", "separation", "tracks", "--reference", "references")
    rows = {line.split()[0]: line.split() for line in answer.stdout.splitlines() if line.split()}
    assert rows["call_b"][1] == "100.00"
    assert float(rows["call"][1]) < 40
    assert rows["mean"][-1] == "4"
    assert "not in the reference, not scored: other_1.wav, other_2.wav." in answer.stderr
    answer = command("score", "separation", "tracks", "--reference", "references", "--json")
    assert json.loads(answer.stdout)["unscored"] == ["other_1.wav", "other_2.wav"]


MISTAKES = {
    "nothing to compare with": ([], ["--reference DIR", "--rttm RTTM"]),
    "mixture alone": (["--mixture", "mixtures", "--rttm", "x.rttm"], ["--reference DIR"]),
    "no such folder": (["--reference", "gone"], ["gone", "no such folder"]),
    "no mixture of it": (
        ["--reference", "references", "--mixture", "references"],
        ["references", "'call'", "call.wav"],
    ),
    "names": (["--reference", "mixtures"], ["mixtures/call.wav", "call it <name>_1.wav"]),
    "silent": (["--reference", "silent"], ["silent/call_2.wav", "silent", "leave it out"]),
    "too few tracks": (["--reference", "three"], ["call", "3 references", "2 tracks"]),
    "rates": (["--reference", "telephone"], ["telephone/call_1.wav", "8000 Hz", "16000 Hz"]),
    "lengths": (["--reference", "short"], ["short/call_1.wav", "3.0000 s", "4.0000 s", "cut them"]),
    "no tracks of it": (["--reference", "others"], ["tracks", "'meeting'", "meeting_1.wav"]),
    "no turns": (["--rttm", "empty.rttm"], ["empty.rttm", "no turns"]),
    "turns of another one": (["--rttm", "other.rttm"], ["tracks", "'meeting'"]),
    "all at once": (["--rttm", "both.rttm"], ["call", "nobody speaks alone"]),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_mistakes(mistake: str, here: Path, command: Command, talkers: NDArray[np.float64]) -> None:
    """What cannot be scored is one line that names the file and the cure."""
    write(here / "silent", talkers * [[1], [0]])
    write(here / "three", np.concatenate([talkers, talkers[:1, ::-1]]))
    write(here / "telephone", talkers[:, ::2], rate=8000)
    write(here / "short", talkers[:, : 3 * RATE])
    write(here / "others", talkers, "meeting")
    (here / "empty.rttm").write_text("")
    line = "SPEAKER {} 1 0 4 <NA> <NA> {} <NA> <NA>\n"
    (here / "other.rttm").write_text(line.format("meeting", "anna"))
    (here / "both.rttm").write_text(line.format("call", "anna") + line.format("call", "ben"))
    words, says = MISTAKES[mistake]
    assert_refused(command("score", "separation", "tracks", *words), *says)
