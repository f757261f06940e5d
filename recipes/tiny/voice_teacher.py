"""What Resemblyzer says of stretches of a recording, in the directions in which voices differ.

P partials, T frames, D directions.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from resemblyzer.audio import wav_to_mel_spectrogram

from wavlm_meeting.devices import in_bfloat16
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.tiny.teachers import EMBEDDING, voice_encoder

MEL_RATE = 100
"""Frames of a spectrogram a second."""
PARTIAL, STEP = 160, 40
"""Frames that the teacher hears at a time, and from one such stretch to the next."""
LEAST = 60
"""Frames of speech without which nothing is said of a recording; up to `PARTIAL` are repeated."""
AT_ONCE = 256
"""Stretches that the teacher takes at a time."""
LEVEL_DB = -30.0
"""Level of the speech that it hears, of full scale. Its authors bring there what is quieter; what
is louder would be another voice to it, and our encoder knows no levels."""

Floats = NDArray[np.float32]


class Directions(NamedTuple):
    """The space of training voices: the teacher's embeddings have a large mean in common."""

    mean: Floats
    """(256,)"""
    basis: Floats
    """(256, D): the directions in which most of training is, orthonormal."""

    def __call__(self, embeddings: Floats) -> Floats:
        """Return unit vectors (..., D) of embeddings (..., 256) around the mean."""
        inside = (embeddings - self.mean) @ self.basis
        units: Floats = inside / np.maximum(np.linalg.norm(inside, axis=-1, keepdims=True), 1e-8)
        return units


class Partials(NamedTuple):
    """What was said of a recording."""

    embeddings: Floats
    """(P, 256) of unit length."""
    spans: NDArray[np.float64]
    """(P, 2): seconds of the recording from which to which each rests on."""


def find_directions(work: Path, count: int) -> Directions:
    """Find the mean and main directions of the voices of training that `prepare` has described.

    Raises SettingsError if there are fewer voices than directions.
    """
    with np.load(work / "utterances.npz") as table:
        voices = table["teacher"][(table["split"] == "train") & (table["kind"] == "speech")]
    voices = voices[voices.any(axis=1)]
    if len(voices) <= count:
        raise SettingsError(
            f"{work}: {len(voices)} voices of training; {count} directions need more of them."
        )
    mean = voices.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov((voices - mean).T))
    return Directions(mean, directions[:, ::-1][:, :count].astype(np.float32))


def describe(waveforms: Floats, speech: NDArray[np.bool_]) -> list[Partials]:
    """Ask the teacher about each stretch of the speech in waveforms (B, N), pauses left out.

    `speech` (B, T) says where it is, in frames of equal length.
    """
    heard = [_stretches(*pair) for pair in zip(waveforms, speech, strict=True)]
    mels = np.concatenate([each for each, _ in heard])
    if not len(mels):
        return [Partials(np.zeros((0, EMBEDDING), np.float32), spans) for _, spans in heard]
    with torch.inference_mode(), in_bfloat16("cpu", wanted=True):
        found = [voice_encoder()(part) for part in torch.from_numpy(mels).split(AT_ONCE)]
    embeddings = torch.cat(found).float().numpy()
    ends = np.cumsum([len(spans) for _, spans in heard])
    return [
        Partials(own, spans)
        for own, (_, spans) in zip(np.split(embeddings, ends[:-1]), heard, strict=True)
    ]


def _stretches(waveform: Floats, speech: NDArray[np.bool_]) -> tuple[Floats, NDArray[np.float64]]:
    """Return spectrograms (P, 160, 40) of stretches of speech, and the seconds that they span."""
    mels = wav_to_mel_spectrogram(_levelled(waveform, speech))
    frames = np.arange(len(mels))
    heard = np.flatnonzero(speech[frames * len(speech) // len(mels)])
    if len(heard) < LEAST:
        return np.zeros((0, PARTIAL, mels.shape[1]), np.float32), np.zeros((0, 2))
    if len(heard) < PARTIAL:
        heard = np.resize(heard, PARTIAL)
    stretches = [heard[n : n + PARTIAL] for n in range(0, len(heard) - PARTIAL + 1, STEP)]
    spans = np.array([(own.min(), own.max() + 1) for own in stretches]) / MEL_RATE
    return mels[np.stack(stretches)], spans


def _levelled(waveform: Floats, speech: NDArray[np.bool_]) -> Floats:
    """Bring speech to the level at which the teacher is asked."""
    spoken = np.repeat(speech, -(-len(waveform) // len(speech)))[: len(waveform)]
    power = float(np.square(waveform[spoken]).mean()) if spoken.any() else 0.0
    return waveform * np.float32(10 ** (LEVEL_DB / 20) / max(power, 1e-12) ** 0.5)
