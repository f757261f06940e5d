"""What a diarization gives."""

from dataclasses import dataclass
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
    """Mean probability, over the turn, that this speaker is active."""


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

    @property
    def speakers(self) -> list[str]:
        """Return the speakers in the order of their first turn."""
        return list(dict.fromkeys(turn.speaker for turn in self.turns))

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
                {"start": t.start, "end": t.end, "speaker": t.speaker, "confidence": t.confidence}
                for t in self.turns
            ],
            "overlaps": [{"start": start, "end": end} for start, end in self.overlaps],
            "model": self.model,
            "model_sha256": self.model_sha256,
        }
