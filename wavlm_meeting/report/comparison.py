"""Systems against the reference as a picture: who spoke when, and where each of them is wrong.

K stretches, R speakers of the reference, H of the hypothesis.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from pyannote.core import Annotation, Timeline

from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.report.panels import (
    OVERLAP,
    Panel,
    draw_legend,
    draw_overlap,
    draw_shares,
    draw_turns,
    lay_out,
    write_end,
    write_talk,
)
from wavlm_meeting.report.style import INK, picture_format
from wavlm_meeting.report.timeline import speaker_colours
from wavlm_meeting.scoring.stretches import Flags, Stretches, cut

WRONG = "#b42318"
"""The colour of errors; no speaker has it."""

_PALE, _LINE_PT = 0.3, 2.0
"""Opacity of what is said wrongly; the width of the line that stands for what is missed."""

_NAME = 60
"""The longest name of a system in letters."""

_KINDS = ("missed", "false alarm", "confusion")
_KIND_ROW, _KIND_GAP = 0.55, 0.85
"""Rows below the speakers' that mark errors by kind: their distance, and that of the first."""


def draw_comparison(
    reference: Annotation,
    hypotheses: Mapping[str, Annotation],
    path: str | Path,
    uem: Timeline | None = None,
) -> None:
    """Draw the reference and each named hypothesis of one recording, as PNG, SVG or PDF.

    Speakers of a hypothesis have the place and colour of the reference's whom they are matched to.
    What they say is pale where it is wrong, and what is missed of them a thin line; rows below mark
    missed speech, false alarms and confusion, with their seconds and shares of the reference's
    speech, without a collar. Only what `uem` scores is drawn. Raises FormatError for another
    suffix, and if there is nothing to draw.
    """
    written_as = picture_format(path, "comparison")
    cuts = {name: cut(reference, each, uem) for name, each in hypotheses.items()}
    if uem is not None:
        reference = reference.crop(uem)
        hypotheses = {name: each.crop(uem) for name, each in hypotheses.items()}
    extents = [reference.get_timeline().extent() if uem is None else uem.extent()]
    extents += [each.get_timeline().extent() for each in hypotheses.values()]
    start, end = (0.0, max(each.end for each in extents)) if uem is None else extents[0]
    if end <= start:
        raise FormatError("nothing to draw: neither reference nor hypothesis has a turn.")
    first, *others = speaker_colours([reference, *hypotheses.values()])
    systems = list(zip(hypotheses.items(), cuts.values(), others, strict=True))
    panels = [Panel("reference", list(first), range(len(first)))]
    panels += [_panel(name, stretches, palette) for (name, _), stretches, palette in systems]
    figure, (top, *every) = lay_out(panels, start, end)
    draw_legend(
        top,
        [
            Patch(facecolor=OVERLAP, label="two or more at once"),
            Patch(facecolor=INK, alpha=_PALE, linewidth=0, label="wrong"),
            Line2D([], [], color=INK, linewidth=_LINE_PT, label="missed"),
        ],
    )
    draw_overlap(top, reference)
    draw_turns(top, reference, first)
    draw_shares(top, reference, list(first))
    for axes, ((_, hypothesis), stretches, palette) in zip(every, systems, strict=True):
        draw_overlap(axes, hypothesis)
        for row, (label, colour) in enumerate(palette.items()):
            _draw_speaker(axes, row, stretches, stretches.others.index(label), colour)
        draw_shares(axes, hypothesis, list(palette))
        _draw_errors(axes, stretches, len(palette))
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format=written_as)


def _panel(name: str, stretches: Stretches, palette: Mapping[str, str]) -> Panel:
    """Return a system's panel: its speakers, and below them a row for each kind of error."""
    short = name if len(name) <= _NAME else "…" + name[1 - _NAME :]
    speech_s, *wrong_s = _seconds(stretches)
    der = f"DER {sum(wrong_s) / speech_s:.1%}" if speech_s else "no speech in the reference"
    places = [*range(len(palette)), *(_error_row(len(palette), kind) for kind in range(3))]
    return Panel(f"{short}  ·  {der}", [*palette, *_KINDS], places)


def _error_row(speakers: int, kind: int) -> float:
    """Return the height of the row of a kind of error."""
    return max(0, speakers - 1) + _KIND_GAP + kind * _KIND_ROW


def _seconds(stretches: Stretches) -> tuple[float, float, float, float]:
    """Return speech of the reference, and missed, false and confused speaker time."""
    errors, lengths_s = stretches.errors, stretches.lengths_s
    parts = (stretches.speaking, errors.missed, errors.false_alarm, errors.confused)
    speech_s, missed_s, false_s, confused_s = (float((part @ lengths_s).sum()) for part in parts)
    return speech_s, missed_s, false_s, confused_s


def _draw_speaker(axes: Axes, row: int, stretches: Stretches, other: int, colour: str) -> None:
    """Draw what one speaker of a hypothesis says, right or wrong, and does not say."""
    match = stretches.matches[other]
    found = stretches.found[other]
    speaking = np.zeros_like(found) if match is None else stretches.speaking[match]
    # What is missed is thin, not framed: frames of short turns would look like turns.
    for flags, height, opacity in (
        (found & speaking, 0.64, 1.0),
        (found & ~speaking, 0.64, _PALE),
        (speaking & ~found, 0.09, 1.0),
    ):
        axes.broken_barh(
            _bars(flags, stretches),
            (row - height / 2, height),
            facecolors=colour,
            alpha=opacity,
            linewidth=0,
            zorder=2,
        )


def _draw_errors(axes: Axes, stretches: Stretches, speakers: int) -> None:
    """Mark each kind of error in a row of its own, and write how much of it there is."""
    errors = stretches.errors
    speech_s, *wrong_s = _seconds(stretches)
    parts = (errors.missed, errors.false_alarm, errors.confused)
    for kind, (part, seconds) in enumerate(zip(parts, wrong_s, strict=True)):
        place = _error_row(speakers, kind)
        bars = _bars(part.sum(axis=0) > 0, stretches)
        axes.broken_barh(bars, (place - 0.18, 0.36), facecolors=WRONG, linewidth=0, zorder=2)
        share = f"  ·  {seconds / speech_s:.1%}" if speech_s else ""
        write_end(axes, place, f"{write_talk(seconds)}{share}")


def _bars(flags: Flags, stretches: Stretches) -> list[tuple[float, float]]:
    """Return start and length of each run of stretches that `flags`, (K,), marks."""
    steps = np.diff(flags.astype(np.int8), prepend=0, append=0)
    starts, ends = (stretches.edges[steps == step] for step in (1, -1))
    return list(zip(starts.tolist(), (ends - starts).tolist(), strict=True))
