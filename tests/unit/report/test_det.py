"""DET curves: Gaussians are lines, marks lie where the costs do, and the picture is a picture."""

from pathlib import Path

import matplotlib.image
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from scipy.stats import norm

from wavlm_meeting.errors import FormatError
from wavlm_meeting.report.det import draw_det
from wavlm_meeting.report.style import COLOURS
from wavlm_meeting.scoring.verification import DetCurve, det_curve


def gaussian(gap: float, count: int = 20_000) -> DetCurve:
    """Draw scores whose two kinds lie apart by `gap` deviations."""
    targets = np.arange(count) % 2 == 0
    return det_curve(targets, gap * targets + np.random.default_rng(0).standard_normal(count))


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Keep the figures that are saved, to look into them."""
    figures: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *words: object, **named: object) -> None:
        figures.append(figure)
        save(figure, *words, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(Figure, "savefig", keep)
    return figures


def test_gaussian_scores_are_a_line(tmp_path: Path, drawn: list[Figure]) -> None:
    """In normal deviates, misses plus false accepts are minus the gap, all along."""
    draw_det({"a": gaussian(2.0)}, tmp_path / "a.png")
    curve = max(drawn[0].axes[0].lines, key=lambda line: len(line.get_xdata()))
    x, y = np.asarray(curve.get_xdata()), np.asarray(curve.get_ydata())
    inner = np.abs(x + 1.0) < 1.0
    np.testing.assert_allclose((x + y)[inner], -2.0, atol=0.08)


def test_marks_lie_where_the_figures_are(tmp_path: Path, drawn: list[Figure]) -> None:
    """The circle on the diagonal at the EER; the costs' marks on the curve, the rarer higher."""
    curve = gaussian(3.0)
    draw_det({"a": curve}, tmp_path / "a.svg")
    axes = drawn[0].axes[0]
    places = {
        line.get_marker(): line.get_xydata()[0] for line in axes.lines if len(line.get_xdata()) == 1
    }
    np.testing.assert_allclose(norm.cdf(places["o"]), curve.eer, rtol=1e-6)
    for mark, p_target in (("^", 0.01), ("s", 0.05)):
        false_accepts, misses = norm.cdf(places[mark])
        costs = p_target * curve.misses + (1 - p_target) * curve.false_accepts
        assert p_target * misses + (1 - p_target) * false_accepts == pytest.approx(costs.min())
    assert places["^"][1] > places["s"][1] > places["o"][1]


def test_a_png_shows_every_system_in_its_colour(tmp_path: Path) -> None:
    """Good and bad ones, perfect ones and such as are always wrong."""
    targets = np.arange(200) % 2 == 0
    curves = {
        "good": gaussian(4.0),
        "bad": gaussian(1.0),
        "perfect": det_curve(targets, 1.0 * targets),
        "wrong": det_curve(targets, -1.0 * targets),
    }
    draw_det(curves, tmp_path / "a.png")
    picture = matplotlib.image.imread(tmp_path / "a.png")
    assert picture.shape[:2] == (1040, 1040)
    for colour in COLOURS[: len(curves)]:
        alike = np.abs(picture[..., :3] - to_rgb(colour)).max(axis=-1) < 2 / 255
        assert alike.sum() > 50, colour


def test_names_of_any_kind_fit(tmp_path: Path, drawn: list[Figure]) -> None:
    """Long names keep their ends, where file names differ; a `$` is a `$`, a `_` hides nothing."""
    names = ("x/" * 200 + "end.txt", "$\\frac{$", "_hidden")
    draw_det(dict.fromkeys(names, gaussian(2.0)), tmp_path / "a.SVG")
    assert "<svg" in (tmp_path / "a.SVG").read_text()
    legend = drawn[0].axes[0].get_legend()
    assert legend is not None
    shown = [text.get_text() for text in legend.get_texts()]
    for line, end in zip(shown[:3], ("x/end.txt", "frac{\\$", ": _hidden"), strict=True):
        assert line.endswith(end)
    assert max(map(len, shown)) < 60


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    """And nothing is left behind."""
    with pytest.raises(FormatError, match=r"a DET curve is written as \.png, \.svg or \.pdf"):
        draw_det({"a": gaussian(2.0)}, tmp_path / "a.jpeg")
    assert not list(tmp_path.iterdir())
