"""Subtitles that say who speaks: SubRip (.srt) as `Name: words`, WebVTT (.vtt) as `<v Name>words`.

WebVTT is W3C's (www.w3.org/TR/webvtt1), voices and their escapes are in its section 4; SubRip has
no standard beyond its program: a counter, `hours:minutes:seconds,milliseconds`, lines of text.
"""

import html
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.document import (
    DiarizationDocument,
    SpeakerTurn,
    document_of_turns,
    with_overlap,
)
from wavlm_meeting.formats.lines import milliseconds, read_wide_text, speaker_fields

_SRT_TIMES = re.compile(
    r"(\d{2,}):([0-5]\d):([0-5]\d),(\d{3}) +--> +(\d{2,}):([0-5]\d):([0-5]\d),(\d{3})(?:\s.*)?"
)
_VTT_TIMES = re.compile(
    r"(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})\s+-->\s+"
    r"(?:(\d{2,}):)?([0-5]\d):([0-5]\d)\.(\d{3})(?:\s.*)?"
)
_VOICE = re.compile(r"<v(?:\.[^\s>]*)*\s+([^>]*)>")
_OTHER_TAG = re.compile(r"<[^>]*>")

_Block = list[tuple[int, str]]
"""Lines that no blank line parts, with their numbers."""


class Cue(NamedTuple):
    """What one subtitle shows."""

    start: float
    end: float
    speaker: str
    text: str = ""


def cues_of(document: DiarizationDocument) -> list[Cue]:
    """Return the turns as subtitles without text."""
    turns = (turn for turn in document.turns if turn.end > turn.start)
    return [Cue(turn.start, turn.end, turn.speaker) for turn in turns]


def write_srt(cues: Iterable[Cue], path: str | Path) -> None:
    """Write subtitles as SubRip; raises FormatError for a name that holds a colon and a space."""
    lines = []
    for number, (start, end, speaker, text) in enumerate(_named(cues, path), start=1):
        if ": " in speaker:
            raise FormatError(f"'{speaker}': a colon ends the name in SubRip; rename the speaker.")
        lines += [str(number), f"{_clock(start, ',')} --> {_clock(end, ',')}"]
        lines += [f"{speaker}: {text}".rstrip(), ""]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_srt(path: str | Path) -> list[Cue]:
    """Read SubRip whose subtitles begin with `Name:`; raises FormatError with the line's number."""
    cues = []
    for block in _blocks(read_wide_text(path)):
        (number, counter), *rest = block
        if not counter.strip().isdecimal():
            raise FormatError(f"{path}:{number}: '{counter}' is no subtitle's number; is this SRT?")
        start, end = _times(rest, _SRT_TIMES, "00:00:01,000 --> 00:00:02,000", f"{path}:{number}")
        text = " ".join(" ".join(line for _, line in rest[1:]).split())
        speaker, colon, words = text.partition(": ")
        if not colon and text.endswith(":"):
            speaker, colon = text[:-1], ":"
        if not colon or not speaker.strip():
            raise FormatError(
                f"{path}:{rest[-1][0]}: nobody is named; begin each subtitle with 'Name:'."
            )
        cues.append(Cue(start, end, speaker.strip(), words))
    return cues


def write_vtt(cues: Iterable[Cue], path: str | Path) -> None:
    """Write subtitles as WebVTT, each in the voice of its speaker."""
    lines = ["WEBVTT", ""]
    for start, end, speaker, text in _named(cues, path):
        lines.append(f"{_clock(start, '.')} --> {_clock(end, '.')}")
        lines += [f"<v {_escaped(speaker)}>{_escaped(text)}", ""]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_vtt(path: str | Path) -> list[Cue]:
    """Read WebVTT whose text is in voices; raises FormatError with the line's number.

    Several voices in a cue are several speakers at that time. Notes, styles and regions are passed
    over, tags within the words too.
    """
    head, *blocks = list(_blocks(read_wide_text(path))) or [[(1, "")]]
    if not re.fullmatch(r"WEBVTT(?:[ \t].*)?", head[0][1]) or head[0][0] != 1:
        raise FormatError(f"{path}:1: a WebVTT file begins with 'WEBVTT'; is this one?")
    cues = []
    for block in blocks:
        if re.match(r"(?:NOTE|STYLE|REGION)(?:\s|$)", block[0][1]):
            continue
        lines = block if "-->" in block[0][1] else block[1:]  # a name may come before the times
        start, end = _times(lines, _VTT_TIMES, "00:01.000 --> 00:02.000", f"{path}:{block[0][0]}")
        before, *parts = _VOICE.split(" ".join(line for _, line in lines[1:]))
        names = [html.unescape(" ".join(name.split())) for name in parts[::2]]
        if _plain(before) or not names or "" in names:
            raise FormatError(
                f"{path}:{lines[-1][0]}: nobody is named; begin each cue with '<v Name>'."
            )
        cues += [
            Cue(start, end, name, _plain(text))
            for name, text in zip(names, parts[1::2], strict=True)
        ]
    return cues


def document_of_cues(cues: Iterable[Cue], path: str | Path) -> dict[str, DiarizationDocument]:
    """Return the turns that subtitles are, of the recording that the file is named after."""
    turns = [SpeakerTurn(start=cue.start, end=cue.end, speaker=cue.speaker) for cue in cues]
    uri = Path(path).stem
    return {uri: document_of_turns(uri, with_overlap(turns))}


def _named(cues: Iterable[Cue], path: str | Path) -> Iterator[Cue]:
    """Give the subtitles by start, with names and words in one line each."""
    ordered = sorted(cues)
    names = speaker_fields({cue.speaker: None for cue in ordered}, str(path), " ")
    for cue in ordered:
        yield cue._replace(speaker=names[cue.speaker], text=" ".join(cue.text.split()))


def _blocks(text: str) -> Iterator[_Block]:
    """Give the lines between blank ones."""
    block: _Block = []
    for number, line in enumerate([*text.split("\n"), ""], start=1):
        if line.strip():
            block.append((number, line))
        elif block:
            yield block
            block = []


def _times(
    lines: _Block, pattern: re.Pattern[str], example: str, where: str
) -> tuple[float, float]:
    """Read start and end in the first of the lines; raises FormatError."""
    if not lines:
        raise FormatError(f"{where}: no times; write '{example}'.")
    number, line = lines[0]
    where = f"{where.rpartition(':')[0]}:{number}"
    found = pattern.fullmatch(line.strip())
    if not found:
        raise FormatError(f"{where}: '{line}' are no times; write '{example}'.")
    parts = [int(part or 0) for part in found.groups()]
    start, end = (
        hours * 3600 + minutes * 60 + seconds + thousandths / 1000
        for hours, minutes, seconds, thousandths in (parts[:4], parts[4:])
    )
    if end < start:
        raise FormatError(f"{where}: the end, {end:g} s, lies before the start, {start:g} s.")
    return start, end


def _clock(seconds: float, point: str) -> str:
    """Write a time as hours, minutes, seconds and thousandths."""
    rest, thousandths = divmod(milliseconds(seconds), 1000)
    minutes, second = divmod(rest, 60)
    hour, minute = divmod(minutes, 60)
    return f"{hour:02d}:{minute:02d}:{second:02d}{point}{thousandths:03d}"


def _escaped(text: str) -> str:
    """Write text so that WebVTT reads no tag in it."""
    return html.escape(text, quote=False)


def _plain(text: str) -> str:
    """Return the text without tags and escapes."""
    return " ".join(html.unescape(_OTHER_TAG.sub("", text)).split())
