"""`wavlm-meeting compare`, as typed."""

import json
from pathlib import Path

from commands import Command, assert_refused

REFERENCE = [(0, 10, "anna"), (10, 20, "ben")]
SYSTEMS = {"good": [(0, 10, "x"), (10, 20, "y")], "poor": [(0, 12, "x"), (12, 18, "y")]}
"""One recording of 20 s: `poor` takes 2 s of ben for anna, and misses 2 s of him."""


def write(path: Path, uri: str, turns: list[tuple[int, int, str]]) -> None:
    """Write turns as RTTM."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "".join(
            f"SPEAKER {uri} 1 {start} {end - start} <NA> <NA> {speaker} <NA> <NA>\n"
            for start, end, speaker in turns
        )
    )


def write_all(folder: Path, *uris: str) -> None:
    """Write recordings into a folder each for the reference and the systems."""
    for uri in uris:
        for name, turns in {"ref": REFERENCE, **SYSTEMS}.items():
            write(folder / name / f"{uri}.rttm", uri, turns)


def cells(output: str, *begin: str) -> list[str]:
    """Return the last row of a table that begins so, without the bars between collars."""
    rows = [line.replace(" | ", " ").split() for line in output.splitlines()]
    return next(row for row in reversed(rows) if row[: len(begin)] == list(begin))


def test_systems_side_by_side(command: Command) -> None:
    """Both collars in one row: totals, overlap, turns, speakers; and the difference's interval."""
    write_all(command.folder, "monday", "tuesday")
    answer = command("compare", "ref", "poor", "good")
    assert (answer.returncode, answer.stderr) == (0, "")
    # At 0.25 s each turn of 10 s loses half a second, and confusion a quarter.
    total = cells(answer.stdout, "poor")
    assert total[1:3] == ["20.00", f"{100 * 3.5 / 19:.2f}"]
    assert total[3:5] == ["10.00", f"{100 * 1.75 / 19:.2f}"]
    assert total[7:11] == ["10.00", f"{100 * 1.75 / 19:.2f}", "40.00", "38.00"]
    assert total[-4:] == ["2", "of", "2", "0.00"]
    assert cells(answer.stdout, "good")[1:3] == ["0.00", "0.00"]
    assert cells(answer.stdout, "1", "poor")[2:8] == [
        *("40.00", "38.00", "20.00", "18.42", "20.00", "18.42")
    ]
    assert cells(answer.stdout, "5+", "poor")[2:4] == ["40.00", "38.00"]
    assert cells(answer.stdout, "monday", "ben", "poor")[3:8] == [
        *("y", "10.00", "9.50", "40.00", "36.84")
    ]
    line = answer.stdout.splitlines()[-1]
    assert line.startswith(
        "DER % of poor less that of good, with intervals of 95 %: +20.00 (+20.00"
    )
    answer = command("compare", "ref", "poor", "good", "--resamples", "0")
    assert "intervals" not in answer.stdout


def test_json_says_the_same(command: Command) -> None:
    """Counts at each collar in the order of `collars_s`, by the paths that were typed."""
    write_all(command.folder, "monday", "tuesday")
    (command.folder / "all.uem").write_text("monday 1 0 20\ntuesday 1 0 20\n")
    answer = command("compare", "ref", "good", "poor/", "--uem", "all.uem", "--json")
    found = json.loads(answer.stdout)
    assert found["collars_s"] == [0.0, 0.25]
    poor = found["systems"]["poor/"]
    assert [round(each["der"], 4) for each in poor["total"]] == [0.2, 0.1842]
    for kind in ("by_depth", "by_length", "by_number"):
        for place in range(2):
            parts = sum(counts[place]["missed_s"] for counts in poor[kind].values())
            assert round(parts, 5) == round(poor["total"][place]["missed_s"], 5), kind
    assert poor["numbers"] == {"right": 2, "recordings": 2, "mean_error": 0.0}
    speakers = poor["recordings"]["monday"]["by_speaker"]
    assert [(each["speaker"], each["matched"]) for each in speakers] == [
        *(("anna", "x"), ("ben", "y"))
    ]
    difference = found["differences"][0]
    assert [round(difference[name], 6) for name in ("difference", "low", "high")] == [-0.2] * 3


def test_picture_of_one_recording(command: Command) -> None:
    """Of several recordings, the one that is named."""
    write_all(command.folder, "monday", "tuesday")
    words = ("compare", "ref", "good", "poor", "--out")
    assert command(*words, "a.png", "--recording", "tuesday").returncode == 0
    assert (command.folder / "a.png").read_bytes().startswith(b"\x89PNG")
    files = ("ref/monday.rttm", "poor/monday.rttm", "--out", "b.svg", "--json")
    answer = command("compare", *files)
    json.loads(answer.stdout)
    assert "<svg" in (command.folder / "b.svg").read_text()


def test_published_figures(command: Command, shared_dir: Path) -> None:
    """A published system's output scores as NIST's md-eval scored it, at both collars."""
    folder = shared_dir / "corpus/scoring/speechbrain_ES2014c"
    answer = command("compare", folder / "ref_ES2014c.rttm", folder / "sys_ES2014c.rttm")
    assert cells(answer.stdout, "sys_ES2014c")[1:3] == ["19.47", "10.39"]


def test_mistakes_are_one_line(command: Command) -> None:
    """Nothing is drawn then."""
    write_all(command.folder, "monday", "tuesday")
    says = ("--out draws one of 2 recordings", "choose by --recording")
    assert_refused(command("compare", "ref", "good", "--out", "a.png"), *says)
    answer = command("compare", "ref", "good", "--out", "a.png", "--recording", "tuseday")
    assert_refused(answer, "did you mean 'tuesday'?")
    answer = command("compare", "ref", "good", "--recording", "tuesday")
    assert_refused(answer, "name the picture with --out")
    answer = command("compare", "ref", "good", "--out", "a.txt", "--recording", "monday")
    assert_refused(answer, "a.txt", "change the suffix")
    assert_refused(command("compare", "ref", "good", "good"), "good is named twice")
    assert_refused(command("compare", "ref", "none.rttm"), "none.rttm: no such file")
    write(command.folder / "other.rttm", "friday", REFERENCE)
    says = ("reference (monday, tuesday) and other.rttm (friday)", "give both the same names")
    assert_refused(command("compare", "ref", "good", "other.rttm"), *says)
    assert not list(command.folder.glob("a.*"))
