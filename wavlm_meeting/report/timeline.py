"""Who spoke when as a picture: a row for each speaker, the reference above the hypothesis."""

from collections.abc import Mapping
from itertools import count
from pathlib import Path

from matplotlib.patches import Patch
from pyannote.core import Annotation

from wavlm_meeting.files import atomic_write
from wavlm_meeting.report.panels import (
    OVERLAP,
    Panel,
    draw_legend,
    draw_overlap,
    draw_shares,
    draw_turns,
    lay_out,
)
from wavlm_meeting.report.style import COLOURS, picture_format
from wavlm_meeting.scoring.diarization import align


def draw_timeline(annotations: Mapping[str, Annotation], path: str | Path, duration: float) -> None:
    """Draw one panel for each titled annotation, the first on top, as PNG, SVG or PDF.

    Each speaker has a row, at whose end stand the speaker's talk time and share of all talk; grey
    columns show where two or more speak at once. Speakers of later panels take the colour of the
    speaker of the first panel with whom they share most time, one to one. `duration` is the
    recording's in seconds. Raises FormatError for any other suffix.
    """
    written_as = picture_format(path, "timeline")
    palettes = speaker_colours(list(annotations.values()))
    titled = list(zip(annotations.items(), palettes, strict=True))
    panels = [Panel(title, list(palette), range(len(palette))) for (title, _), palette in titled]
    figure, every = lay_out(panels, 0.0, duration)
    for axes, ((_, annotation), palette) in zip(every, titled, strict=True):
        draw_overlap(axes, annotation)
        draw_turns(axes, annotation, palette)
        draw_shares(axes, annotation, list(palette))
    for axes in every[:1]:
        draw_legend(axes, [Patch(color=OVERLAP, label="two or more at once")])
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
            aligned = align(annotations[0], annotation, uem=None)
            mapping = {
                aligned.others[other]: aligned.speakers[int(speaker)]
                for other, speaker in aligned.mapping.items()
            }
            places = {name: place for place, name in enumerate(palettes[0])}
            speakers.sort(
                key=lambda name: places[mapping[name]] if name in mapping else len(places)
            )
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
