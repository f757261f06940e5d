"""Simulated rooms, for who has no recorded ones: the image method of pyroomacoustics.

Shoeboxes from a booth to a lecture hall, one talker and one microphone anywhere in them, walls that
give the drawn reverberation time (Allen and Berkley, 1979; ranges as in RIRS_NOISES, Ko et al.,
ICASSP 2017, section 2).
"""

from functools import partial
from pathlib import Path

import numpy as np
import pyroomacoustics
import soundfile
from numpy.typing import NDArray

from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes.workers import Map
from wavlm_meeting.units import SAMPLE_RATE

SIZES_M = ((2.0, 2.0, 2.2), (15.0, 12.0, 4.5))
"""Smallest and largest length, width and height."""
REVERBERATION_S = (0.15, 0.8)
"""Shortest and longest reverberation time."""
WALL_M = 0.5
"""Nobody is nearer to a wall."""
MOST_IMAGES = 17
"""Reflections after which a response is cut off: later ones are far below the first."""


def simulate_rooms(folder: Path, count: int, seed: int, work: Map) -> Path:
    """Write `count` impulse responses as FLAC, number by number the same; those there are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    for _ in work(partial(_write, folder, seed), range(count)):
        pass
    return folder


def simulate_room(rng: np.random.Generator) -> NDArray[np.float32]:
    """Draw a room, a talker and a microphone, and return the impulse response between them."""
    while True:
        size = rng.uniform(*SIZES_M)
        reverberation_s = rng.uniform(*REVERBERATION_S)
        try:
            absorption, _ = pyroomacoustics.inverse_sabine(reverberation_s, size)
        except ValueError:  # no walls absorb enough for so short a time in so large a room
            continue
        break
    room = pyroomacoustics.ShoeBox(
        size,
        fs=SAMPLE_RATE,
        materials=pyroomacoustics.Material(absorption),
        max_order=MOST_IMAGES,
    )
    talker, microphone = (rng.uniform(WALL_M, size - WALL_M) for _ in range(2))
    room.add_source(talker)
    room.add_microphone(microphone)
    room.compute_rir()
    response: NDArray[np.float32] = np.asarray(room.rir[0][0], np.float32)
    return response / np.abs(response).max()


def _write(folder: Path, seed: int, number: int) -> None:
    path = folder / f"room-{number:05d}.flac"
    if not path.is_file():
        response = simulate_room(np.random.default_rng((seed, number)))
        with atomic_write(path) as temporary:
            soundfile.write(temporary, 0.9 * response, SAMPLE_RATE)
