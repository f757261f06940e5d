"""Who spoke when as a picture: a row for each speaker, the reference above the hypothesis."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MultipleLocator
from pyannote.core import Annotation
from pyannote.metrics.diarization import DiarizationErrorRate

from wavlm_meeting.files import atomic_write
from wavlm_meeting.report.style import COLOURS, INK, LINE, QUIET_INK, picture_format

_OVERLAP = "#dbe1e8"

_WIDTH, _ROW, _TITLE, _AXIS = 10.0, 0.36, 0.46, 0.56
"""Inches: the picture's width, and the heights of a row, of a title and of the time axis."""

_RIGHT, _MARGIN, _LETTER, _NAME = 1.5, 0.3, 0.083, 24
"""Inches for the shares, at the left edge and for a letter; the longest name in letters."""

_STEPS_S = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
_CLOCK_FROM_S = 180.0
"""Steps of the time axis, and the length from which it counts minutes."""


def draw_timeline(annotations: Mapping[str, Annotation], path: str | Path, duration: float) -> None:
    """Draw one panel for each titled annotation, the first on top, as PNG, SVG or PDF.

    Each speaker has a row, at whose end stand the speaker's talk time and share of all talk; grey
    columns show where two or more speak at once. Speakers of later panels take the colour of the
    speaker of the first panel with whom they share most time, one to one. `duration` is the
    recording's in seconds. Raises FormatError for any other suffix.
    """
    written_as = picture_format(path, "timeline")
    palettes = speaker_colours(list(annotations.values()))
    names = [_short(label) for palette in palettes for label in palette]
    left = (_MARGIN + _LETTER * max(map(len, names), default=0)) / _WIDTH
    height = sum(_TITLE + _ROW * max(1, len(palette)) for palette in palettes) + _AXIS
    # A figure of its own, without pyplot, which would keep it and look for a screen.
    figure = Figure(figsize=(_WIDTH, height), dpi=160, facecolor="white")
    bottom = height
    panels = []
    for (title, annotation), palette in zip(annotations.items(), palettes, strict=True):
        rows = _ROW * max(1, len(palette))
        bottom -= _TITLE + rows
        box = (left, bottom / height, 1 - left - _RIGHT / _WIDTH, rows / height)
        axes = figure.add_axes(box)
        heading = axes.set_title(
            title, loc="left", fontsize=11, fontweight="bold", color=INK, pad=7
        )
        heading.set_parse_math(False)
        _draw_turns(axes, annotation, palette)
        _draw_axis(axes, duration)
        panels.append(axes)
    _label_ends(panels, duration)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=written_as)


def speaker_colours(annotations: list[Annotation]) -> list[dict[str, str]]:
    """Give each annotation's speakers colours, in the order of their rows.

    The first annotation's speakers come by their first turn. In the others, those who match one of
    them have that one's place and colour; the rest follow in colours of their own.
    """
    palettes: list[dict[str, str]] = []
    numbers = count()
    for annotation in annotations:
        speakers = _by_first_turn(annotation)
        matched: dict[str, str] = {}
        if palettes:
            mapping = DiarizationErrorRate().optimal_mapping(annotations[0], annotation)
            places = list(palettes[0])
            speakers.sort(key=lambda name: places.index(mapping[name]) if name in mapping else 99)
            matched = {label: palettes[0][match] for label, match in mapping.items()}
        palettes.append(
            {
                label: matched.get(label) or COLOURS[next(numbers) % len(COLOURS)]
                for label in speakers
            }
        )
    return palettes


def _by_first_turn(annotation: Annotation) -> list[str]:
    """List the speakers in the order in which they first speak."""
    tracks = annotation.itertracks(yield_label=True)
    return list(dict.fromkeys(label for _, _, label in tracks))


def _draw_turns(axes: Axes, annotation: Annotation, palette: dict[str, str]) -> None:
    """Draw a row of turns for each speaker, overlap behind them and shares at their ends."""
    for segment in annotation.get_overlap():
        axes.axvspan(segment.start, segment.end, color=_OVERLAP, linewidth=0, zorder=0)
    talk_s = {label: annotation.label_duration(label) for label in palette}
    for row, (label, colour) in enumerate(palette.items()):
        turns = [(turn.start, turn.duration) for turn in annotation.label_timeline(label).support()]
        axes.broken_barh(turns, (row - 0.32, 0.64), facecolors=colour, linewidth=0, zorder=2)
        share = f"{_talk(talk_s[label])}  ·  {talk_s[label] / sum(talk_s.values()):.0%}"
        place = axes.get_yaxis_transform()
        axes.text(1.012, row, share, transform=place, va="center", fontsize=9, color=INK)
    if not palette:
        axes.text(0.02, 0.5, "no speech", transform=axes.transAxes, va="center", color=QUIET_INK)
    axes.set_yticks(range(len(palette)), labels=[_short(label) for label in palette])
    axes.set_ylim(max(1, len(palette)) - 0.5, -0.5)
    for name in axes.get_yticklabels():
        name.set_parse_math(False)  # a `$` in a name is a `$`


def _draw_axis(axes: Axes, duration: float) -> None:
    """Put a grid and a time axis to a panel."""
    axes.set_xlim(0, duration)
    step_s = next((step for step in _STEPS_S if duration / step <= 12), duration)
    axes.xaxis.set_major_locator(MultipleLocator(step_s))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda at_s, _: _instant(at_s, duration)))
    axes.grid(axis="x", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.spines[["left", "top", "right"]].set_visible(False)
    axes.spines["bottom"].set_color(LINE)
    axes.tick_params(length=0, labelsize=9, labelcolor=INK)
    axes.tick_params(axis="x", labelcolor=QUIET_INK)


def _label_ends(panels: list[Axes], duration: float) -> None:
    """Put the legend over the first panel and the time under the last one alone."""
    for axes in panels[:-1]:
        axes.tick_params(labelbottom=False)
    for axes in panels[-1:]:
        unit = "seconds" if duration < _CLOCK_FROM_S else "minutes"
        axes.set_xlabel(unit, fontsize=9, color=QUIET_INK, labelpad=3)
    for axes in panels[:1]:
        axes.legend(
            handles=[Patch(color=_OVERLAP, label="two or more at once")],
            loc="lower right",
            bbox_to_anchor=(1.0, 1.0),
            borderaxespad=0.2,
            fontsize=9,
            labelcolor=QUIET_INK,
            frameon=False,
        )


def _short(label: object) -> str:
    """Cut a name that is too long for its place."""
    name = str(label)
    return name if len(name) <= _NAME else name[: _NAME - 1] + "…"


def _instant(at_s: float, duration: float) -> str:
    """Write a place on the time axis: seconds, or minutes:seconds in a long recording."""
    minutes, seconds = divmod(round(at_s), 60)
    return f"{at_s:g}" if duration < _CLOCK_FROM_S else f"{minutes}:{seconds:02}"


def _talk(talk_s: float) -> str:
    """Write how long somebody talks."""
    minutes, seconds = divmod(round(talk_s), 60)
    return f"{talk_s:.1f} s" if talk_s < 60 else f"{minutes} min {seconds:02} s"
