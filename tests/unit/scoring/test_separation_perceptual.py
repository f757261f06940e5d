"""PESQ and STOI of tracks: their ends, their order, and where there is none."""

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("pesq", reason="PESQ needs the extra 'train'")
pytest.importorskip("pystoi", reason="STOI needs the extra 'train'")

from wavlm_meeting.scoring.perceptual import perceptual_figures

RATE = 16_000
Samples = NDArray[np.float32]


def voice(seconds: float) -> Samples:
    """Give something like speech: harmonics under syllables, and a pause in each second."""
    time_s = np.arange(round(seconds * RATE)) / RATE
    pitch = 120 + 20 * np.sin(2 * np.pi * 0.7 * time_s)
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    harmonics = np.stack([np.sin(order * phase) / order for order in range(1, 25)]).sum(axis=0)
    syllables = np.maximum(np.sin(2 * np.pi * 4 * time_s), 0) * (time_s % 1 < 0.8)
    return (0.2 * harmonics * syllables).astype(np.float32)


def test_a_perfect_track_has_the_highest() -> None:
    """The reference itself has the best PESQ of wide band, 4.64, and STOI 1."""
    found = perceptual_figures(voice(4), voice(4))
    assert found["pesq"] == pytest.approx(4.644, abs=1e-3)
    assert found["stoi"] == pytest.approx(1.0, abs=1e-3)


def test_more_noise_is_worse() -> None:
    """With each step of noise both figures fall."""
    noise = np.random.default_rng(0).standard_normal(4 * RATE).astype(np.float32)
    found = [perceptual_figures(voice(4), voice(4) + level * noise) for level in (0.003, 0.03, 0.3)]
    for name in ("pesq", "stoi"):
        values = [each[name] or 0.0 for each in found]
        assert values == sorted(values, reverse=True)
        assert len(set(values)) == 3


def test_long_recordings_are_cut() -> None:
    """PESQ of a long recording is the mean over its pieces in which the reference speaks."""
    noise = 0.01 * np.random.default_rng(0).standard_normal(16 * RATE).astype(np.float32)
    reference, track = voice(16), voice(16) + noise
    once = perceptual_figures(reference, track)
    thrice = perceptual_figures(np.tile(reference, 3), np.tile(track, 3))
    assert thrice["pesq"] == pytest.approx(once["pesq"], abs=1e-6)
    silence = np.zeros(16 * RATE, np.float32)
    padded = perceptual_figures(
        np.concatenate([reference, silence]), np.concatenate([track, noise])
    )
    assert padded["pesq"] == pytest.approx(once["pesq"], abs=1e-6)


def test_too_little_to_judge() -> None:
    """Silence on the track, or a moment of speech, has neither figure; nothing is raised."""
    nothing = {"pesq": None, "stoi": None}
    assert perceptual_figures(voice(2), np.zeros(2 * RATE, np.float32)) == nothing
    assert perceptual_figures(voice(0.1), voice(0.1)) == nothing
    click = np.zeros(2 * RATE, np.float32)
    click[:50] = 0.5
    assert perceptual_figures(click, click)["stoi"] is None
