"""Recordings of noise whose loudness says who speaks, for tests of diarization's training."""

from pathlib import Path

import numpy as np
import soundfile
from pyannote.core import Annotation, Segment

from wavlm_meeting.training.diarization_recordings import Conversation, conversation_of

RATE = 16_000
TURNS = ((1.0, 4.0, "a"), (3.0, 6.0, "b"), (8.0, 9.5, "a"))


def write_conversation(
    path: Path, turns: tuple[tuple[float, float, str], ...] = TURNS, *, rate: int = RATE
) -> Annotation:
    """Write 10 s in two channels: each speaker's noise is in a channel of their own."""
    rng = np.random.default_rng(len(path.stem))
    samples = 1e-4 * rng.standard_normal((10 * rate, 2))
    reference = Annotation(uri=path.stem)
    for number, (start, end, name) in enumerate(turns):
        first, last = int(start * rate), int(end * rate)
        samples[first:last, ord(name) - ord("a")] = 0.1 * rng.standard_normal(last - first)
        reference[Segment(start, end), number] = name
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate)
    return reference


def small_conversation(path: Path, **options: int) -> Conversation:
    """Write one and describe it."""
    return conversation_of(path.stem, path, write_conversation(path, **options))


def single_voice(path: Path, speaker: str, level: float = 0.1) -> Conversation:
    """Write 3 s of one speaker: speech from 0.5 to 1.5 and from 2 to 2.5 s."""
    rng = np.random.default_rng(int(1000 * level))
    samples = np.zeros(3 * RATE)
    reference = Annotation(uri=path.stem)
    for start, end in ((0.5, 1.5), (2.0, 2.5)):
        first, last = int(start * RATE), int(end * RATE)
        samples[first:last] = level * rng.standard_normal(last - first)
        reference[Segment(start, end), start] = speaker
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)
    return conversation_of(path.stem, path, reference)
