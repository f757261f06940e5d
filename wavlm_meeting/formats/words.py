"""Words with their times, as recognisers write them: JSON of many layouts, and CTM.

The toolkit's own layout is the plainest, in seconds from the beginning of the recording:

    {"words": [{"word": "hello", "start": 0.5, "end": 0.9}, ...]}

Others are told by their keys: wherever words stand in a document, they are a list of objects with a
text and times. Found so are whisper, faster-whisper and WhisperX (`segments`, `words`), OpenAI's
`verbose_json` (`words`), transformers (`chunks` with `timestamp`), NeMo (`timestamp`, `word`), Vosk
(`result`), Deepgram, Google (`results`, `channels`, `alternatives`) and Amazon (`items`).
CTM is NIST's and Kaldi's: `<recording> <channel> <start> <duration> <word> [<confidence>]`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats.lines import parse_seconds, read_fields, read_text

_TEXT = ("punctuated_word", "word", "text", "content", "token")
_START = ("start", "start_time", "startTime", "startOffset")
_END = ("end", "end_time", "endTime", "endOffset")
_HOLDERS = (
    *("words", "segments", "word_segments", "chunks", "timestamp", "word"),
    *("results", "result", "channels", "alternatives", "items"),
)
"""Keys below which words stand, the first that has any holds."""

_LONGEST_S = 10.0
"""Of half the words: who writes milliseconds has longer ones."""

_CURE = (
    "run the recogniser with times of words, or write "
    '{"words": [{"word": "hello", "start": 0.5, "end": 0.9}]}'
)


@dataclass(frozen=True)
class Word:
    """A word that somebody says."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    """Seconds from the beginning of the recording; no less than `start`."""
    text: str
    """The word, without spaces around it."""
    spaced: bool = True
    """Whether a space parts it from the word before."""
    channel: str = ""
    """Channel of the recording that it was recognised in, where several were."""


Words = dict[str, tuple[Word, ...]]
"""Words by start, by the recording they are of."""


@dataclass(frozen=True)
class _Found:
    """An entry that has a text, and its times if it has any."""

    where: str
    text: str
    start: float | None
    end: float | None
    channel: str


def read_words(path: str | Path) -> Words:
    """Read words of any layout; JSON is of the recording that the file is named after.

    Words without times, as WhisperX leaves numbers, share the gap between their neighbours, and
    marks without times, as Amazon's, join the word before. Raises FormatError that names the file
    and the line, or the entry.
    """
    text = read_text(path)
    if text.lstrip()[:1] not in {"{", "["}:
        return _read_ctm(path)
    try:
        everything = list(_search(json.loads(text), "", "", str(path)))
    except (json.JSONDecodeError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON: {error}.") from None
    found = [each for each in everything if each.text.strip()]
    if not any(each.start is not None for each in found):
        raise FormatError(f"{path}: no words with times; {_CURE}.")
    if 2 * sum(len(each.text.split()) > 1 for each in found) > len(found):
        raise FormatError(f"{path}: times of sentences, not of words; {_CURE}.")
    # Some write the space before a word into it, and none within what they took apart.
    parted = any(each.text[:1].isspace() for each in found)
    words = [
        Word(
            start,
            end,
            " ".join(each.text.split()),
            not parted or each.text[:1].isspace(),
            each.channel,
        )
        for each, start, end in _timed(found)
    ]
    if median(word.end - word.start for word in words) > _LONGEST_S:
        raise FormatError(f"{path}: words of more than 10 s; give times in seconds, not in ms.")
    return {Path(path).stem: tuple(sorted(words, key=lambda word: word.start))}


def _read_ctm(path: str | Path) -> Words:
    """Read CTM, by recording."""
    words: dict[str, list[Word]] = {}
    for where, fields in read_fields(path):
        if len(fields) not in {5, 6}:
            raise FormatError(
                f"{where}: {len(fields)} fields; give JSON, or CTM: '<recording> <channel> <start> "
                "<duration> <word>'."
            )
        start = parse_seconds(fields[2], "start", where)
        end = start + parse_seconds(fields[3], "duration", where)
        words.setdefault(fields[0], []).append(Word(start, end, fields[4], channel=fields[1]))
    if not words:
        raise FormatError(f"{path}: no words; {_CURE}.")
    return {
        recording: tuple(sorted(found, key=lambda word: word.start))
        for recording, found in words.items()
    }


def _search(content: Any, where: str, channel: str, path: str) -> Iterator[_Found]:
    """Find the words below a part of a document; `where` is its place there."""
    if isinstance(content, list):
        # Of several hypotheses of the same speech the first is the best.
        rows = content[:1] if where.endswith("alternatives") else content
        for number, row in enumerate(rows):
            inside = str(number) if where.endswith("channels") else channel
            yield from _search(row, f"{where}[{number}]", inside, path)
    elif isinstance(content, dict):
        best = _first(content.get("alternatives"))
        if "content" in best:  # Amazon's: a text in each alternative, the times beside them
            content = best | {key: content[key] for key in content if key != "alternatives"}
        for holder in _HOLDERS:
            if isinstance(content.get(holder), list | dict):
                within = f"{where}.{holder}".lstrip(".")
                if found := list(_search(content[holder], within, channel, path)):
                    yield from found
                    return
        if (entry := _entry(content, where, channel, path)) is not None:
            yield entry


def _entry(content: dict[str, Any], where: str, channel: str, path: str) -> _Found | None:
    """Read an object as a word; None if it has no text, or is a segment of several words."""
    text = next((content[key] for key in _TEXT if isinstance(content.get(key), str)), None)
    if text is None or "[" not in where:
        return None
    place = f"{path}: {where}"
    start = next((content[key] for key in _START if content.get(key) is not None), None)
    end = next((content[key] for key in _END if content.get(key) is not None), None)
    if isinstance(stamps := content.get("timestamp"), list) and len(stamps) == 2:
        start, end = stamps
    return _Found(
        place, text, _seconds(start, "start", place), _seconds(end, "end", place), channel
    )


def _first(alternatives: Any) -> dict[str, Any]:
    """Return the first of a list of objects, an empty one if there is none."""
    first = alternatives[0] if isinstance(alternatives, list) and alternatives else {}
    return first if isinstance(first, dict) else {}


def _seconds(value: Any, name: str, where: str) -> float | None:
    """Read a time, which may be a text such as `1.3` or `1.3s`; raises FormatError."""
    return None if value is None else parse_seconds(str(value).removesuffix("s"), name, where)


def _timed(found: Sequence[_Found]) -> list[tuple[_Found, float, float]]:
    """Give every entry a start and an end; marks without times join the word before."""
    timed: list[tuple[_Found, float, float]] = []
    waiting: list[_Found] = []
    last = next(each.start for each in found if each.start is not None)
    for each in found:
        if each.start is None and timed and not waiting and not re.search(r"\w", each.text):
            before, start, end = timed[-1]
            timed[-1] = (replace(before, text=before.text + each.text.strip()), start, end)
        elif each.start is None:
            waiting.append(each)
        else:
            timed += _shared(waiting, last, each.start)
            waiting = []
            last = each.start if each.end is None else each.end
            if last < each.start:
                raise FormatError(
                    f"{each.where}: '{each.text.strip()}' ends at {last:g} s, before its start, "
                    f"{each.start:g} s."
                )
            timed.append((each, each.start, last))
    return timed + _shared(waiting, last, last)


def _shared(
    waiting: Sequence[_Found], start: float, end: float
) -> list[tuple[_Found, float, float]]:
    """Share a gap equally among the entries that have no times."""
    part = max(end - start, 0.0) / max(len(waiting), 1)
    return [
        (each, start + place * part, start + (place + 1) * part)
        for place, each in enumerate(waiting)
    ]
