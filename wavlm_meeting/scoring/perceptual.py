"""The bridge to `pesq` and `pystoi`: how good a track sounds, and how well it is understood.

N samples.
"""

import math
import warnings

import numpy as np
from numpy.typing import NDArray
from pesq import BufferTooShortError, NoUtterancesError, pesq
from pystoi import stoi

from wavlm_meeting.units import SAMPLE_RATE

LONGEST_S = 20.0
"""PESQ is made for a few sentences (ITU-T P.862.3 asks for 8 to 12 s): what is longer is cut."""
LEAST_S = 0.5
"""PESQ and STOI need so much at least."""

Samples = NDArray[np.float32]


def perceptual_figures(reference: Samples, track: Samples) -> dict[str, float | None]:
    """Return `pesq` (1.0 to 4.6) and `stoi` (0 to 1) of a track (N,) beside its reference (N,).

    PESQ is that of wide-band speech (ITU-T P.862.2), the mean over equal pieces of at most 20 s
    in which the reference speaks; STOI is that of Taal et al. (IEEE TASLP 19(7), 2011). None where
    there is too little speech, or the track is silent.
    """
    if len(track) < LEAST_S * SAMPLE_RATE or not track.any():
        return {"pesq": None, "stoi": None}
    pieces = math.ceil(len(track) / (LONGEST_S * SAMPLE_RATE))
    pairs = zip(np.array_split(reference, pieces), np.array_split(track, pieces), strict=True)
    found = [value for pair in pairs if (value := _pesq(*pair)) is not None]
    return {
        "pesq": sum(found) / len(found) if found else None,
        "stoi": _stoi(reference, track),
    }


def _pesq(reference: Samples, track: Samples) -> float | None:
    """Return the PESQ of a piece, None without speech in the reference, or of a silent track."""
    if not track.any():
        return None
    try:
        return float(pesq(SAMPLE_RATE, reference, track, "wb"))
    except (BufferTooShortError, NoUtterancesError):
        return None


def _stoi(reference: Samples, track: Samples) -> float | None:
    """Return the STOI, None where 30 frames of speech are not there."""
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "Not enough STFT frames", RuntimeWarning)
        try:
            return float(stoi(reference, track, SAMPLE_RATE))
        except RuntimeWarning:
            return None
