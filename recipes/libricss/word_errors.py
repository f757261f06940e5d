"""Word error rates of separated conversations, counted by meeteval.

Source: von Neumann et al., "MeetEval: a toolkit for computation of word error rates for meeting
transcription systems" (CHiME 2023, arXiv 2307.11394).
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from meeteval.io import SegLST
from meeteval.wer import cp_word_error_rate, orc_word_error_rate, siso_word_error_rate


class Segment(NamedTuple):
    """Something that is said."""

    start: float
    """Where it begins, in seconds."""
    end: float
    voice: str
    """Who says it, or on which track it is."""
    words: str


@dataclass(frozen=True)
class WordErrors:
    """Counts of words; they add up over recordings."""

    words: int = 0
    """In the reference."""
    insertions: int = 0
    deletions: int = 0
    substitutions: int = 0

    @property
    def errors(self) -> int:
        """Errors of all kinds."""
        return self.insertions + self.deletions + self.substitutions

    @property
    def rate(self) -> float:
        """Errors over words of the reference; without any it is 0, or 1 if some were found."""
        return self.errors / self.words if self.words else float(self.errors > 0)

    def __add__(self, other: "WordErrors") -> "WordErrors":
        return WordErrors(
            self.words + other.words,
            self.insertions + other.insertions,
            self.deletions + other.deletions,
            self.substitutions + other.substitutions,
        )


def normalise(text: str) -> str:
    """Return words as they are compared: lower case, letters, digits and apostrophes within them.

    LibriSpeech's transcripts have no other characters; recognisers write some.
    """
    plain = unicodedata.normalize("NFKC", text).lower().replace("’", "'")  # noqa: RUF001 - theirs
    words = re.sub(r"[^\w']|_", " ", plain).split()
    return " ".join(word for each in words if (word := each.strip("'")))


def utterance_errors(reference: str, hypotheses: Iterable[str]) -> WordErrors:
    """Count the errors of an utterance on the track that has the fewest.

    Source: LibriCSS's own utterance-wise evaluation
    (https://github.com/chenzhuo1011/libri_css): of several results for one utterance, the one with
    the lowest word error rate is taken.
    """
    said = normalise(reference)
    found = [_counts(siso_word_error_rate(said, normalise(each))) for each in hypotheses]
    return min(found, key=lambda each: each.errors)


def cp_errors(reference: Sequence[Segment], hypothesis: Sequence[Segment]) -> WordErrors:
    """Count the errors with the words of each voice put together, under the best pairs of voices.

    The concatenated minimum-permutation word error rate (Watanabe et al., CHiME-6, 2020): words of
    another speaker are errors.
    """
    return _counts(cp_word_error_rate(_lines(reference), _lines(hypothesis)))


def orc_errors(reference: Sequence[Segment], hypothesis: Sequence[Segment]) -> WordErrors:
    """Count the errors of tracks, each utterance of the reference on the track that suits it best.

    The optimal reference combination word error rate (Sklyar et al., ICASSP 2022): who speaks does
    not matter, as tracks of separation are nobody's.
    """
    said, found = _lines(reference), _lines(hypothesis)
    if not len(found):  # meeteval 0.4.3 fails on it
        missed = sum(len(each["words"].split()) for each in said)
        return WordErrors(missed, deletions=missed)
    return _counts(orc_word_error_rate(said, found))


def _lines(segments: Sequence[Segment]) -> Any:
    """Return segments as meeteval's own, in their order; those without words are left out."""
    lines = [
        {
            "session_id": "session",
            "speaker": each.voice,
            "start_time": each.start,
            "end_time": each.end,
            "words": words,
        }
        for each in sorted(segments)
        if (words := normalise(each.words))
    ]
    return SegLST(lines)


def _counts(found: Any) -> WordErrors:
    return WordErrors(found.length, found.insertions, found.deletions, found.substitutions)
