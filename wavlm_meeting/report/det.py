"""Detection error tradeoff: misses against false accepts on axes that make Gaussians lines."""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import cycle
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from scipy.special import ndtri

from wavlm_meeting.files import atomic_write
from wavlm_meeting.report.style import COLOURS, INK, LINE, QUIET_INK, picture_format
from wavlm_meeting.scoring.verification import DetCurve

_TICKS = (
    *(0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01),
    *(0.02, 0.05, 0.1, 0.2, 0.4, 0.6),
)
"""Rates at the axes, which begin with the last one below all marks."""

_P_TARGETS = (0.01, 0.05)
"""Shares of targets whose least detection costs are marked."""

_MARKS = {
    "o": "equal error rate",
    **dict(zip("^s", (f"least cost, {100 * p:g} % targets" for p in _P_TARGETS), strict=True)),
}
"""The marks and what they stand for."""

_NAME = 40
"""The longest name in letters."""


def draw_det(curves: Mapping[str, DetCurve], path: str | Path) -> None:
    """Draw the curve of each named system, as PNG, SVG or PDF.

    Marks show the equal error rate (circle) and the least detection cost for 1 % (triangle) and 5 %
    of targets (square). Axes are normal deviates (Martin et al. 1997): where targets' and
    nontargets' scores spread as Gaussians, the curve is a line. Raises FormatError for another
    suffix.
    """
    written_as = picture_format(path, "DET curve")
    figure = Figure(figsize=(6.5, 6.5), dpi=160, facecolor="white", layout="constrained")
    axes = figure.add_subplot(box_aspect=1)
    marks = {name: _marks(curve) for name, curve in curves.items()}
    least = min((rate for points in marks.values() for rate in points.flat if rate > 0), default=0)
    ticks = _TICKS[max(0, min(bisect_right(_TICKS, least), len(_TICKS) - 1) - 1) :]
    for (name, curve), colour in zip(curves.items(), cycle(COLOURS), strict=False):
        _draw_curve(axes, name, curve, colour, ticks)
        _draw_marks(axes, marks[name], colour, ticks)
    _draw_axes(axes, ticks)
    _draw_legend(axes)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=written_as)


def _marks(curve: DetCurve) -> NDArray[np.float64]:
    """Return false accepts and misses of each mark, in the order of `_MARKS`."""
    points = [(curve.eer, curve.eer)]
    for p_target in _P_TARGETS:
        costs = p_target * curve.misses + (1.0 - p_target) * curve.false_accepts
        best = int(costs.argmin())
        points.append((curve.false_accepts[best], curve.misses[best]))
    return np.array(points)


def _draw_curve(
    axes: Axes, name: str, curve: DetCurve, colour: str, ticks: Sequence[float]
) -> None:
    """Draw the curve of one system."""
    short = name if len(name) <= _NAME else "…" + name[1 - _NAME :]
    label = f"EER {100 * curve.eer:.2f} %: {short}".replace("$", r"\$")  # no mathematics
    # Normal deviates of 0 and 1 are infinite: these ends lie well outside of the picture.
    rates = np.stack([curve.false_accepts, curve.misses]).clip(ticks[0] / 100, 1 - ticks[0] / 100)
    axes.plot(*ndtri(rates), color=colour, linewidth=1.6, label=label, zorder=2)


def _draw_marks(
    axes: Axes, points: NDArray[np.float64], colour: str, ticks: Sequence[float]
) -> None:
    """Draw the marks of one system; those beyond the axes lie on their edge."""
    for mark, point in zip(_MARKS, ndtri(points.clip(ticks[0], ticks[-1])), strict=True):
        axes.plot(
            *point[:, None],
            mark,
            color=colour,
            markeredgecolor="white",
            markersize=8,
            zorder=3,
            clip_on=False,
        )


def _draw_axes(axes: Axes, ticks: Sequence[float]) -> None:
    """Put rates in per cent to both axes, the same ones, and a grid behind the curves."""
    places, labels = ndtri(ticks), [f"{100 * tick:g}" for tick in ticks]
    ends = places[[0, -1]]
    axes.set_xlim(*ends)
    axes.set_ylim(*ends)
    axes.set_xticks(places, labels=labels)
    axes.set_yticks(places, labels=labels)
    axes.plot(ends, ends, color=LINE, linewidth=0.8, zorder=1)
    axes.grid(color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[:].set_color(LINE)
    axes.tick_params(length=0, labelsize=9, labelcolor=QUIET_INK, pad=6)
    axes.set_xlabel("false accepts, % of the trials with two speakers", fontsize=9, color=QUIET_INK)
    axes.set_ylabel("misses, % of the trials with one speaker", fontsize=9, color=QUIET_INK)


def _draw_legend(axes: Axes) -> None:
    """Name the systems within the picture, and the marks below the systems."""
    marks = [
        Line2D([], [], marker=mark, color=QUIET_INK, markersize=6, linewidth=0, label=name)
        for mark, name in _MARKS.items()
    ]
    handles = [*axes.get_legend_handles_labels()[0], *marks]
    axes.legend(handles=handles, loc="upper right", fontsize=9, labelcolor=INK, framealpha=0.9)
