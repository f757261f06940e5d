"""`wavlm-meeting score verification`, as typed."""

import json
from pathlib import Path

import numpy as np

from commands import Command, assert_refused

FIGURES = ("eer", "min_dcf_01", "min_dcf_05", "cllr", "min_cllr")


def write_lists(folder: Path, name: str = "id1{0:04d}/{1}.wav") -> None:
    """Write all trials of ten speakers with three recordings, and scores of two systems."""
    rng = np.random.default_rng(0)
    names = [(speaker, name.format(speaker, each)) for speaker in range(10) for each in range(3)]
    pairs = [(a, b) for number, a in enumerate(names) for b in names[:number]]
    lines = [f"{int(a[0] == b[0])} {a[1]} {b[1]}\n" for a, b in pairs]
    (folder / "trials.txt").write_text("".join(lines))
    for system, gap in (("good", 9.0), ("poor", 1.5)):
        scores = [
            f"{a[1]} {b[1]} {gap * (a[0] == b[0]) - gap / 2 + rng.standard_normal():.4f}\n"
            for a, b in pairs
        ]
        (folder / f"{system}.txt").write_text("".join(reversed(scores)))
    owners = [f"{recording} {speaker}\n" for speaker, recording in names]
    (folder / "speakers.txt").write_text("".join(owners))


def test_two_systems_in_one_table(command: Command) -> None:
    """Figures with intervals over VoxCeleb's speakers, the same in JSON, and a picture of both."""
    write_lists(command.folder)
    words = ("score", "verification", "trials.txt", "good.txt", "poor.txt", "--resamples", "50")
    answer = command(*words, "--det", "det.png")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert "EER %" in answer.stdout
    rows = {
        line.split()[0]: line.split()[1:] for line in answer.stdout.splitlines() if ".txt" in line
    }
    assert rows["good.txt"][:2] == ["0.00", "(0.00-0.00)"]
    assert (command.folder / "det.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(command(*words, "--json").stdout)
    assert list(found) == ["good.txt", "poor.txt"]
    poor = found["poor.txt"]
    assert (poor["targets"], poor["nontargets"], poor["resampled"]) == (30, 405, "speakers")
    assert f"{100 * poor['eer']:.2f}" == rows["poor.txt"][0]
    for name in FIGURES:
        low, high = poor["intervals"][name]
        assert low <= poor[name] <= high, name
    assert poor["min_cllr"] < poor["cllr"]


def test_speakers_of_other_names(command: Command) -> None:
    """They come from a list; without one intervals are drawn over recordings, which is said."""
    write_lists(command.folder, "call-{0}-{1}.wav")
    words = ("score", "verification", "trials.txt", "poor.txt", "--resamples", "20")
    answer = command(*words)
    assert answer.returncode == 0
    assert answer.stderr == (
        "note: intervals over recordings, since speakers are not known; name --speakers.\n"
    )
    (found,) = json.loads(command(*words, "--speakers", "speakers.txt", "--json").stdout).values()
    assert found["resampled"] == "speakers"
    answer = command(*words[:-1], "0", "--json")
    (found,) = json.loads(answer.stdout).values()
    assert (found["intervals"], found["resampled"], answer.stderr) == ({}, None, "")


def test_mistakes_are_one_line(command: Command) -> None:
    """Nothing is drawn then."""
    write_lists(command.folder)
    words = ("score", "verification", "trials.txt")
    (command.folder / "half.txt").write_text("id10001/0.wav id10000/0.wav 1.0\n")
    says = ("half.txt: 434 of 435 trials have no score", "score the whole list")
    assert_refused(command(*words, "half.txt", "--det", "det.png"), *says)
    assert_refused(command(*words, "good.txt", "--det", "det.txt"), "det.txt", "change the suffix")
    assert_refused(command(*words, "none.txt"), "none.txt: no such file; check the path")
    (command.folder / "few.txt").write_text("id10000/0.wav 0\n")
    answer = command(*words, "good.txt", "--speakers", "few.txt")
    assert_refused(answer, "few.txt: lacks 29 recordings, such as 'id10000/1.wav'")
    assert not list(command.folder.glob("det*"))
