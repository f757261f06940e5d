"""Pieces of recordings for distillation, from a manifest, a folder or shards.

B batch, N samples.
"""

from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from wavlm_meeting.compression.settings import BatchSettings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.settings import BatchSettings as ShardSettings
from wavlm_meeting.training.data import SpeechBatches
from wavlm_meeting.training.processes import processes
from wavlm_meeting.training.recordings import Recordings, read_recordings
from wavlm_meeting.training.shards import INDEX
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig


class Pieces(NamedTuple):
    """A batch."""

    waveforms: Tensor
    """(B, N) float32 at 16 kHz, zero after `lengths`."""
    lengths: Tensor
    """(B,) samples."""


def open_data(
    data: Path, encoder: WavLMConfig, settings: BatchSettings, seed: int, first: int = 0
) -> IterableDataset[Any]:
    """Return an endless stream of batches that begins at number `first`.

    `data` is a manifest or a folder of recordings (`read_recordings`), or shards of
    `wavlm-meeting manifest`. Raises SettingsError if nothing in it is long enough, and what
    `read_recordings` raises.
    """
    if encoder.frame_count(int(settings.shortest_s * SAMPLE_RATE)) == 0:
        raise SettingsError(
            f"batches.shortest_s = {settings.shortest_s:g} is too short for one frame; raise it."
        )
    if (data / INDEX).is_file():
        longest = settings.longest_s
        shards = ShardSettings(
            seconds=settings.utterances * longest,
            longest_s=longest,
            shortest_s=settings.shortest_s,
            buckets=2,
        )
        return SpeechBatches(data, (), encoder, shards, seed, first)
    return PieceBatches(read_recordings(data), settings, seed, first)


class PieceBatches(IterableDataset[Pieces]):
    """An endless stream of batches; number n depends on the seed, the process's number and n."""

    def __init__(
        self, recordings: Recordings, settings: BatchSettings, seed: int, first: int = 0
    ) -> None:
        self.recordings, self.settings = recordings, settings
        self.seed, self.first = seed, first
        lengths = recordings.durations_s
        self.chances: NDArray[np.float64] = np.where(lengths >= settings.shortest_s, lengths, 0)
        if not self.chances.sum():
            raise SettingsError(
                f"no recording of {settings.shortest_s:g} s or more; lower batches.shortest_s."
            )
        self.chances = self.chances / self.chances.sum()

    def __iter__(self) -> Iterator[Pieces]:
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        for number in count(self.first + own, workers):
            yield self.batch(number)

    def batch(self, number: int) -> Pieces:
        """Draw batch `number`: recordings as often as they are long, each from a random place.

        Raises AudioError if one cannot be read.
        """
        rng = np.random.default_rng((self.seed, processes()[0], number))
        most = int(self.settings.longest_s * SAMPLE_RATE)
        chosen = rng.choice(len(self.chances), self.settings.utterances, p=self.chances)
        lengths = [min(self.recordings.length(int(index)), most) for index in chosen]
        waveforms = torch.zeros(len(chosen), max(lengths))
        for row, index, samples in zip(waveforms, chosen.tolist(), lengths, strict=True):
            offset = int(rng.integers(self.recordings.length(index) - samples + 1))
            row[:samples] = torch.from_numpy(self.recordings.read(index, offset, samples))
        return Pieces(waveforms, torch.tensor(lengths))
