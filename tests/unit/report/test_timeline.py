"""The timeline: speakers keep their colours, and the picture is a picture."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from pyannote.core import Annotation, Segment

from wavlm_meeting.errors import FormatError
from wavlm_meeting.report.timeline import draw_timeline, speaker_colours


def annotate(*turns: tuple[float, float, str]) -> Annotation:
    """Make an annotation of turns (start, end, speaker)."""
    annotation = Annotation(uri="call")
    for index, (start, end, speaker) in enumerate(turns):
        annotation[Segment(start, end), index] = speaker
    return annotation


REFERENCE = annotate((0, 5, "ann"), (4, 9, "bob"), (10, 12, "ann"))
HYPOTHESIS = annotate((3.9, 9.2, "A"), (0, 4.9, "B"), (10, 12, "B"), (13, 14, "C"))


def test_matching_speakers_have_the_same_colour_and_order() -> None:
    """However they are called; one whom the reference does not know gets a colour of its own."""
    reference, hypothesis = speaker_colours([REFERENCE, HYPOTHESIS])
    assert list(reference) == ["ann", "bob"]
    assert list(hypothesis) == ["B", "A", "C"]
    assert (hypothesis["B"], hypothesis["A"]) == (reference["ann"], reference["bob"])
    assert hypothesis["C"] not in reference.values()


def test_a_second_reading_of_the_same_turns_has_the_same_colours() -> None:
    """Matching is one to one, for more speakers than there are colours too."""
    many = annotate(*[(2.0 * k, 2.0 * k + 1, f"s{k}") for k in range(14)])
    first, second = speaker_colours([many, many])
    assert first == second
    assert len(first) == 14


@pytest.mark.parametrize("scale", [1.0, 300.0])
def test_a_png_shows_each_speakers_colour(tmp_path: Path, scale: float) -> None:
    """In both panels, for recordings counted in seconds and in minutes."""
    path = tmp_path / "a.png"
    reference, result = (
        annotate(*[(scale * turn.start, scale * turn.end, who) for turn, _, who in tracks])
        for tracks in (
            REFERENCE.itertracks(yield_label=True),
            HYPOTHESIS.itertracks(yield_label=True),
        )
    )
    draw_timeline({"Reference": reference, "Result": result}, path, 15 * scale)
    picture = matplotlib.image.imread(path)
    assert picture.shape[1] == 1600
    half = picture.shape[0] // 2
    palette = speaker_colours([REFERENCE, HYPOTHESIS])
    for panel, colours in zip((picture[:half], picture[half:]), palette, strict=True):
        for colour in colours.values():
            rgb = [int(colour[k : k + 2], 16) for k in (1, 3, 5)]
            alike = np.abs(np.round(255 * panel[..., :3]) - rgb).max(axis=-1) < 2
            assert alike.any(), colour


def test_an_svg_is_drawing_and_text(tmp_path: Path) -> None:
    """The suffix decides, also in capitals."""
    path = tmp_path / "a.SVG"
    draw_timeline({"Result": HYPOTHESIS}, path, 15)
    assert "<svg" in path.read_text()


def test_a_silent_recording_is_drawn(tmp_path: Path) -> None:
    """No turns are a result."""
    draw_timeline({"Reference": REFERENCE, "Result": annotate()}, tmp_path / "a.png", 15)
    draw_timeline({"Result": annotate()}, tmp_path / "b.png", 15)
    assert (tmp_path / "b.png").stat().st_size > 1000


def test_names_of_any_length_fit(tmp_path: Path) -> None:
    """Long names are cut; what looks like mathematics to matplotlib is only a name."""
    names = ("x" * 300, "$\\frac{$", "_hidden", "ünï")
    turns = annotate(*[(float(k), k + 1.0, name) for k, name in enumerate(names)])
    draw_timeline({"$\\frac{$": turns}, tmp_path / "a.png", 5)
    assert matplotlib.image.imread(tmp_path / "a.png").shape[1] == 1600


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    """And nothing is left behind."""
    with pytest.raises(FormatError, match=r"a timeline is written as \.png, \.svg or \.pdf"):
        draw_timeline({"Result": HYPOTHESIS}, tmp_path / "a.jpeg", 15)
    assert not list(tmp_path.iterdir())


def test_drawing_touches_no_global_state(tmp_path: Path) -> None:
    """A caller's own settings and open pictures stay what they were."""
    import matplotlib.pyplot as plt
    from matplotlib import rcParams

    settings, figures = dict(rcParams), plt.get_fignums()
    draw_timeline({"Result": HYPOTHESIS}, tmp_path / "a.png", 15)
    assert (dict(rcParams), plt.get_fignums()) == (settings, figures)
