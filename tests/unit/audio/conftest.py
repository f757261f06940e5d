"""Signals to write files from: real speech, and a voice-like sound where there is none."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

RATE = 16_000


@pytest.fixture(scope="session")
def speech(shared_dir: Path) -> NDArray[np.float32]:
    """Give 8 s of two people on the telephone, (N,) at 16 kHz, in steps of 16 bits."""
    path = shared_dir / "corpus/meetings/pyannote_sample.flac"
    samples, rate = soundfile.read(path, start=8 * RATE, stop=16 * RATE, dtype="float32")
    assert rate == RATE
    return np.asarray(samples)


@pytest.fixture(scope="session")
def voice() -> NDArray[np.float32]:
    """Give 3.5 s of a gliding, harmonic, syllable-like sound, (N,) at 16 kHz, in steps of 16 bits.

    It holds nothing above 4 kHz.
    """
    time_s = np.arange(int(3.5 * RATE)) / RATE
    phase = 2 * np.pi * np.cumsum(140 + 30 * np.sin(2 * np.pi * 0.7 * time_s)) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 21))
    syllables = 0.5 - 0.5 * np.cos(2 * np.pi * 4 * time_s)
    samples = 0.3 * syllables * tone / np.abs(tone).max()
    return (np.round(samples * 32768) / 32768).astype(np.float32)
