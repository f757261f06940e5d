"""Who is too faint to belong to a recording: people in the next room, or before it begins.

The encoder hears relative to each window's level, so that speech 40 dB below all else is speech to
the heads, where a listener, and whoever writes a reference, hears silence.

N samples of a window, T its frames, S local speakers.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.diarization.heard import LocalSpeakers, ReadableWindows

SILENCE_DB = -120.0
"""Level of digital silence, dBFS."""
LOUD_SHARE = 0.9
"""Share of the speech that is no louder than what counts as loud."""
_BINS = 161  # of 1 dB, from SILENCE_DB on: samples may be far above full scale


def speech_levels(
    samples: NDArray[np.float32], masks: NDArray[np.float32], hop: int, first: int
) -> NDArray[np.float32]:
    """Return the level (S,) of each local speaker of a window, dBFS; silence for who never speaks.

    It is the median over the frames of `masks` (S, T), which are 0 or 1: a door that slams in a
    pause is no speech. A frame's is that of `hop` of the samples (N,), from `first` on for frame 0.
    Levels are rounded to what float16 holds.
    """
    frames = masks.shape[1]
    parts = samples[first : first + frames * hop].reshape(frames, hop)
    power = np.einsum("fh,fh->f", parts, parts) / hop
    levels = 10 * np.log10(power + 10 ** (SILENCE_DB / 10))
    medians = [np.median(levels[mask > 0]) if mask.any() else SILENCE_DB for mask in masks]
    return np.array(medians, np.float16).astype(np.float32)


class Loudness:
    """How loud the speech of a recording is, to 1 dB, however long it lasts."""

    def __init__(self) -> None:
        self._seconds = np.zeros(_BINS)

    def add(self, local: LocalSpeakers) -> None:
        """Take in the local speakers of a window."""
        place = np.clip(np.rint(local.levels - SILENCE_DB), 0, _BINS - 1).astype(np.int64)
        np.add.at(self._seconds, place, local.speech_s)

    @property
    def loud_db(self) -> float:
        """Return the level that all but the loudest tenth of the speech stays below, dBFS."""
        so_far = np.cumsum(self._seconds)
        return float(SILENCE_DB + np.searchsorted(so_far, LOUD_SHARE * so_far[-1]))


def without_faint(local: LocalSpeakers, least_db: float) -> LocalSpeakers:
    """Return a window without what local speakers say who are fainter than `least_db`, dBFS."""
    audible = local.levels >= least_db
    if audible[local.speech_s > 0].all():
        return local
    activity = np.where(audible, local.activity, np.float32(0))
    share = activity.sum(axis=1) / np.maximum(local.activity.sum(axis=1), 1e-8)
    speech_s = np.where(audible, local.speech_s, 0.0)
    return replace(local, activity=activity, speech_s=speech_s, audible=share)


class Audible:
    """The windows of a recording, without local speakers far fainter than its loud ones."""

    def __init__(self, local: ReadableWindows, faint_db: float) -> None:
        """Listen once to all windows, which are read anew each time; `faint_db` is how far."""
        loudness = Loudness()
        for window in local:
            loudness.add(window)
        self._local, self._least_db = local, loudness.loud_db - faint_db

    def __len__(self) -> int:
        """Return how many windows there are."""
        return len(self._local)

    def __iter__(self) -> Iterator[LocalSpeakers]:
        """Give the windows, from the first one on."""
        return (without_faint(window, self._least_db) for window in self._local)
