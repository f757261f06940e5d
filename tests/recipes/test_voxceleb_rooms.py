"""Simulated rooms decay like rooms, are the same again, and end up in the manifest."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

pytest.importorskip("pyroomacoustics", reason="recipes need the extra 'train'")
pytest.importorskip("lhotse", reason="recipes need the extra 'train'")

from wavlm_meeting.recipes.voxceleb.rooms import REVERBERATION_S, simulate_room, simulate_rooms
from wavlm_meeting.training.recordings import read_recordings

RATE = 16_000


def reverberation_s(response: NDArray[np.float32]) -> float:
    """Return the time of 60 dB by the slope of the energy left, from -5 to -20 dB (Schroeder)."""
    left = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    level = 10 * np.log10(left / left[0] + 1e-12)
    first, last = (int(np.argmax(level < edge)) for edge in (-5.0, -20.0))
    return 4 * (last - first) / RATE


def test_rooms_reverberate_as_long_as_they_are_meant_to() -> None:
    """Reverberation is of the drawn times' order, differs between rooms, and ends."""
    times = []
    for seed in range(8):
        response = simulate_room(np.random.default_rng(seed))
        assert np.abs(response).max() == pytest.approx(1.0)
        assert np.square(response[-RATE // 100 :]).sum() < 1e-3 * np.square(response).sum()
        times.append(reverberation_s(response))
    assert 0.3 * REVERBERATION_S[0] < min(times) < max(times) < 2 * REVERBERATION_S[1]
    assert max(times) > 2 * min(times)


def test_they_are_written_once(tmp_path: Path) -> None:
    """Files that are there stay; one that is missing comes back as it was."""
    folder = simulate_rooms(tmp_path / "rooms", 3, 7, map)
    files = sorted(folder.iterdir())
    before = [soundfile.read(path)[0] for path in files]
    kept = files[0].stat().st_mtime_ns
    files[1].unlink()
    simulate_rooms(folder, 3, 7, map)
    assert sorted(folder.iterdir()) == files
    assert files[0].stat().st_mtime_ns == kept
    for path, response in zip(files, before, strict=True):
        np.testing.assert_array_equal(soundfile.read(path)[0], response)
    assert len(read_recordings(folder)) == 3
