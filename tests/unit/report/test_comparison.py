"""The picture of a comparison: speakers keep the reference's colours, and errors are marked."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, Timeline

from wavlm_meeting.errors import FormatError
from wavlm_meeting.report.comparison import WRONG, draw_comparison
from wavlm_meeting.report.style import COLOURS


def annotate(*turns: tuple[float, float, str]) -> Annotation:
    """Make an annotation of turns (start, end, speaker)."""
    annotation = Annotation(uri="call")
    for index, (start, end, speaker) in enumerate(turns):
        annotation[Segment(start, end), index] = speaker
    return annotation


REFERENCE = annotate((0, 5, "ann"), (5, 10, "bob"))
RIGHT = annotate((0, 5, "x"), (5, 10, "y"))
LATE = annotate((4, 8, "y"), (8, 10, "x"), (0, 3, "x"))


def spread(path: Path, colour: str) -> NDArray[np.int64]:
    """Return how many pixels of a colour are in each column of a picture."""
    picture = np.round(255 * matplotlib.image.imread(path)[..., :3])
    rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
    return np.asarray((np.abs(picture - rgb).max(axis=-1) < 2).sum(axis=0))


def test_errors_are_marked_where_they_are(tmp_path: Path) -> None:
    """A right answer has no mark; a wrong one has them at its times, and none elsewhere."""
    path = tmp_path / "a.png"
    draw_comparison(REFERENCE, {"right": RIGHT}, path)
    assert not spread(path, WRONG).any()
    drawn = np.flatnonzero(spread(path, COLOURS[0]))
    left, middle = drawn[0], drawn[-1] + 1
    second = (middle - left) / 5
    draw_comparison(REFERENCE, {"late": LATE}, path)
    marks = np.flatnonzero(spread(path, WRONG))
    times = (marks - left) / second
    # 3 to 4 missed, 4 to 5 and 8 to 10 confused.
    assert times.min() == pytest.approx(3, abs=0.05)
    assert times.max() == pytest.approx(10, abs=0.05)
    assert not ((times > 5.05) & (times < 7.95)).any()


def test_matched_speakers_have_the_references_colour(tmp_path: Path) -> None:
    """In each of two systems, whatever they are called; a stranger has one of its own."""
    path = tmp_path / "a.png"
    draw_comparison(REFERENCE, {}, path)
    alone = [spread(path, colour).sum() for colour in COLOURS[:3]]
    assert alone[0] > 0
    assert alone[1] > 0
    assert alone[2] == 0
    stranger = annotate((0, 5, "a"), (5, 8, "b"), (8, 10, "c"), (8, 10, "b"))
    draw_comparison(REFERENCE, {"right": RIGHT, "more": stranger}, path)
    found = [spread(path, colour).sum() for colour in COLOURS[:2]]
    assert found == pytest.approx([3 * count for count in alone[:2]], rel=0.1)


def test_only_what_is_scored_is_drawn(tmp_path: Path) -> None:
    """Of a UEM, the time axis begins and ends with it, and errors outside are no errors."""
    path = tmp_path / "a.png"
    draw_comparison(REFERENCE, {"late": LATE}, path, Timeline([Segment(5.5, 7.5)]))
    assert not spread(path, WRONG).any()
    assert not spread(path, COLOURS[1]).any()  # ann has no row, and bob the first one
    columns = np.flatnonzero(spread(path, COLOURS[0]))
    assert len(columns) > 1000  # his turn fills it


@pytest.mark.parametrize("scale", [1.0, 1000.0])
def test_pictures_of_any_length_and_format(tmp_path: Path, scale: float) -> None:
    """Of seconds and of hours, with names that are no names; PNG is as wide as other timelines."""
    longer = annotate(*((scale * a, scale * b, "x") for a, b in ((0, 5), (6, 9))))
    for name in ("a.png", "a.SVG", "a.pdf"):
        draw_comparison(longer, {"$x$ " + "y" * 200: longer, "": annotate()}, tmp_path / name)
    assert matplotlib.image.imread(tmp_path / "a.png").shape[1] == 1600
    assert "<svg" in (tmp_path / "a.SVG").read_text()
    assert (tmp_path / "a.pdf").read_bytes().startswith(b"%PDF")


def test_silence_is_drawn_and_nothing_is_not(tmp_path: Path) -> None:
    """A reference without speech is a result, but two empty ones span no time."""
    draw_comparison(annotate(), {"late": LATE}, tmp_path / "a.png")
    draw_comparison(REFERENCE, {"none": annotate()}, tmp_path / "b.png")
    draw_comparison(annotate(), {"none": annotate()}, tmp_path / "c.png", Timeline([Segment(2, 4)]))
    with pytest.raises(FormatError, match="neither reference nor hypothesis has a turn"):
        draw_comparison(annotate(), {"none": annotate()}, tmp_path / "d.png")
    with pytest.raises(FormatError, match=r"a comparison is written as \.png, \.svg or \.pdf"):
        draw_comparison(REFERENCE, {"late": LATE}, tmp_path / "d.txt")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png", "b.png", "c.png"]
