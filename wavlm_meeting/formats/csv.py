"""Turns as a table for spreadsheets and data frames (RFC 4180): a line a turn, names on top."""

import csv
from pathlib import Path

from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.document import (
    DiarizationDocument,
    SpeakerTurn,
    document_of_turns,
    with_overlap,
)
from wavlm_meeting.formats.lines import open_text, parse_seconds

COLUMNS = ("recording", "start", "end", "speaker", "confidence", "overlap")
"""Those that are written; start, end and speaker are what a file must have."""

_NEEDED = ("start", "end", "speaker")


def write_csv(document: DiarizationDocument, path: str | Path) -> None:
    """Write the turns of one recording; confidence is empty where no model said."""
    with (
        atomic_write(path) as temporary,
        temporary.open("w", encoding="utf-8", newline="") as file,
    ):
        rows = csv.writer(file, lineterminator="\n")
        rows.writerow(COLUMNS)
        for turn in document.turns:
            if turn.end > turn.start:
                sure = "" if turn.confidence is None else f"{turn.confidence:.3f}"
                times = (f"{turn.start:.3f}", f"{turn.end:.3f}")
                rows.writerow([document.uri, *times, turn.speaker, sure, f"{turn.overlap:.3f}"])


def read_csv(path: str | Path) -> dict[str, DiarizationDocument]:
    """Read turns by the recording that they name, or by the file's name without that column.

    Columns may stand in any order. Raises FormatError with the line's number.
    """
    turns: dict[str, list[SpeakerTurn]] = {}
    with open_text(path) as file:
        rows = csv.reader(file, strict=True)
        try:
            columns = _check_columns(next(rows, []), path)
            for row in rows:
                where = f"{path}:{rows.line_num}"
                if not row:
                    continue
                if len(row) != len(columns):
                    raise FormatError(
                        f"{where}: {len(row)} fields; the first line names {len(columns)}."
                    )
                fields = dict(zip(columns, row, strict=True))
                recording = fields.get("recording", Path(path).stem)
                turns.setdefault(recording, []).append(_turn(fields, where))
        except csv.Error as error:
            raise FormatError(f"{path}:{rows.line_num}: not CSV: {error}.") from None
    if "overlap" not in columns:
        turns = {recording: with_overlap(found) for recording, found in turns.items()}
    return {recording: document_of_turns(recording, found) for recording, found in turns.items()}


def _check_columns(row: list[str], path: str | Path) -> list[str]:
    """Return the names of the columns; raises FormatError if they are not those of turns."""
    columns = [name.strip().lower() for name in row]
    if len(row) == 1 and ";" in row[0]:
        raise FormatError(f"{path}:1: separated by semicolons; save it separated by commas.")
    if lacking := [name for name in _NEEDED if name not in columns]:
        raise FormatError(
            f"{path}:1: no column '{lacking[0]}'; name the columns {','.join(COLUMNS)}."
        )
    for name in columns:
        if name not in COLUMNS or columns.count(name) > 1:
            problem = "unknown column" if name not in COLUMNS else "twice the column"
            raise FormatError(f"{path}:1: {problem} '{name}'; known are {', '.join(COLUMNS)}.")
    return columns


def _turn(fields: dict[str, str], where: str) -> SpeakerTurn:
    """Turn one line into a turn; raises FormatError."""
    start = parse_seconds(fields["start"], "start", where)
    end = parse_seconds(fields["end"], "end", where)
    if end < start:
        raise FormatError(f"{where}: the end, {end:g}, lies before the start, {start:g}.")
    if not fields["speaker"].strip():
        raise FormatError(f"{where}: no speaker; give a name.")
    return SpeakerTurn(
        start=start,
        end=end,
        speaker=fields["speaker"],
        confidence=_share(fields.get("confidence", ""), "confidence", where),
        overlap=_share(fields.get("overlap", ""), "overlap", where) or 0.0,
    )


def _share(text: str, name: str, where: str) -> float | None:
    """Turn a field into a number from 0 to 1, None if it is empty; raises FormatError."""
    if not text.strip():
        return None
    try:
        share = float(text)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise FormatError(f"{where}: {name} '{text}' is not a number from 0 to 1.")
    return share
