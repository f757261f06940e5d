"""The formats of turns by name, and which of them a file is in."""

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from pyannote.core import Annotation, Segment

from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.formats.audacity import read_audacity, write_audacity
from wavlm_meeting.formats.csv import read_csv, write_csv
from wavlm_meeting.formats.document import (
    DiarizationDocument,
    SpeakerTurn,
    document_of_turns,
    with_overlap,
)
from wavlm_meeting.formats.json import read_json, write_json
from wavlm_meeting.formats.rttm import read_rttm, write_rttm
from wavlm_meeting.formats.subtitles import (
    cues_of,
    document_of_cues,
    read_srt,
    read_vtt,
    write_srt,
    write_vtt,
)
from wavlm_meeting.formats.textgrid import read_textgrid, write_textgrid

Documents = dict[str, DiarizationDocument]
"""Turns by the recording they are of."""


class Format(NamedTuple):
    """How turns are written and read."""

    suffix: str
    """What the names of its files end in."""
    write: Callable[[DiarizationDocument, Path], None]
    """Writes one recording's turns, whole or not at all."""
    read: Callable[[Path], Documents]
    """Reads them by recording; raises FormatError with the line's number."""


def document_of_annotation(annotation: Annotation) -> DiarizationDocument:
    """Make the document of a pyannote.core Annotation."""
    turns = [
        SpeakerTurn(start=segment.start, end=segment.end, speaker=str(label))
        for segment, _, label in annotation.itertracks(yield_label=True)
    ]
    return document_of_turns(str(annotation.uri), with_overlap(turns))


def annotation_of(document: DiarizationDocument) -> Annotation:
    """Return a document's turns as a pyannote.core Annotation."""
    annotation = Annotation(uri=document.uri)
    for track, turn in enumerate(document.turns):
        annotation[Segment(turn.start, turn.end), track] = turn.speaker
    return annotation


def _read_rttm(path: Path) -> Documents:
    return {uri: document_of_annotation(found) for uri, found in read_rttm(path).items()}


def _read_json(path: Path) -> Documents:
    document = read_json(path)
    return {document.uri: document}


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "rttm": Format(
            ".rttm", lambda turns, path: write_rttm(annotation_of(turns), path), _read_rttm
        ),
        "json": Format(".json", write_json, _read_json),
        "csv": Format(".csv", write_csv, read_csv),
        "srt": Format(
            ".srt",
            lambda turns, path: write_srt(cues_of(turns), path),
            lambda path: document_of_cues(read_srt(path), path),
        ),
        "vtt": Format(
            ".vtt",
            lambda turns, path: write_vtt(cues_of(turns), path),
            lambda path: document_of_cues(read_vtt(path), path),
        ),
        "textgrid": Format(".TextGrid", write_textgrid, read_textgrid),
        "audacity": Format(".txt", write_audacity, read_audacity),
    }
)


def format_named(name: str, option: str = "--to") -> Format:
    """Return the format of this name; raises SettingsError, naming the option, if there is none."""
    if found := FORMATS.get(name.lower()):
        return found
    close = get_close_matches(name.lower(), FORMATS, n=1)
    cure = f"did you mean '{close[0]}'?" if close else f"choose from {', '.join(FORMATS)}."
    raise SettingsError(f"{option}: unknown format '{name}': {cure}")


def format_of(path: str | Path) -> Format:
    """Return the format that a file's name ends in; raises FormatError for any other ending."""
    suffix = Path(path).suffix.lower()
    for each in FORMATS.values():
        if each.suffix.lower() == suffix:
            return each
    known = ", ".join(each.suffix for each in FORMATS.values())
    raise FormatError(f"{path}: no format of turns ends in '{suffix}'; known are {known}.")


def read_turns(path: str | Path, kind: Format | None = None) -> Documents:
    """Read turns in any format, by recording; `kind` is told by the file's name if it is None.

    A file without turns is a recording in which nobody speaks. Raises FormatError.
    """
    path = Path(path)
    found = (kind or format_of(path)).read(path)
    return found or {path.stem: document_of_turns(path.stem, [])}


def turn_files(folder: str | Path, kind: Format | None = None) -> Iterator[Path]:
    """Give the files of turns at a folder's first level, in order; of one format if it is named."""
    suffixes = {each.suffix.lower() for each in ([kind] if kind else FORMATS.values())}
    for path in sorted(Path(folder).iterdir()):
        if path.suffix.lower() in suffixes and path.is_file() and not path.name.startswith("."):
            yield path
