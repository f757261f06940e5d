"""Rooms with people around a table and an array of microphones on it: the image method.

The array is that of LibriCSS: six microphones on a circle and one in its middle (Chen et al.,
"Continuous speech separation: dataset and analysis", ICASSP 2020, arXiv 2001.11482, section 3).

P places (those of talkers, and last that of noise), C microphones (7, the middle one first).
"""

from functools import partial
from pathlib import Path

import numpy as np
import pyroomacoustics
from numpy.typing import NDArray
from pydantic import Field

from wavlm_meeting.config import Settings
from wavlm_meeting.recipes.workers import Map
from wavlm_meeting.training.separation_rooms import write_room
from wavlm_meeting.units import SAMPLE_RATE

MICROPHONES = 7
RADIUS_M = 0.0425
"""Of the circle."""
MOST_IMAGES = 20
"""Reflections after which a response is cut off: later ones are far below the first."""
TABLE_M = (0.7, 1.1)
"""Height of the array."""
HEAD_M = (1.0, 1.8)
"""Height of a talker's mouth."""
WALL_M = 0.3
"""Nobody is nearer to a wall, and the array not nearer than four times this."""
NEAREST_M = 0.5
"""Nobody is nearer to the array."""

_BEFORE = 40  # samples kept before the first sound: half of a fractional delay's filter


class RoomSettings(Settings):
    """A pool of simulated rooms."""

    rooms: int = Field(1000, ge=1)
    """How many."""
    places: int = Field(4, ge=2)
    """Places of talkers in each, beside that of the noise."""
    sizes_m: tuple[tuple[float, float, float], tuple[float, float, float]] = (
        (3.0, 3.0, 2.4),
        (9.0, 7.0, 3.5),
    )
    """Smallest and largest length, width and height."""
    reverberation_s: tuple[float, float] = (0.1, 0.5)
    """Shortest and longest reverberation time."""


def simulate_pool(folder: Path, settings: RoomSettings, seed: int, work: Map) -> Path:
    """Write `settings.rooms` rooms, number by number the same; those there are kept."""
    for _ in work(partial(_write, folder, settings, seed), range(settings.rooms)):
        pass
    return folder


def simulate_room(rng: np.random.Generator, settings: RoomSettings) -> NDArray[np.float32]:
    """Draw a room and who stands where in it; return the responses (P, C, taps) at 16 kHz."""
    size, absorption, reverberation_s = _draw_walls(rng, settings)
    room = pyroomacoustics.ShoeBox(
        size,
        fs=SAMPLE_RATE,
        materials=pyroomacoustics.Material(absorption),
        max_order=MOST_IMAGES,
    )
    away = 4 * WALL_M
    middle = np.array([*rng.uniform(away, size[:2] - away), rng.uniform(*TABLE_M)])
    for _ in range(settings.places):
        room.add_source(_draw_place(rng, size, middle, HEAD_M))
    room.add_source(_draw_place(rng, size, middle, (WALL_M, size[2] - WALL_M)))
    room.add_microphone_array(middle[:, None] + _array(rng.uniform(0, 2 * np.pi)))
    room.compute_rir()
    taps = int((reverberation_s + 0.05) * SAMPLE_RATE)
    heard = [[room.rir[m][p] for m in range(MICROPHONES)] for p in range(settings.places + 1)]
    return _aligned(heard, taps)


def _draw_walls(
    rng: np.random.Generator, settings: RoomSettings
) -> tuple[NDArray[np.float64], float, float]:
    """Draw a size, and walls that give the drawn reverberation time."""
    while True:
        size = rng.uniform(*settings.sizes_m)
        reverberation_s = float(rng.uniform(*settings.reverberation_s))
        try:
            absorption, _ = pyroomacoustics.inverse_sabine(reverberation_s, size)
        except ValueError:  # no walls absorb enough for so short a time in so large a room
            continue
        return size, float(absorption), reverberation_s


def _draw_place(
    rng: np.random.Generator,
    size: NDArray[np.float64],
    middle: NDArray[np.float64],
    height_m: tuple[float, float],
) -> NDArray[np.float64]:
    while True:
        place = np.array([*rng.uniform(WALL_M, size[:2] - WALL_M), rng.uniform(*height_m)])
        if np.linalg.norm(place - middle) >= NEAREST_M:
            return place


def _array(turned: float) -> NDArray[np.float64]:
    """Return where the microphones are around the middle (3, C), the circle turned by an angle."""
    angles = turned + np.arange(MICROPHONES - 1) * 2 * np.pi / (MICROPHONES - 1)
    circle = RADIUS_M * np.stack([np.cos(angles), np.sin(angles), np.zeros_like(angles)])
    return np.concatenate([np.zeros((3, 1)), circle], axis=1)


def _aligned(heard: list[list[NDArray[np.float64]]], taps: int) -> NDArray[np.float32]:
    """Cut responses to `taps` samples from shortly before the first sound of each place on.

    The time between the microphones stays: it is what tells directions.
    """
    found = np.zeros((len(heard), len(heard[0]), taps), np.float32)
    for place, responses in zip(found, heard, strict=True):
        first = max(0, min(int(np.abs(own).argmax()) for own in responses) - _BEFORE)
        for row, own in zip(place, responses, strict=True):
            cut = own[first : first + taps]
            row[: len(cut)] = cut
    return found / np.abs(found).max()


def _write(folder: Path, settings: RoomSettings, seed: int, number: int) -> None:
    path = folder / f"room-{number:05d}.npz"
    if not path.is_file():
        write_room(path, simulate_room(np.random.default_rng((seed, number)), settings))
