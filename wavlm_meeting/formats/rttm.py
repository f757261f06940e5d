"""RTTM, the NIST format of who spoke when (Rich Transcription 2009 evaluation plan, appendix A)."""

from pathlib import Path

from pyannote.core import Annotation, Segment

from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.lines import (
    as_field,
    milliseconds,
    parse_seconds,
    read_fields,
    speaker_fields,
)

_OTHER_TYPES = {
    *("A/P", "CB", "EDIT", "FILLER", "IP", "LEXEME", "NON-LEX", "NON-SPEECH", "NOSCORE"),
    *("NO_RT_METADATA", "SEGMENT", "SPKR-INFO", "SU"),
}
"""Line types of the format that say nothing about who speaks when."""


def read_rttm(path: str | Path) -> dict[str, Annotation]:
    """Read the SPEAKER lines of an RTTM file, by the recording that they name.

    Lines of the format's other types are passed over, turns of no length too. Raises FormatError
    with the line's number for anything else. An empty file is a result: no turns.
    """
    annotations: dict[str, Annotation] = {}
    for where, fields in read_fields(path):
        if fields[0] in _OTHER_TYPES:
            continue
        if fields[0] != "SPEAKER":
            raise FormatError(f"{where}: '{fields[0]}' is no RTTM line type; is this an RTTM file?")
        if len(fields) not in {9, 10}:
            raise FormatError(f"{where}: {len(fields)} fields; a SPEAKER line has 9 or 10.")
        start = parse_seconds(fields[3], "start", where)
        duration = parse_seconds(fields[4], "duration", where)
        annotation = annotations.setdefault(fields[1], Annotation(uri=fields[1]))
        annotation[Segment(start, start + duration), where] = fields[7]
    return annotations


def write_rttm(annotation: Annotation, path: str | Path) -> None:
    """Write the turns of one recording, in order, in milliseconds.

    Spaces in names become `_`, since RTTM is separated by spaces. Raises FormatError if the
    annotation has no `uri`, or two speakers would get the same name.
    """
    uri = as_field(annotation.uri, "recording's name (uri)")
    names = speaker_fields(annotation.labels(), uri)
    turns = sorted(
        (milliseconds(segment.start), milliseconds(segment.end), names[label])
        for segment, _, label in annotation.itertracks(yield_label=True)
    )
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for start, end, name in turns:
            if end > start:
                times = f"{start / 1000:.3f} {(end - start) / 1000:.3f}"
                file.write(f"SPEAKER {uri} 1 {times} <NA> <NA> {name} <NA> <NA>\n")
