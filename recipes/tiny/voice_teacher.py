"""What Resemblyzer says of stretches of speech, in the directions in which voices differ.

B batch, T frames, F bins, D' size of embeddings, D directions, P partials, M voices.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import librosa
import numpy as np
import torch
from numpy.typing import NDArray
from resemblyzer import hparams
from torch import Tensor

from wavlm_meeting.devices import in_bfloat16
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.tiny.collection import as_recorded
from wavlm_meeting.recipes.tiny.teachers import EMBEDDING, voice_encoder
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.fbank import WINDOW

PARTIAL = hparams.partials_n_frames
"""Frames that the teacher hears at a time: 1.6 s."""
LEAST = 80
"""Frames of speech without which nothing is said of a stretch; up to `PARTIAL` are repeated."""

Floats = NDArray[np.float32]


class Directions(NamedTuple):
    """The space of training voices: the teacher's embeddings have a large mean in common."""

    mean: Floats
    """(D',)"""
    basis: Floats
    """(D', D): the directions in which most of training is, orthonormal."""

    def __call__(self, embeddings: Floats) -> Floats:
        """Return unit vectors (..., D) of embeddings (..., D') around the mean."""
        inside = (embeddings - self.mean) @ self.basis
        units: Floats = inside / np.maximum(np.linalg.norm(inside, axis=-1, keepdims=True), 1e-8)
        return units


def find_directions(work: Path, count: int) -> Directions:
    """Find the mean and main directions of the voices of training that `prepare` has described.

    Raises SettingsError if there are fewer voices than directions.
    """
    with np.load(work / "utterances.npz") as table:
        own = (table["split"] == "train") & (table["kind"] == "speech")
        voices = table["teacher"][own & as_recorded(table["path"], table["kind"])]
    voices = voices[voices.any(axis=1)]
    if len(voices) <= count:
        raise SettingsError(
            f"{work}: {len(voices)} voices of training; {count} directions need more of them."
        )
    return main_directions(voices, count)


def main_directions(voices: Floats, count: int) -> Directions:
    """Return the mean of embeddings (M, D') and the directions in which most of them differ."""
    mean = voices.mean(axis=0)
    _, directions = np.linalg.eigh(np.cov((voices - mean).T))
    return Directions(mean, directions[:, ::-1][:, :count].astype(np.float32))


@cache
def teacher_filters() -> Tensor:
    """Return the teacher's bands as filters (F, 40) of power."""
    bands = librosa.filters.mel(
        sr=SAMPLE_RATE, n_fft=WINDOW, n_mels=hparams.mel_n_channels, dtype=np.float32
    )
    return torch.from_numpy(bands.T).contiguous()


def describe(bands: Tensor, speech: NDArray[np.bool_]) -> Floats:
    """Ask the teacher about the speech in its bands (B, T, 40): (B, 256), the mean of its answers.

    Frames in which `speech` (B, T) is false are left out. It is asked about as many stretches of
    1.6 s as there are, and overlapping ones where they do not fill the time. Where there is hardly
    any speech, it says nothing: zeros.
    """
    partials, rows = [], []
    for row, spoken in enumerate(speech):
        for frames in stretches(spoken):
            partials.append(bands[row, torch.from_numpy(frames)])
            rows.append(row)
    means = np.zeros((len(bands), EMBEDDING), np.float32)
    if partials:
        with torch.inference_mode(), in_bfloat16("cpu", wanted=True):
            found = voice_encoder()(torch.stack(partials)).float().numpy()
        np.add.at(means, rows, found)
        means /= np.maximum(np.bincount(rows, minlength=len(bands)), 1)[:, None]
    return means


def stretches(spoken: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the frames (P, 160) of each stretch that the teacher hears of frames (T,)."""
    frames = np.flatnonzero(spoken)
    if len(frames) < LEAST:
        return np.zeros((0, PARTIAL), np.int64)
    frames = np.resize(frames, max(len(frames), PARTIAL))
    count = max(1, round(len(frames) / PARTIAL))
    begins = np.linspace(0, len(frames) - PARTIAL, count).astype(np.int64)
    return frames[begins[:, None] + np.arange(PARTIAL)]
