"""`wavlm-meeting score diarization`, as typed."""

import json
from pathlib import Path

from commands import Command

LINES = {
    "reference": [(0, 10, "anna"), (10, 20, "ben")],
    "hypothesis": [(0, 12, "x"), (12, 18, "y")],
}
"""One recording of 20 s: 2 s of ben taken for anna, 2 s of him missed; DER is 4 of 20 s."""


def write(path: Path, uri: str, turns: list[tuple[int, int, str]]) -> None:
    """Write turns as RTTM."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(
        "".join(
            f"SPEAKER {uri} 1 {start} {end - start} <NA> <NA> {speaker} <NA> <NA>\n"
            for start, end, speaker in turns
        )
    )


def test_counts_in_seconds(command: Command) -> None:
    """The table shows DER with its parts in seconds; JSON gives the same as fractions."""
    for name, turns in LINES.items():
        write(command.folder / f"{name}.rttm", "call", turns)
    words = ("score", "diarization", "reference.rttm", "hypothesis.rttm")
    table = command(*words).stdout.split()
    row = table[table.index("call") :]
    # Jaccard errors: anna 2 of 12 s, ben 4 of 10 s.
    assert row == ["call", "20.00", "2.000", "0.000", "2.000", "20.000", "28.33"]
    total = json.loads(command(*words, "--json").stdout)["total"]
    assert (total["der"], total["missed_s"], total["confusion_s"]) == (0.2, 2.0, 2.0)


def test_folders_are_scored_as_one(command: Command) -> None:
    """Folders of RTTM and UEM files give a row for each recording, and a total over all."""
    for uri in ("monday", "tuesday"):
        for name, turns in LINES.items():
            write(command.folder / name / f"{uri}.rttm", uri, turns)
        uem = command.folder / "uem" / f"{uri}.uem"
        uem.parent.mkdir(exist_ok=True)
        uem.write_text(f"{uri} 1 0 20\n")
    answer = command("score", "diarization", "reference", "hypothesis", "--uem", "uem")
    rows = [line.split() for line in answer.stdout.splitlines()]
    assert [row[:2] for row in rows if row and row[0] in {"monday", "tuesday", "total"}] == [
        ["monday", "20.00"],
        ["tuesday", "20.00"],
        ["total", "20.00"],
    ]


def test_published_figures(command: Command, shared_dir: Path) -> None:
    """A published system's output scores as NIST's md-eval scored it, to the printed digits."""
    folder = shared_dir / "corpus/scoring/speechbrain_ES2014c"
    files = (folder / "ref_ES2014c.rttm", folder / "sys_ES2014c.rttm")
    answer = command("score", "diarization", *files, "--collar", "0.25", "--skip-overlap")
    assert "7.17" in answer.stdout.split()
