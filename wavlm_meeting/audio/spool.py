"""Tracks on the disk between two steps: memory does not follow the recording.

J tracks, n samples of a block.
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import numpy as np
import soxr
from numpy.typing import NDArray

from wavlm_meeting.units import SAMPLE_RATE

Samples = NDArray[np.float32]


class TrackSpool:
    """Tracks in a nameless file that is gone when it is closed; they come at 16 kHz.

    What is kept and given back has the rate asked for.
    """

    def __init__(self, tracks: int, folder: Path, rate: int = SAMPLE_RATE) -> None:
        """Begin `tracks` tracks, kept at `rate` on the disk of `folder`.

        Raises OSError if the folder is not there or cannot be written to.
        """
        self.tracks, self.rate = tracks, rate
        self.frames = 0
        """Samples of a track so far."""
        self.peak = 0.0
        """Highest magnitude of any track."""
        self.peak_together = 0.0
        """Highest sum of all tracks' magnitudes: no mix of them is louder."""
        # Not where temporary files usually are: many systems hold those in memory.
        self._file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - see __exit__
        self._resampler = (
            None
            if rate == SAMPLE_RATE
            else soxr.ResampleStream(SAMPLE_RATE, rate, tracks, dtype="float32", quality="HQ")
        )

    def append(self, block: Samples) -> None:
        """Take the next samples (J, n) at 16 kHz."""
        self._append(block, last=False)

    def finish(self, frames: int) -> None:
        """End the tracks, with exactly `frames` samples at their rate.

        Rounding in resampling gives or takes a sample: one too many is dropped, silence is added.
        """
        if self._resampler is not None:
            self._append(np.zeros((self.tracks, 0), np.float32), last=True)
        # A file that is made longer is filled up with zeros.
        self._file.truncate(frames * self.tracks * np.dtype(np.float32).itemsize)
        self.frames = frames

    def blocks(self, block_s: float = 10.0) -> Iterator[Samples]:
        """Give the tracks (J, n) from the beginning, any number of times."""
        size = max(1, round(block_s * self.rate))
        for first in range(0, self.frames, size):
            count = min(size, self.frames - first) * self.tracks
            self._file.seek(first * self.tracks * np.dtype(np.float32).itemsize)
            data = self._file.read(count * np.dtype(np.float32).itemsize)
            yield np.ascontiguousarray(np.frombuffer(data, np.float32).reshape(-1, self.tracks).T)

    def __enter__(self) -> Self:
        """Give the spool itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Let go of the file."""
        self._file.close()

    def _append(self, block: Samples, *, last: bool) -> None:
        samples = np.ascontiguousarray(block.T, np.float32)  # (n, J)
        if self._resampler is not None:
            samples = self._resampler.resample_chunk(samples, last=last)
        magnitudes = np.abs(samples)
        self.peak = max(self.peak, float(magnitudes.max(initial=0.0)))
        self.peak_together = max(self.peak_together, float(magnitudes.sum(axis=1).max(initial=0.0)))
        self._file.seek(self.frames * self.tracks * samples.itemsize)
        self._file.write(samples.tobytes())
        self.frames += len(samples)
