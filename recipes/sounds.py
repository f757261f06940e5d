"""Noise, music, voices to babble and rooms: MUSAN, RIRS_NOISES, the DNS challenge.

MUSAN (https://www.openslr.org/17): `musan/{noise,music,speech}/**.wav`; rooms
(https://www.openslr.org/28): `RIRS_NOISES/simulated_rirs/<size>/<room>/*.wav` and
`RIRS_NOISES/real_rirs_isotropic_noises/*.wav`; DNS challenge: `datasets/noise/*.wav`, or
`datasets_fullband/noise_fullband/*.wav`. All are optional.
"""

import logging
from collections.abc import Iterator
from itertools import chain
from pathlib import Path

from wavlm_meeting.recipes.finding import SUFFIXES, find_folder
from wavlm_meeting.training.sources import files_below

ROOMS = "rooms"
KINDS: dict[str, tuple[str, ...]] = {
    "noise": ("musan/noise", "datasets/noise", "datasets_fullband/noise_fullband"),
    "music": ("musan/music",),
    "speech": ("musan/speech",),
    ROOMS: ("RIRS_NOISES/simulated_rirs", "RIRS_NOISES/real_rirs_isotropic_noises"),
}
"""Kinds of sounds that training speech is heard with, and the folders that hold them."""

log = logging.getLogger(__name__)


def find_sounds(data: Path) -> dict[str, tuple[Path, ...]]:
    """Return the folders of each kind that are below `data`; what is missing is logged."""
    found = {kind: tuple(_folders(data, names)) for kind, names in KINDS.items()}
    for kind, folders in found.items():
        if not folders:
            log.info("%s: no %s; looked for %s", data, kind, ", ".join(KINDS[kind]))
    return found


def sound_files(kind: str, folders: tuple[Path, ...], data: Path) -> Iterator[tuple[str, Path]]:
    """Give the name, relative to `data`, and the path of each file of a kind, in a fixed order."""
    for path in chain.from_iterable(files_below(folder, SUFFIXES) for folder in folders):
        # The folder of measured rooms holds recordings of the noise in them, too.
        if kind != ROOMS or "_noise_" not in path.name:
            yield (path.relative_to(data) if path.is_relative_to(data) else path).as_posix(), path


def _folders(data: Path, names: tuple[str, ...]) -> Iterator[Path]:
    for name in names:
        if folder := find_folder(data, name):
            yield folder
