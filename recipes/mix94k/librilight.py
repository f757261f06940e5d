"""Libri-Light: `<part>/<speaker>/<book>/*.flac`, each with a `.json` that says where speech is."""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from lhotse import Recording
from lhotse.cut import Cut
from lhotse.utils import fastcopy

from wavlm_meeting.recipes.mix94k.folders import folders_of
from wavlm_meeting.training.sources import (
    LONGEST_S,
    Source,
    Unreadable,
    even_pieces,
    files_below,
    read_recording,
    reason_of,
)

WHOLE = "unlab-60k"
PARTS = ("small", "medium", "large")
PAUSE_S = 2.0
"""A longer pause ends a piece."""

Span = tuple[float, float]
"""Start and end in seconds."""


def librilight(root: Path) -> Iterator[Source]:
    """Give the speech of Libri-Light in pieces that begin and end in pauses.

    Chapters last many minutes. As its authors' `cut_by_vad.py` does, a piece takes the voiced
    spans of the `.json` one after the other while it stays within LONGEST_S; unlike there, what
    lies between them stays, so that a piece is one stretch of the recording. Where the `.json`
    cannot be read, it is listed and the chapter is cut evenly. Raises SettingsError if neither
    unlab-60k nor one of small, medium and large is at `root`.
    """
    folders = folders_of(root, (WHOLE, *PARTS), "Libri-Light")
    if folders[0].name == WHOLE:  # the same chapters as in the parts
        folders = folders[:1]
    return _chapters(root, folders)


def _chapters(root: Path, folders: list[Path]) -> Iterator[Source]:
    for folder in folders:
        for path in files_below(folder, {".flac"}):
            name = path.relative_to(root).as_posix()
            recording = read_recording(path, name)
            if isinstance(recording, Unreadable):
                yield recording
                continue
            spans = _voiced(path.with_suffix(".json"), root)
            if isinstance(spans, Unreadable):
                yield spans
                yield from even_pieces(recording)
            else:
                yield from _voiced_pieces(recording, spans)


def _voiced_pieces(recording: Recording, spans: list[Span]) -> Iterator[Cut]:
    whole = recording.to_cut()
    for number, (start, end) in enumerate(pieces(spans)):
        cut_id = f"{recording.id}-{number:04d}"
        yield fastcopy(whole, id=cut_id, start=start, duration=round(end - start, 8))


def pieces(spans: Iterable[Span]) -> list[Span]:
    """Join spans of speech, in order, into pieces of at most LONGEST_S; longer ones are cut."""
    joined: list[Span] = []
    for start, end in spans:
        begin = start
        if joined and start - joined[-1][1] <= PAUSE_S and end - joined[-1][0] <= LONGEST_S:
            begin = joined.pop()[0]
        while end - begin > LONGEST_S:
            joined.append((begin, begin + LONGEST_S))
            begin += LONGEST_S
        joined.append((begin, end))
    return joined


def _voiced(path: Path, root: Path) -> list[Span] | Unreadable:
    """Read the voiced spans of a chapter."""
    name = path.relative_to(root).as_posix()
    try:
        spans = json.loads(path.read_text(encoding="utf-8"))["voice_activity"]
        found = [(float(start), float(end)) for start, end in spans]
    except KeyError:
        return Unreadable(name, "no voice_activity")
    except (OSError, ValueError, TypeError) as error:
        return Unreadable(name, reason_of(error))
    return found or Unreadable(name, "no voice_activity")
