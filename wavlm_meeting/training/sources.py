"""What goes into shards: pieces of recordings, in an order that is the same in every run."""

import os
import re
from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple, TypeAlias

from lhotse import CutSet, Recording
from lhotse.cut import Cut

from wavlm_meeting.errors import AudioError

LONGEST_S = 30.0
"""Longer recordings are cut into pieces of this length."""


class Unreadable(NamedTuple):
    """A source that could not be read, and why."""

    name: str
    reason: str


Source: TypeAlias = "Cut | Unreadable"
"""A piece of audio to write, or one that is known not to be readable."""


def files_below(folder: Path, suffixes: Iterable[str]) -> Iterator[Path]:
    """Give the files of these endings in a folder and the folders in it, in the order of `sorted`.

    Names are held of one folder at a time, so that millions of files need no memory. Hidden files
    are left alone, links are followed. Raises AudioError if there is none, or no such folder.
    """
    if not folder.is_dir():
        raise AudioError(f"{folder}: no such folder; check the path.")
    found = _walk(folder, frozenset(suffixes))
    first = next(found, None)
    if first is None:
        raise AudioError(f"{folder}: no audio or video in this folder or below it.")
    return chain([first], found)


def read_recording(path: Path, name: str) -> Recording | Unreadable:
    """Read a recording's header and call it `name`."""
    try:
        return Recording.from_file(path, recording_id=name)
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises on a broken file
        return Unreadable(name, reason_of(error))


def folder_cuts(paths: Iterable[Path], root: Path) -> Iterator[Source]:
    """Give pieces of at most LONGEST_S of each recording, with all of its channels.

    Ids are the paths relative to `root`, and the number of the piece.
    """
    for path in paths:
        recording = read_recording(path, path.relative_to(root).as_posix())
        if isinstance(recording, Unreadable):
            yield recording
        else:
            yield from even_pieces(recording)


def even_pieces(recording: Recording) -> Iterator[Cut]:
    """Give a recording in pieces of at most LONGEST_S."""
    whole = recording.to_cut()
    if recording.duration <= LONGEST_S:
        yield whole
        return
    for number, piece in enumerate(CutSet.from_cuts([whole]).cut_into_windows(LONGEST_S)):
        yield piece.with_id(f"{recording.id}-{number:04d}")


def reason_of(error: Exception) -> str:
    """Return one line that says what is wrong with a file."""
    text = str(error)
    # Lhotse reports every decoder it tried; the first is libsndfile, which tries all files.
    if first := re.search(r"'>: (.+)", text):
        return first[1][:200]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__


def _walk(folder: Path, suffixes: frozenset[str]) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=attrgetter("name"))
    for entry in ordered:
        if entry.is_dir():
            yield from _walk(folder / entry.name, suffixes)
        elif not entry.name.startswith(".") and Path(entry.name).suffix.lower() in suffixes:
            yield folder / entry.name
