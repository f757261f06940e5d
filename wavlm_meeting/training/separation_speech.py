"""Speech of single talkers, decoded once and mapped into memory from then on.

N samples, M recordings.
"""

import hashlib
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.audio.simulate import Utterance
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.training.diarization_data import voices_of
from wavlm_meeting.training.diarization_recordings import Conversation, read_conversations

FULL_SCALE = 32767
"""What a sample of 1 is as an integer."""


@dataclass(frozen=True)
class Speech:
    """Who said what, and how it sounds."""

    voices: dict[str, list[Utterance]]
    """Utterances of each talker."""
    samples: NDArray[np.int16]
    """(N,) all recordings, one after the other."""
    starts: tuple[int, ...]
    """M + 1 places in them where a recording begins, and the end of the last one."""

    def read(self, index: int) -> NDArray[np.int16]:
        """Return the samples of a recording."""
        return self.samples[self.starts[index] : self.starts[index + 1]]


def read_speech(manifest: Path, folder: Path) -> Speech:
    """Read a manifest of recordings with one talker each, who its supervisions name.

    What is decoded lies in `folder` under a name made of the manifest's text. Raises SettingsError
    for a manifest that holds something else, AudioError for a recording that cannot be read.
    """
    recordings = read_conversations(manifest)
    voices = voices_of(recordings)
    if not voices:
        raise SettingsError(f"{manifest}: no supervision says who talks; write it again with them.")
    starts = tuple(accumulate((each.samples for each in recordings), initial=0))
    digest = hashlib.sha256(manifest.read_bytes()).hexdigest()[:16]
    path = folder / f"{manifest.name.partition('.')[0]}-{digest}.npy"
    if not path.is_file():
        _decode(recordings, starts, path)
    return Speech(voices, np.load(path, mmap_mode="r"), starts)


def _decode(recordings: list[Conversation], starts: tuple[int, ...], path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary, temporary.open("wb") as file:
        header = {"descr": "<i2", "fortran_order": False, "shape": (starts[-1],)}
        np.lib.format.write_array_header_1_0(file, header)
        for each in recordings:
            samples = each.read(0, each.samples).clip(-1, 1)
            np.round(samples * FULL_SCALE).astype("<i2").tofile(file)
