"""What pictures along time share: panels of rows, one above the other, on one time axis."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MultipleLocator
from pyannote.core import Annotation

from wavlm_meeting.report.style import INK, LINE, QUIET_INK

OVERLAP = "#dbe1e8"

_WIDTH, _ROW, _TITLE, _AXIS = 10.0, 0.36, 0.46, 0.56
"""Inches: the picture's width, and the heights of a row, of a title and of the time axis."""

_RIGHT, _MARGIN, _LETTER, _NAME = 1.7, 0.3, 0.083, 24
"""Inches for the shares, at the left edge and for a letter; the longest name in letters."""

_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_CLOCK_FROM_S = 180.0
"""Steps of the time axis, and the length from which it counts minutes."""


@dataclass(frozen=True)
class Panel:
    """A title and named rows."""

    title: str
    rows: Sequence[str]
    """Names, from the top."""
    places: Sequence[float]
    """Where each row lies, in rows below the first place, which is 0."""

    @property
    def height(self) -> float:
        """Height in rows; an empty panel has room for a remark."""
        return max(self.places, default=0.0) + 1.0


def lay_out(panels: Sequence[Panel], start: float, end: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with axes for each panel, titled and on a time axis from `start` to `end`."""
    names = [_short(name) for panel in panels for name in panel.rows]
    left = (_MARGIN + _LETTER * max(map(len, names), default=0)) / _WIDTH
    height = sum(_TITLE + _ROW * panel.height for panel in panels) + _AXIS
    # A figure of its own, without pyplot, which would keep it and look for a screen.
    figure = Figure(figsize=(_WIDTH, height), dpi=160, facecolor="white")
    bottom = height
    every: list[Axes] = []
    for panel in panels:
        bottom -= _TITLE + _ROW * panel.height
        box = (left, bottom / height, 1 - left - _RIGHT / _WIDTH, _ROW * panel.height / height)
        axes = figure.add_axes(box)
        heading = axes.set_title(
            panel.title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=7
        )
        heading.set_parse_math(False)
        axes.set_yticks(panel.places, labels=[_short(name) for name in panel.rows])
        axes.set_ylim(panel.height - 0.5, -0.5)
        for name in axes.get_yticklabels():
            name.set_parse_math(False)  # a `$` in a name is a `$`
        _draw_axis(axes, start, end)
        every.append(axes)
    for axes in every[:-1]:
        axes.tick_params(labelbottom=False)
    for axes in every[-1:]:
        unit = "seconds" if end - start < _CLOCK_FROM_S else "minutes"
        axes.set_xlabel(unit, fontsize=9, color=QUIET_INK, labelpad=3)
    return figure, every


def draw_overlap(axes: Axes, annotation: Annotation) -> None:
    """Draw grey columns where two or more speak at once."""
    for segment in annotation.get_overlap():
        axes.axvspan(segment.start, segment.end, color=OVERLAP, linewidth=0, zorder=0)


def draw_turns(axes: Axes, annotation: Annotation, palette: Mapping[str, str]) -> None:
    """Draw a row of turns for each speaker, in the speaker's colour."""
    for row, (label, colour) in enumerate(palette.items()):
        turns = annotation.label_timeline(label).support()
        bars = [(turn.start, turn.duration) for turn in turns]
        axes.broken_barh(bars, (row - 0.32, 0.64), facecolors=colour, linewidth=0, zorder=2)


def draw_shares(axes: Axes, annotation: Annotation, speakers: Sequence[str]) -> None:
    """Write at the end of each speaker's row how long, and which share of all talk, it is."""
    talk_s = {label: annotation.label_duration(label) for label in speakers}
    for row, label in enumerate(speakers):
        share = talk_s[label] / sum(talk_s.values())
        write_end(axes, row, f"{write_talk(talk_s[label])}  ·  {share:.0%}")
    if not speakers:
        transform = axes.get_yaxis_transform()
        axes.text(0.02, 0.0, "no speech", transform=transform, va="center", color=QUIET_INK)


def write_end(axes: Axes, place: float, text: str) -> None:
    """Write at the end of a row."""
    transform = axes.get_yaxis_transform()
    axes.text(1.012, place, text, transform=transform, va="center", fontsize=9, color=INK)


def draw_legend(axes: Axes, handles: Sequence[Artist]) -> None:
    """Explain what is drawn, over the first panel."""
    axes.legend(
        handles=handles,
        loc="lower right",
        bbox_to_anchor=(1.0, 1.0),
        borderaxespad=0.2,
        fontsize=9,
        labelcolor=QUIET_INK,
        frameon=False,
        ncols=len(handles),
    )


def write_talk(talk_s: float) -> str:
    """Write how long somebody talks."""
    minutes, seconds = divmod(round(talk_s), 60)
    return f"{talk_s:.1f} s" if talk_s < 60 else f"{minutes} min {seconds:02} s"


def _draw_axis(axes: Axes, start: float, end: float) -> None:
    """Put a grid and a time axis to a panel."""
    duration = end - start
    axes.set_xlim(start, end)
    step_s = next((step for step in _STEPS_S if duration / step <= 12), duration)
    axes.xaxis.set_major_locator(MultipleLocator(step_s))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at_s, _: _instant(at_s, duration)))
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.tick_params(axis="x", labelcolor=QUIET_INK)


def _short(label: object) -> str:
    """Cut a name that is too long for its place."""
    name = str(label)
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"


def _instant(at_s: float, duration: float) -> str:
    """Write a place on the time axis: seconds, or minutes:seconds in a long recording."""
    minutes, seconds = divmod(round(at_s), 60)
    return f"{at_s:g}" if duration < _CLOCK_FROM_S else f"{minutes}:{seconds:02}"
