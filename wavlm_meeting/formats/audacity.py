"""Label tracks of Audacity, as its manual has them: a line `<start> <end> <speaker>` with tabs."""

from pathlib import Path

from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.document import (
    DiarizationDocument,
    SpeakerTurn,
    document_of_turns,
    with_overlap,
)
from wavlm_meeting.formats.lines import parse_seconds, read_text, speaker_fields


def write_audacity(document: DiarizationDocument, path: str | Path) -> None:
    """Write the turns of one recording; Audacity imports them as one label track."""
    names = speaker_fields((item.speaker for item in document.speakers), document.uri, " ")
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for turn in document.turns:
            if turn.end > turn.start:
                file.write(f"{turn.start:.3f}\t{turn.end:.3f}\t{names[turn.speaker]}\n")


def read_audacity(path: str | Path) -> dict[str, DiarizationDocument]:
    """Read labels as turns of the recording that the file is named after.

    Labels of no length are passed over, and so are the lines in which Audacity keeps a label's
    frequencies, which begin with a backslash. Raises FormatError with the line's number.
    """
    turns = []
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip() or line.startswith("\\"):
            continue
        where = f"{path}:{number}"
        fields = line.split("\t", maxsplit=2)
        if len(fields) < 3 or not fields[2].strip():
            raise FormatError(f"{where}: not a label; write '<start> <end> <speaker>' with tabs.")
        start = parse_seconds(fields[0], "start", where)
        end = parse_seconds(fields[1], "end", where)
        if end < start:
            raise FormatError(f"{where}: the end, {end:g}, lies before the start, {start:g}.")
        turns.append(SpeakerTurn(start=start, end=end, speaker=fields[2].strip()))
    uri = Path(path).stem
    return {uri: document_of_turns(uri, with_overlap(turns))}
