"""UEM: what is written is read back, and what is not UEM is refused with its line."""

from pathlib import Path

import pytest
from pyannote.core import Segment, Timeline

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats import read_uem, write_uem


def test_round_trips_are_exact_to_the_millisecond(tmp_path: Path) -> None:
    """Several parts of one recording."""
    timeline = Timeline([Segment(0.1234, 30.0), Segment(41.5, 60.0006)], uri="a meeting")
    write_uem(timeline, tmp_path / "a.uem")
    text = (tmp_path / "a.uem").read_text()
    assert text == "a_meeting 1 0.123 30.000\na_meeting 1 41.500 60.001\n"
    [(uri, found)] = read_uem(tmp_path / "a.uem").items()
    assert (uri, found.uri) == ("a_meeting", "a_meeting")
    assert list(found) == [Segment(0.123, 30.0), Segment(41.5, 60.001)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("a 1 0.0", "3 fields; a UEM line has 4"),
        ("a 1 x 1", "start 'x' is not a number"),
        ("a 1 0 nan", "end is nan"),
        ("a 1 2 1.5", "the end, 1.5, is not after the start, 2"),
        ("a 1 2 2", "the end, 2, is not after the start, 2"),
    ],
)
def test_a_faulty_line_is_named(tmp_path: Path, line: str, says: str) -> None:
    """The message has the file, the line's number and what is wrong with it."""
    path = tmp_path / "a.uem"
    path.write_text(f";; parts\na 1 0 1\n{line}\n")
    with pytest.raises(FormatError) as caught:
        read_uem(path)
    assert str(caught.value).startswith(f"{path}:3: {says}")


def test_a_timeline_without_a_name_is_refused(tmp_path: Path) -> None:
    """A UEM line begins with the recording's name."""
    with pytest.raises(FormatError, match=r"name \(uri\) is empty"):
        write_uem(Timeline([Segment(0, 1)]), tmp_path / "a.uem")
