"""RTTM: what is written is read back, and what is not RTTM is refused with its line."""

from pathlib import Path

import numpy as np
import pytest
from pyannote.core import Annotation, Segment

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats import read_rttm, write_rttm

TURN = "SPEAKER call 1 1.500 2.250 <NA> <NA> ann <NA> <NA>\n"


def turns_of(annotation: Annotation) -> list[tuple[int, int, str]]:
    """List an annotation's turns in milliseconds, in order."""
    return sorted(
        (round(1000 * segment.start), round(1000 * segment.end), label)
        for segment, _, label in annotation.itertracks(yield_label=True)
    )


def test_a_line_is_written_as_the_format_wants(tmp_path: Path) -> None:
    """Ten fields, three decimals, one line a turn."""
    annotation = Annotation(uri="call")
    annotation[Segment(1.5, 3.75), "_"] = "ann"
    write_rttm(annotation, tmp_path / "a.rttm")
    assert (tmp_path / "a.rttm").read_text() == TURN


def test_round_trips_are_exact_to_the_millisecond(tmp_path: Path) -> None:
    """Any turns, overlapping or equal ones too, come back with both ends where they were."""
    random = np.random.default_rng(1)
    for trial in range(20):
        annotation = Annotation(uri=f"recording-{trial}")
        for index in range(random.integers(0, 60)):
            start = float(random.uniform(0, 10_000))
            segment = Segment(start, start + float(random.uniform(0.001, 30)))
            annotation[segment, index] = f"speaker{random.integers(0, 5)}"
        path = tmp_path / "a.rttm"
        write_rttm(annotation, path)
        found = read_rttm(path).get(annotation.uri, Annotation(uri=annotation.uri))
        assert turns_of(found) == turns_of(annotation)
        lines = [line.split() for line in path.read_text().splitlines()]
        assert [float(line[3]) for line in lines] == sorted(float(line[3]) for line in lines)


def test_no_turns_are_an_empty_file(tmp_path: Path) -> None:
    """A silent recording is a result, and reads back as one."""
    write_rttm(Annotation(uri="silence"), tmp_path / "a.rttm")
    assert (tmp_path / "a.rttm").read_bytes() == b""
    assert read_rttm(tmp_path / "a.rttm") == {}


def test_comments_blank_lines_and_other_types_are_passed_over(tmp_path: Path) -> None:
    """As NIST's own references have them, with a byte-order mark from Windows too."""
    path = tmp_path / "a.rttm"
    path.write_text(
        ";; a comment\n\n"
        "SPKR-INFO call 1 <NA> <NA> <NA> adult_male ann <NA> <NA>\n"
        "LEXEME call 1 1.5 0.2 hello lex ann 0.9 <NA>\n"
        "SPEAKER call 1 9.0 0.0 <NA> <NA> ann <NA> <NA>  ;; of no length\n"
        "SPEAKER other 1 0 1 <NA> <NA> bob <NA>\n" + TURN,
        encoding="utf-8-sig",
    )
    found = read_rttm(path)
    assert {uri: turns_of(turns) for uri, turns in found.items()} == {
        "call": [(1500, 3750, "ann")],
        "other": [(0, 1000, "bob")],
    }


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("SPEAKER call 1 1.5 2.25 <NA> <NA> ann", "8 fields; a SPEAKER line has 9 or 10"),
        ("SPEAKER my call 1 1.5 2.25 <NA> <NA> ann <NA> <NA>", "11 fields"),
        ("SPEAKER call 1 1.5 -2.25 <NA> <NA> ann <NA> <NA>", "duration is -2.25; it must be 0 or"),
        ("SPEAKER call 1 -1.5 2.25 <NA> <NA> ann <NA> <NA>", "start is -1.5; it must be 0 or more"),
        ("SPEAKER call 1 x 2.25 <NA> <NA> ann <NA> <NA>", "start 'x' is not a number"),
        ("SPEAKER call 1 1.5 <NA> <NA> <NA> ann <NA> <NA>", "duration '<NA>' is not a number"),
        ("SPEAKER call 1 nan 2.25 <NA> <NA> ann <NA> <NA>", "start is nan"),
        ("SPEAKER call 1 1.5 inf <NA> <NA> ann <NA> <NA>", "duration is inf"),
        ("call 1 0.000 30.000", "'call' is no RTTM line type; is this an RTTM file?"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    """The message has the file, the line's number and what is wrong with it."""
    path = tmp_path / "a.rttm"
    path.write_text(TURN + ";;\n" + line + "\n")
    with pytest.raises(FormatError) as caught:
        read_rttm(path)
    assert str(caught.value).startswith(f"{path}:3: {says}")


def test_what_is_no_text_file_is_named(tmp_path: Path) -> None:
    """Missing files, folders and binary files are told apart."""
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\x80")
    for name, says in (("none", "no such file"), (".", "a folder"), ("binary", "UTF-8")):
        with pytest.raises(FormatError, match=says):
            read_rttm(tmp_path / name)


def test_spaces_in_names_do_not_break_the_line(tmp_path: Path) -> None:
    """They become `_`; names that would fall together are refused, and no file is left."""
    annotation = Annotation(uri="my call (1)")
    annotation[Segment(0, 1), "_"] = "Dr. Ann Lee"
    write_rttm(annotation, tmp_path / "a.rttm")
    [(uri, found)] = read_rttm(tmp_path / "a.rttm").items()
    assert (uri, found.labels()) == ("my_call_(1)", ["Dr._Ann_Lee"])

    annotation[Segment(1, 2), "_"] = "Dr._Ann_Lee"
    with pytest.raises(FormatError, match="one name but for spaces"):
        write_rttm(annotation, tmp_path / "b.rttm")
    for nameless in (Annotation(), Annotation(uri=" ")):
        with pytest.raises(FormatError, match=r"name \(uri\) is empty"):
            write_rttm(nameless, tmp_path / "b.rttm")
    assert [path.name for path in tmp_path.iterdir()] == ["a.rttm"]


def test_references_of_the_field_are_read(shared_dir: Path) -> None:
    """Files of AMI, diart, SpeechBrain and meeteval: as many turns as lines."""
    paths = sorted((shared_dir / "corpus").rglob("*.rttm"))
    assert len(paths) > 30
    for path in paths:
        lines = [line for line in path.read_text().splitlines() if line.startswith("SPEAKER")]
        lines = [line for line in lines if float(line.split()[4]) > 0]
        assert sum(len(list(found.itertracks())) for found in read_rttm(path).values()) == len(
            lines
        )
