"""Amplitude spectra of speech and backgrounds, of which another scene is made by products.

U recordings, T frames of 10 ms, F bins of 40 Hz.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.tiny.collection import Collection
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.fbank import HOP, WINDOW

BINS = WINDOW // 2 + 1
RATE = SAMPLE_RATE // HOP
"""Frames a second."""
LEVEL_DB = -30.0
"""Level of the speech, of full scale: Resemblyzer's authors bring there what is quieter. It hears
another voice in what is louder, and our models hear no level."""
LONGEST = 1500
"""Frames of a recording from which on it is drawn no more often than a shorter one."""


class Spectra(NamedTuple):
    """Recordings one after the other; 150 MB an hour."""

    amplitudes: NDArray[np.float16]
    """(T, F)"""
    speech: NDArray[np.bool_]
    """(T,): whether somebody speaks."""
    starts: NDArray[np.int64]
    """(U + 1,): the frame at which each begins, and the last one ends."""
    shares: NDArray[np.float64]
    """(U,): how often each is drawn; they sum to one."""

    def cut(
        self, rng: np.random.Generator, speeds: NDArray[np.float64], frames: int
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """Cut a stretch of `frames` at each of `speeds` (B,) out of recordings that are drawn.

        Returns powers (B, frames, F) and where speech is (B, frames). A recording that is too short
        begins again.
        """
        drawn = rng.choice(len(self.shares), len(speeds), p=self.shares)
        steps = np.round(np.arange(frames) * speeds[:, None]).astype(np.int64)
        first, length = self.starts[drawn], np.diff(self.starts)[drawn]
        begins = rng.integers(0, np.maximum(length - steps[:, -1], 1))
        places = first[:, None] + (begins[:, None] + steps) % length[:, None]
        return np.square(self.amplitudes[places], dtype=np.float32), self.speech[places]


def speech_spectra(collection: Collection, sources: dict[str, float], least: int) -> Spectra:
    """Return the spectra of the utterances with `least` frames of speech, all at one level.

    A source has its share of what is drawn, a second of speech the same within it. Raises
    SettingsError if there are none.
    """
    waves, masks, names = [], [], []
    for source, speakers in collection.sources.items():
        for utterance in (said for name in speakers for said in collection.voices[name]):
            wave = collection.heard(utterance.index)
            spoken = np.zeros(len(wave), np.bool_)
            for start, end in utterance.speech:
                spoken[start:end] = True
            power = max(float(np.square(wave[spoken]).mean()), 1e-12)
            waves.append(wave * np.float32(10 ** (LEVEL_DB / 20) / power**0.5))
            masks.append(spoken)
            names.append(source)
    found = _spectra(waves, masks)
    speech = np.add.reduceat(found.speech, found.starts[:-1], dtype=np.int64)
    shares = np.where(speech >= least, np.minimum(speech, LONGEST), 0).astype(np.float64)
    if not shares.any():
        raise SettingsError(f"voices: no utterance has {least / RATE:g} s of speech.")
    for source in set(names):
        own = np.array(names) == source
        shares[own] *= sources.get(source, 0.0 if sources else 1.0) / max(shares[own].sum(), 1.0)
    return found._replace(shares=shares / shares.sum())


def noise_spectra(collection: Collection) -> Spectra:
    """Return the spectra of the backgrounds, each drawn as often as any other."""
    waves = [collection.heard(index) for index, samples in collection.noises if samples >= WINDOW]
    return _spectra(waves, [np.ones(len(wave), np.bool_) for wave in waves])


def spectrum(wave: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return the amplitudes (T, F) of samples, of 25 ms centred every 10 ms."""
    found = torch.stft(
        torch.from_numpy(wave),
        WINDOW,
        HOP,
        window=torch.hann_window(WINDOW),
        pad_mode="constant",
        return_complex=True,
    )
    amplitudes: NDArray[np.float16] = found.abs().T.half().numpy()
    return amplitudes


def _spectra(waves: Sequence[NDArray[np.float32]], masks: Sequence[NDArray[np.bool_]]) -> Spectra:
    rows = [spectrum(wave) for wave in waves]
    spoken = [
        mask[np.minimum(np.arange(len(row)) * HOP, len(mask) - 1)]
        for row, mask in zip(rows, masks, strict=True)
    ]
    starts = np.cumsum([0, *map(len, rows)])
    shares = np.full(len(rows), 1 / max(len(rows), 1))
    if not rows:
        return Spectra(np.zeros((0, BINS), np.float16), np.zeros(0, np.bool_), starts, shares)
    return Spectra(np.concatenate(rows), np.concatenate(spoken), starts, shares)
