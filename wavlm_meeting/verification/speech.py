"""Where a recording holds speech, by its level, and whether there is enough of it for a voice.

What is loud against the rest of its recording counts as speech, and a recording that is all alike,
a hum or a hiss, holds none. That needs no model, and it is as good as the recording is quiet
otherwise: music, a slamming door or a second voice count too, and a voice that drowns in noise does
not. Of close recordings it finds about what a neural detector finds (docs/log.md).

N samples, F frames.
"""

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, uniform_filter1d

from wavlm_meeting.errors import AudioError, AudioWarning
from wavlm_meeting.units import SAMPLE_RATE

FRAME = SAMPLE_RATE // 100
"""Samples of a frame: 10 ms."""
LEAST_S = 0.5
"""Seconds of speech that a voice needs."""
CLIPPED = 0.001
"""Share of samples that are cut off from which on a recording counts as clipped."""

_AROUND = 3  # frames that each level is measured over
_LOUD = 30  # frames whose level is that of the recording's speech: the loudest ones
_QUIET = 0.05  # share of the frames whose level is that of its noise
_BELOW_DB = 30.0  # how far speech goes down from its highest level
_ABOVE_DB = 6.0  # how far it stands above the noise, at least
_RANGE_DB = 12.0  # less between the loud and the quiet of a recording is no speech
_SILENT_DB = -80.0  # of full scale; digital silence and dither lie below
_PAUSE = 20  # frames of the longest pause that belongs to the speech around it

_FULL_SCALE = 0.985  # less than 1: lossy codecs round off what was cut
_FLAT = 3  # samples in a row that make a flat top


@dataclass(frozen=True)
class Speech:
    """What the level says of a recording."""

    frames: NDArray[np.bool_]
    """(F,): whether there is speech in each frame of 10 ms."""
    clipped: float
    """Share of all samples that lie on tops cut off at full scale."""
    silent: bool
    """Whether nothing sounds at all."""

    @property
    def seconds(self) -> float:
        """Return how much speech there is."""
        return int(self.frames.sum()) * FRAME / SAMPLE_RATE


def speech_of(samples: NDArray[np.float32]) -> Speech:
    """Find speech in samples (N,) at 16 kHz, from -1 to 1."""
    levels = _levels_db(samples)
    sounding = levels[levels > _SILENT_DB]  # digital silence says nothing of the noise
    if not sounding.size:
        return Speech(np.zeros(len(levels), np.bool_), 0.0, silent=True)
    loud = float(np.sort(sounding)[-min(_LOUD, len(sounding) // 4 + 1)])
    # What sounds for so short a time tells nothing of the noise either.
    noise = float(np.quantile(sounding, _QUIET)) if len(sounding) > 2 * _LOUD else _SILENT_DB
    frames = levels > max(noise + _ABOVE_DB, loud - _BELOW_DB, _SILENT_DB)
    if loud - noise < _RANGE_DB:
        frames[:] = False
    padded = np.pad(frames, _PAUSE)  # closing must not reach beyond the ends
    frames = binary_closing(padded, np.ones(_PAUSE + 1, np.bool_))[_PAUSE:-_PAUSE]
    return Speech(frames, _clipped_share(samples), silent=False)


def check_speech(samples: NDArray[np.float32], where: str, *, enough: bool = True) -> Speech:
    """Return the speech in samples (N,), after refusing or warning of what spoils a voice.

    `where` names them in messages. With `enough` false, too little speech is a warning as well.
    Raises AudioError for silence or under 0.5 s of speech; gives an AudioWarning where samples are
    clipped.
    """
    speech = speech_of(samples)
    message = ""
    if speech.silent:
        message = f"{where}: silent; check the microphone, or name another --channel."
    elif speech.seconds < LEAST_S:
        message = (
            f"{where}: {speech.seconds:.2f} s of speech; a voice needs {LEAST_S} s at least, and "
            "10 s are better."
        )
    if message and enough:
        raise AudioError(message)
    if speech.clipped > CLIPPED:
        warnings.warn(
            f"{where}: {100 * speech.clipped:.1f} % of the samples are cut off at full scale, "
            "which changes a voice; record again at a lower level.",
            AudioWarning,
            stacklevel=2,
        )
    if message:
        warnings.warn(message, AudioWarning, stacklevel=2)
    return speech


def _levels_db(samples: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the level around each whole frame of samples (N,), (F,), in dB of full scale."""
    frames = len(samples) // FRAME
    power = np.square(samples[: frames * FRAME].astype(np.float64)).reshape(frames, FRAME).mean(1)
    return 10.0 * np.log10(uniform_filter1d(power, _AROUND, mode="nearest") + 1e-12)


def _clipped_share(samples: NDArray[np.float32]) -> float:
    """Return the share of samples (N,) that lie in runs at full scale."""
    high = np.abs(samples) >= _FULL_SCALE
    runs = np.flatnonzero(np.diff(np.concatenate([[False], high, [False]])))
    lengths = runs[1::2] - runs[::2]
    return float(lengths[lengths >= _FLAT].sum()) / len(samples)
