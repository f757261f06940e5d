"""UEM, the NIST format of which parts of a recording are scored."""

from pathlib import Path

from pyannote.core import Segment, Timeline

from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.lines import as_field, milliseconds, parse_seconds, read_fields


def read_uem(path: str | Path) -> dict[str, Timeline]:
    """Read the parts of each recording; raises FormatError with the line's number."""
    parts: dict[str, list[Segment]] = {}
    for where, fields in read_fields(path):
        if len(fields) != 4:
            raise FormatError(f"{where}: {len(fields)} fields; a UEM line has 4.")
        start = parse_seconds(fields[2], "start", where)
        end = parse_seconds(fields[3], "end", where)
        if end <= start:
            raise FormatError(f"{where}: the end, {end:g}, is not after the start, {start:g}.")
        parts.setdefault(fields[0], []).append(Segment(start, end))
    return {uri: Timeline(segments, uri=uri) for uri, segments in parts.items()}


def write_uem(timeline: Timeline, path: str | Path) -> None:
    """Write the parts of one recording, in milliseconds; raises FormatError if it has no `uri`."""
    uri = as_field(timeline.uri, "recording's name (uri)")
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for segment in timeline:
            start, end = milliseconds(segment.start), milliseconds(segment.end)
            if end > start:
                file.write(f"{uri} 1 {start / 1000:.3f} {end / 1000:.3f}\n")
