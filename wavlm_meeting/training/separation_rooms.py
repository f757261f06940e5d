"""A pool of simulated rooms on disk: how each of some places sounds at each of some microphones.

P places (those of talkers, and last that of noise), C microphones.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write

RESPONSES = "responses"
"""Name of the array in a room's file."""


class RoomPool:
    """The `.npz` files of a folder, one for each room, with `responses` (P, C, taps) at 16 kHz."""

    def __init__(self, folder: Path) -> None:
        """List the rooms; raises SettingsError if there are none."""
        self.paths = sorted(folder.glob("*.npz"))
        if not self.paths:
            raise SettingsError(f"{folder}: no rooms (.npz) there; run the stage that makes them.")
        self._read: dict[int, NDArray[np.floating]] = {}

    def __len__(self) -> int:
        """Return the number of rooms."""
        return len(self.paths)

    def shape(self, room: int) -> tuple[int, int]:
        """Return places P and microphones C of a room."""
        places, microphones, _ = self.responses(room).shape
        return places, microphones

    def responses(self, room: int) -> NDArray[np.floating]:
        """Return the responses (P, C, taps) of a room; raises SettingsError for another file."""
        if room not in self._read:
            self._read[room] = _responses(self.paths[room])
        return self._read[room]


def write_room(path: Path, responses: NDArray[np.floating]) -> None:
    """Write the responses (P, C, taps) of a room, at half precision."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        np.savez(file, responses=responses.astype(np.float16))


def _responses(path: Path) -> NDArray[np.floating]:
    try:
        with np.load(path) as file:
            found: NDArray[np.floating] = file[RESPONSES]
    except (OSError, KeyError, ValueError) as error:
        raise SettingsError(f"{path}: not a room ({error}); make the pool again.") from None
    if found.ndim != 3 or len(found) < 3 or not np.isfinite(found).all():
        raise SettingsError(
            f"{path}: its responses have the shape {found.shape}, not (3 or more places, "
            "microphones, taps), or are not finite; make the pool again."
        )
    return found
