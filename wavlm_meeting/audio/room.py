"""A place in a room, and the impulse response that stands for it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.units import SAMPLE_RATE


@dataclass(frozen=True)
class Room:
    """A place in a room: the response is direct sound and exponentially decaying noise.

    Polack's statistical model; `equaliser_db` are gains at bands spread evenly over the mel scale
    and stand for the microphone and the voice's direction.
    """

    reverberation_s: float
    direct_to_reverberant_db: float
    equaliser_db: tuple[float, ...]
    seed: int


def tilted(equaliser_db: Sequence[float], slope_db: float) -> tuple[float, ...]:
    """Let an equaliser rise by `slope_db` in each octave, from 100 Hz on, 0 at 1 kHz."""
    mel = np.linspace(0.0, np.log1p(SAMPLE_RATE / 2 / 700.0), len(equaliser_db))
    octaves = np.log2(np.maximum(700.0 * np.expm1(mel), 100.0) / 1000.0)
    return tuple(equaliser_db + slope_db * octaves)


def room_response(room: Room) -> NDArray[np.float32]:
    """Return the impulse response of a place in a room, direct sound at unit energy first."""
    rng = np.random.default_rng(room.seed)
    length = max(256, int(room.reverberation_s * SAMPLE_RATE))
    response = np.zeros(length)
    if room.reverberation_s > 0:
        time = np.arange(length) / SAMPLE_RATE
        tail = rng.standard_normal(length) * np.exp(-6.908 * time / room.reverberation_s)
        tail[: int(0.0025 * SAMPLE_RATE)] = 0.0
        energy = 10 ** (-room.direct_to_reverberant_db / 10)
        response = tail * np.sqrt(energy / np.sum(tail**2))
    response[0] += 1.0
    spectrum = np.fft.rfft(response, 2 * length)
    mel = np.log1p(np.fft.rfftfreq(2 * length, 1 / SAMPLE_RATE) / 700.0)
    bands = np.linspace(0.0, mel[-1], len(room.equaliser_db))
    spectrum *= _minimum_phase(np.interp(mel, bands, room.equaliser_db))
    return np.fft.irfft(spectrum)[:length].astype(np.float32)


def _minimum_phase(gains_db: NDArray[np.float64]) -> NDArray[np.complex128]:
    """Return the spectrum that has these gains and whose response begins at sample 0.

    By folding its cepstrum: of a spectrum that is real, half of the response lies before 0.
    """
    cepstrum = np.fft.irfft(gains_db * (np.log(10) / 20))
    half = len(cepstrum) // 2
    cepstrum[1:half] *= 2.0
    cepstrum[half + 1 :] = 0.0
    spectrum: NDArray[np.complex128] = np.exp(np.fft.rfft(cepstrum))
    return spectrum
