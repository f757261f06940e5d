"""Simulated rooms with an array in them: laws of sound."""

import numpy as np
import pytest

pytest.importorskip("pyroomacoustics", reason="recipes need the extra 'train'")

from pyroomacoustics.experimental import measure_rt60

from wavlm_meeting.recipes.libricss.rooms import MICROPHONES, RADIUS_M, RoomSettings, simulate_room

RATE, SOUND_M_S = 16_000, 343.0


def rooms(**settings: object) -> list[np.ndarray]:
    """Simulate a few rooms."""
    chosen = RoomSettings.model_validate({"places": 3, **settings})
    return [simulate_room(np.random.default_rng(seed), chosen) for seed in range(3)]


def test_sound_takes_no_longer_than_the_array_is_wide() -> None:
    """First sounds reach the middle within a radius of the circle's, and all of it within two."""
    for responses in rooms(reverberation_s=(0.1, 0.1)):
        assert responses.shape[:2] == (4, MICROPHONES)
        arrivals = np.abs(responses).argmax(axis=2)  # (P, C)
        radius = RADIUS_M / SOUND_M_S * RATE
        assert (np.abs(arrivals - arrivals[:, :1]) <= radius + 1).all()
        assert (np.ptp(arrivals, axis=1) <= 2 * radius + 1).all()
        assert np.ptp(arrivals, axis=1).max() > 1  # and it does take time


def test_walls_reverberate_as_long_as_drawn() -> None:
    """The reverberation time measured on the responses is near the drawn one."""
    for wanted_s in (0.2, 0.4):
        measured = [
            measure_rt60(response, fs=RATE, decay_db=20)
            for responses in rooms(reverberation_s=(wanted_s, wanted_s))
            for response in responses[:, 0]
        ]
        assert np.median(measured) == pytest.approx(wanted_s, rel=0.35)


def test_the_same_seed_is_the_same_room() -> None:
    """Rooms are numbered: each is the same in every run, and unlike the others."""
    first, second = rooms(), rooms()
    assert all((a == b).all() for a, b in zip(first, second, strict=True))
    assert first[0].shape != first[1].shape or not np.allclose(first[0], first[1])
