"""TextGrid, Praat's annotations: a tier of intervals for each speaker, full where he speaks.

Praat's manual, "TextGrid file formats": what counts in a file are its quoted strings, its numbers
and its <flags>; all else is there for people, so that the long and the short layout are one.
"""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, NoReturn

from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.document import (
    DiarizationDocument,
    SpeakerTurn,
    document_of_turns,
    with_overlap,
)
from wavlm_meeting.formats.lines import parse_seconds, read_wide_text, speaker_fields

_TOKEN = re.compile(
    r'"(?P<text>(?:[^"]|"")*)"|(?P<flag>(?<!\S)<\w+>)|(?<!\S)!.*'
    r"|(?P<number>(?<!\S)[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?(?!\S))"
)
_HEADER = ("ooTextFile", "TextGrid")


class _Tier(NamedTuple):
    name: str
    turns: list[SpeakerTurn]


def write_textgrid(document: DiarizationDocument, path: str | Path) -> None:
    """Write the turns of one recording in the long layout.

    Intervals fill each tier, as Praat wants: those of turns carry the speaker's name, those between
    are empty. Turns of one speaker that overlap each other get a second tier of the same name.
    """
    names = speaker_fields((item.speaker for item in document.speakers), document.uri, " ")
    ends = [turn.end for turn in document.turns]
    length = max(document.duration_s, *ends, 0.001)
    tiers: list[_Tier] = []
    for turn in document.turns:
        if turn.end > turn.start:
            name = names[turn.speaker]
            free = (
                tier for tier in tiers if tier.name == name and tier.turns[-1].end <= turn.start
            )
            tier = next(free, None)
            if tier is None:
                tier = _Tier(name, [])
                tiers.append(tier)
            tier.turns.append(turn)
    lines = ['File type = "ooTextFile"', 'Object class = "TextGrid"', "", "xmin = 0"]
    lines += [f"xmax = {length:.3f}", "tiers? <exists>", f"size = {max(len(tiers), 1)}", "item []:"]
    # Praat opens no file without a tier: silence is one tier in which nobody speaks.
    for number, tier in enumerate(tiers or [_Tier("", [])], start=1):
        lines += [f"    item [{number}]:", *_tier_lines(tier, length)]
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


def read_textgrid(path: str | Path) -> dict[str, DiarizationDocument]:
    """Read interval tiers, long or short layout, as turns of the recording named as the file.

    A tier's name is the speaker, its intervals that are not blank are the turns; tiers of points
    are passed over. Raises FormatError with the line's number.
    """
    tokens = _Tokens(path)
    for word in _HEADER:
        if tokens.text("the file's type") != word:
            tokens.refuse("this is no TextGrid; it begins with 'ooTextFile' and 'TextGrid'")
    tokens.number("xmin")
    length = tokens.number("xmax")
    turns: list[SpeakerTurn] = []
    if tokens.flag() == "<exists>":
        for _ in range(tokens.count("the number of tiers")):
            turns += _read_tier(tokens)
    uri = Path(path).stem
    return {uri: document_of_turns(uri, with_overlap(turns), length)}


def _tier_lines(tier: _Tier, length: float) -> Iterator[str]:
    """Write a tier's intervals without holes."""
    name = tier.name.replace('"', '""')
    intervals: list[tuple[float, float, str]] = []
    at = 0.0
    for turn in tier.turns:
        if turn.start > at:
            intervals.append((at, turn.start, ""))
        intervals.append((turn.start, turn.end, name))
        at = turn.end
    if at < length:
        intervals.append((at, length, ""))
    yield '        class = "IntervalTier"'
    yield f'        name = "{name}"'
    yield "        xmin = 0"
    yield f"        xmax = {length:.3f}"
    yield f"        intervals: size = {len(intervals)}"
    for number, (start, end, text) in enumerate(intervals, start=1):
        yield f"        intervals [{number}]:"
        yield f"            xmin = {start:.3f}"
        yield f"            xmax = {end:.3f}"
        yield f'            text = "{text}"'


def _read_tier(tokens: "_Tokens") -> list[SpeakerTurn]:
    """Read one tier; a tier of points has no turns."""
    kind = tokens.text("a tier's class")
    if kind not in {"IntervalTier", "TextTier"}:
        tokens.refuse(f"'{kind}' is no class of tiers; IntervalTier and TextTier are")
    name = tokens.text("a tier's name").strip()
    tokens.number("xmin")
    tokens.number("xmax")
    turns = []
    for _ in range(tokens.count("the number of intervals")):
        start = tokens.number("xmin")
        if kind == "TextTier":
            tokens.text("a point's mark")
            continue
        end = tokens.number("xmax")
        if end < start:
            tokens.refuse(f"the end, {end:g}, lies before the start, {start:g}")
        if tokens.text("an interval's text").strip():
            if not name:
                tokens.refuse("the tier of this interval has no name; name it after its speaker")
            turns.append(SpeakerTurn(start=start, end=end, speaker=name))
    return turns


class _Tokens:
    """What counts in a file, one after the other."""

    def __init__(self, path: str | Path) -> None:
        self._path = path
        self._content = read_wide_text(path)
        matches = _TOKEN.finditer(self._content)
        self._matches = (match for match in matches if match.lastgroup)
        self._at = 0
        self._line = 1

    def text(self, name: str) -> str:
        """Return the next token, which must be a string."""
        return self._next("text", f"{name} in quotation marks").replace('""', '"')

    def number(self, name: str) -> float:
        """Return the next token, which must be a number of seconds."""
        found = self._next("number", f"{name}, a number")
        return parse_seconds(found, name, f"{self._path}:{self._line}")

    def count(self, name: str) -> int:
        """Return the next token, which must be a whole number."""
        found = self._next("number", f"{name}, a number")
        if not found.isdecimal():
            self.refuse(f"{name} is {found}; it must be a whole number")
        return int(found)

    def flag(self) -> str:
        """Return the next token, which must be a flag."""
        return self._next("flag", "<exists> or <absent>")

    def refuse(self, problem: str) -> NoReturn:
        """Raise FormatError with the line of the token that was read last."""
        raise FormatError(f"{self._path}:{self._line}: {problem}.")

    def _next(self, kind: str, wanted: str) -> str:
        match = next(self._matches, None)
        at = match.start() if match else len(self._content.rstrip())
        self._line += self._content.count("\n", self._at, at)
        self._at = at
        if match is None:
            self.refuse(f"the file ends where {wanted} should stand; is it whole?")
        if match.lastgroup != kind:
            self.refuse(f"{match[0][:40]!r} stands where {wanted} should")
        return match[kind]
