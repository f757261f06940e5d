"""Who said what: the toolkit's JSON, text, subtitles, and what meeting recognition is scored on.

JSON is laid out as WhisperX's, so that whatever reads that reads it, `formats.words` too. STM is
NIST's segment time mark file (SCTK, "Input File Formats"), SegLST the list of segments of the CHiME
challenges; meeteval reads both.
"""

import json
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.document import Stretch
from wavlm_meeting.formats.json import write_json
from wavlm_meeting.formats.lines import as_field, speaker_fields
from wavlm_meeting.formats.subtitles import Cue, write_srt, write_vtt
from wavlm_meeting.formats.words import Word

CUE_CHARACTERS = 84
"""Of one subtitle at most: two lines of 42, the longest that broadcasters allow."""
CUE_S = 7.0
"""And its length."""

_SHOWN_S = 0.001  # of a subtitle whose words have no length: players show none of length zero


class SpokenWord(Stretch):
    """A word and when it is said."""

    word: str
    """With a space before it where one parts it from the word before."""


class Segment(Stretch):
    """What one speaker says without a pause."""

    speaker: str
    text: str
    words: tuple[SpokenWord, ...]


class Transcript(Settings):
    """Who said what in one recording; times in seconds, to the millisecond."""

    uri: str
    """The recording's name."""

    segments: tuple[Segment, ...]
    """By start."""


def segment_of(speaker: str, words: Sequence[Word]) -> Segment:
    """Make a segment of one speaker's words, one or more."""
    return Segment(
        start=round(words[0].start, 3),
        end=round(max(word.end for word in words), 3),
        speaker=speaker,
        text=text_of(words),
        words=tuple(
            SpokenWord(
                start=round(word.start, 3),
                end=round(word.end, 3),
                word=f" {word.text}" if word.spaced else word.text,
            )
            for word in words
        ),
    )


def text_of(words: Iterable[Word]) -> str:
    """Join words; scripts that write none take no spaces."""
    text = ""
    for word in words:
        spaced = text and word.spaced and not (_unspaced(text[-1]) and _unspaced(word.text[0]))
        text += f" {word.text}" if spaced else word.text
    return text


def write_text(transcript: Transcript, path: Path) -> None:
    """Write `Speaker: words`, a line a segment."""
    with atomic_write(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines_of(transcript)), "utf-8")


def lines_of(transcript: Transcript) -> Iterator[str]:
    """Give `Speaker: words` for each segment."""
    for segment in transcript.segments:
        yield f"{as_field(segment.speaker, 'speaker', ' ')}: {segment.text}"


def write_seglst(transcript: Transcript, path: Path) -> None:
    """Write a list of segments, as meeteval reads it."""
    rows = [
        {
            "session_id": transcript.uri,
            "speaker": segment.speaker,
            "start_time": segment.start,
            "end_time": segment.end,
            "words": segment.text,
        }
        for segment in transcript.segments
    ]
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(rows, indent=2, ensure_ascii=False) + "\n", "utf-8")


def write_stm(transcript: Transcript, path: Path) -> None:
    """Write `<recording> 1 <speaker> <start> <end> <words>` for each segment.

    Spaces in names become `_`. Raises FormatError if two speakers would get the same name.
    """
    uri = as_field(transcript.uri, "recording's name (uri)")
    names = speaker_fields({each.speaker: None for each in transcript.segments}, uri)
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for segment in transcript.segments:
            times = f"{segment.start:.3f} {segment.end:.3f}"
            file.write(f"{uri} 1 {names[segment.speaker]} {times} {segment.text}\n")


def cues_of_transcript(transcript: Transcript) -> Iterator[Cue]:
    """Give subtitles of up to 84 characters and 7 s; only a longer word makes a longer one."""
    for segment in transcript.segments:
        shown: list[Word] = []
        for each in segment.words:
            word = Word(each.start, each.end, each.word.strip(), each.word[:1] == " ")
            longer = [*shown, word]
            if shown and (
                len(text_of(longer)) > CUE_CHARACTERS or word.end - shown[0].start > CUE_S
            ):
                yield _cue(segment.speaker, shown)
                longer = [word]
            shown = longer
        if shown:
            yield _cue(segment.speaker, shown)


class TranscriptFormat(NamedTuple):
    """How transcripts are written."""

    suffix: str
    """What the names of its files end in."""
    write: Callable[[Transcript, Path], None]
    """Writes one, whole or not at all."""


TRANSCRIPTS: Mapping[str, TranscriptFormat] = MappingProxyType(
    {
        "seglst": TranscriptFormat(".seglst.json", write_seglst),
        "json": TranscriptFormat(".json", write_json),
        "text": TranscriptFormat(".txt", write_text),
        "srt": TranscriptFormat(
            ".srt", lambda found, path: write_srt(cues_of_transcript(found), path)
        ),
        "vtt": TranscriptFormat(
            ".vtt", lambda found, path: write_vtt(cues_of_transcript(found), path)
        ),
        "stm": TranscriptFormat(".stm", write_stm),
    }
)
"""By name; the first whose suffix a file's name ends in is its format."""


def transcript_format(path: Path, name: str | None = None) -> TranscriptFormat:
    """Return the format of this name, or what the file's name ends in.

    Raises SettingsError for a name, and FormatError for an ending, that there is not.
    """
    if name is not None:
        if found := TRANSCRIPTS.get(name.lower()):
            return found
        close = get_close_matches(name.lower(), TRANSCRIPTS, n=1)
        cure = f"did you mean '{close[0]}'?" if close else f"choose from {', '.join(TRANSCRIPTS)}."
        raise SettingsError(f"--to: unknown format '{name}': {cure}")
    for each in TRANSCRIPTS.values():
        if path.name.lower().endswith(each.suffix):
            return each
    known = ", ".join(each.suffix for each in TRANSCRIPTS.values())
    raise FormatError(f"{path}: no format of transcripts ends in '{path.suffix}'; known: {known}.")


def _cue(speaker: str, words: Sequence[Word]) -> Cue:
    start, end = words[0].start, max(word.end for word in words)
    return Cue(start, max(end, start + _SHOWN_S), speaker, text_of(words))


def _unspaced(character: str) -> bool:
    """Whether a character is of a script that parts no words: Chinese, Japanese, their marks."""
    wide = unicodedata.east_asian_width(character) in {"W", "F"}
    return wide and "HANGUL" not in unicodedata.name(character, "")
