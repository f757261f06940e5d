"""What a diarization gives."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pyannote.core import Annotation, Segment

from wavlm_meeting.formats.rttm import write_rttm


@dataclass(frozen=True)
class Turn:
    """A stretch in which one speaker speaks."""

    start: float
    """Seconds from the beginning of the recording."""
    end: float
    """Seconds from the beginning of the recording."""
    speaker: str
    """Name of the speaker within this recording, SPEAKER_00 for who speaks first."""
    confidence: float
    """Share of the turn, from 0 to 1, in which this speaker is expected to speak; for a model that
    was not calibrated the mean probability of that, which is too high as a rule."""
    overlap: float = 0.0
    """Share of the turn, from 0 to 1, in which others speak too."""
    likeness: float = 1.0
    """Cosine between the voice in this turn and the speaker's mean one; 1 if not compared."""


@dataclass(frozen=True)
class Diarization:
    """Who spoke when in one recording."""

    uri: str
    """Name of the recording: its file name without suffix."""
    duration_s: float
    """Length of the recording in seconds."""
    turns: tuple[Turn, ...]
    """All turns by start."""
    overlaps: tuple[tuple[float, float], ...]
    """(start, end) in seconds of the stretches in which more than one speaks."""
    model: str
    """Name of the model."""
    model_sha256: str
    """SHA-256 of its parameters."""
    speaker_counts: dict[int, float] = field(default_factory=dict, hash=False)
    """Probability of each number of speakers; empty if it was not estimated."""

    @property
    def speakers(self) -> list[str]:
        """Return the speakers in the order of their first turn."""
        return list(dict.fromkeys(turn.speaker for turn in self.turns))

    def exclusive(self) -> "Diarization":
        """Return the same with one speaker at a time, as aligners of transcripts want it.

        Where several speak, the turn of the highest confidence is kept, of equal ones the first to
        begin. Whenever somebody spoke somebody does; who is never the surest is left out. That
        others speak too is still said by `overlaps` and each turn's `overlap`. The pipeline's own
        `exclusive` knows the probability of each frame and chooses better.
        """
        return replace(self, turns=tuple(_surest(self.turns)))

    def to_annotation(self) -> Annotation:
        """Return the turns as a pyannote.core Annotation."""
        annotation = Annotation(uri=self.uri)
        for track, turn in enumerate(self.turns):
            annotation[Segment(turn.start, turn.end), track] = turn.speaker
        return annotation

    def write_rttm(self, path: str | Path) -> None:
        """Write the turns as RTTM, at once or not at all."""
        write_rttm(self.to_annotation(), path)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "uri": self.uri,
            "duration_s": self.duration_s,
            "turns": [
                {
                    "start": turn.start,
                    "end": turn.end,
                    "speaker": turn.speaker,
                    "confidence": turn.confidence,
                    "overlap": turn.overlap,
                    "likeness": turn.likeness,
                }
                for turn in self.turns
            ],
            "overlaps": [{"start": start, "end": end} for start, end in self.overlaps],
            "speaker_counts": [
                {"speakers": count, "probability": probability}
                for count, probability in sorted(self.speaker_counts.items())
            ],
            "model": self.model,
            "model_sha256": self.model_sha256,
        }


def _surest(turns: Sequence[Turn]) -> Iterator[Turn]:
    """Give the pieces of turns in which each is the surest one, by start."""
    turn, start, end, shared_s = None, 0.0, 0.0, 0.0  # the piece that may go on
    for begin, until, speaking in _stretches(turns):
        surest = max(speaking, key=lambda each: (each.confidence, -each.start))
        if turn is not None and (surest is not turn or begin != end):
            yield _piece(turn, start, end, shared_s)
        if surest is not turn or begin != end:
            turn, start, shared_s = surest, begin, 0.0
        end = until
        shared_s += until - begin if len(speaking) > 1 else 0.0
    if turn is not None:
        yield _piece(turn, start, end, shared_s)


def _stretches(turns: Iterable[Turn]) -> Iterator[tuple[float, float, list[Turn]]]:
    """Cut time wherever a turn begins or ends: (start, end, turns) of each stretch with speech."""
    waiting = sorted(turns, key=lambda turn: turn.start, reverse=True)
    edges = sorted({time for turn in waiting for time in (turn.start, turn.end)})
    speaking: list[Turn] = []
    for start, end in pairwise(edges):
        speaking = [turn for turn in speaking if turn.end > start]
        while waiting and waiting[-1].start == start:
            speaking.append(waiting.pop())
        if speaking:
            yield start, end, speaking


def _piece(turn: Turn, start: float, end: float, shared_s: float) -> Turn:
    """Cut a piece out of a turn, shared with others for `shared_s`."""
    return replace(turn, start=start, end=end, overlap=round(shared_s / (end - start), 3))
