"""Batches of speech from shards, for as long as pretraining goes on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from pydantic import Field
from torch.utils.data import IterableDataset, get_worker_info

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.task import PretrainingBatch
from wavlm_meeting.training.shards import read_index, read_shards
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig


class BatchSettings(Settings):
    """How batches are made; defaults are those of Base."""

    seconds: float = Field(87.5, gt=0)
    """Seconds of audio in a batch on each device."""
    longest_s: float = Field(15.6, gt=0)
    """Longer cuts are cropped to this length, at a random place."""
    shortest_s: float = Field(2.0, gt=0)
    """Shorter cuts are left out."""
    buckets: int = Field(8, ge=1)
    """A batch holds cuts of one of so many ranges of length, so that little of it is padding."""
    buffer: int = Field(2000, ge=1)
    """Cuts that are kept in memory to draw from."""


class SpeechBatches(IterableDataset[PretrainingBatch]):
    """An endless stream of batches, the same whatever was read before: it can begin anywhere.

    Batch number n of a worker depends on seed, rank and n alone. `first` batches are passed over
    without decoding them, which is how a run goes on after it was stopped.
    """

    def __init__(
        self,
        folder: Path,
        label_fields: tuple[str, ...],
        encoder: WavLMConfig,
        settings: BatchSettings,
        seed: int,
        first: int = 0,
    ) -> None:
        self.folder, self.label_fields, self.encoder = folder, label_fields, encoder
        self.settings, self.seed, self.first = settings, seed, first
        self.shards = [shard.number for shard in read_index(folder) if shard.cuts]
        read_shards(folder, label_fields)  # a missing field is said before training begins

    def __iter__(self) -> Iterator[PretrainingBatch]:
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
        rank = torch.distributed.get_rank() if distributed else 0
        ranks = torch.distributed.get_world_size() if distributed else 1
        share = self.shards[rank * workers + own :: ranks * workers]
        if not share:
            raise SettingsError(
                f"{self.folder}: {len(self.shards)} shards are too few for {ranks} processes with "
                f"{workers} workers each; use fewer, or write smaller shards."
            )
        number = own
        for cuts in self._drawn(share):
            if number >= self.first:
                yield self._load(cuts, np.random.default_rng((self.seed, rank, number)))
            number += workers

    def _drawn(self, shards: list[int]) -> Iterator[CutSet]:
        """Give the cuts of batch after batch, pass after pass."""
        settings = self.settings
        longest = settings.longest_s
        edges = np.linspace(settings.shortest_s, longest, settings.buckets + 1)[1:-1]
        epoch = 0
        while True:
            order = np.random.default_rng((self.seed, epoch)).permutation(shards)
            cuts = read_shards(self.folder, self.label_fields, order.tolist())
            enough = cuts.filter(self._long_enough)
            sampler = DynamicBucketingSampler(
                enough,
                max_duration=max(settings.seconds, longest),
                duration_bins=[float(edge) for edge in edges],
                buffer_size=settings.buffer,
                shuffle=True,
                seed=self.seed + epoch,
                rank=0,
                world_size=1,
            )
            found = False
            for batch in sampler:
                found = True
                yield batch
            if not found:
                raise SettingsError(
                    f"{self.folder}: no cut of {settings.shortest_s:g} s or more; lower shortest_s."
                )
            epoch += 1

    def _long_enough(self, cut: Cut) -> bool:
        return bool(cut.duration >= self.settings.shortest_s)

    def _load(self, cuts: CutSet, rng: np.random.Generator) -> PretrainingBatch:
        """Decode cuts and crop them, on a frame's edge so that labels stay in step."""
        hop, most = self.encoder.hop, int(self.settings.longest_s * SAMPLE_RATE)
        waves, labels, ids = [], [], []
        for cut in cuts:
            samples = cut.load_audio()[0]
            first = int(rng.integers(max(0, len(samples) - most) // hop + 1))
            waves.append(samples[first * hop : first * hop + most])
            frames = self.encoder.frame_count(len(waves[-1]))
            own = [cut.load_custom(field)[first : first + frames] for field in self.label_fields]
            labels.append(own)
            ids.append(cut.id)
        lengths = torch.tensor([len(wave) for wave in waves])
        waveforms = torch.zeros(len(waves), int(lengths.max()))
        for row, wave in zip(waveforms, waves, strict=True):
            row[: len(wave)] = torch.from_numpy(np.ascontiguousarray(wave))
        frames = self.encoder.frame_count(waveforms.shape[1])
        padded = torch.full((len(self.label_fields), len(waves), frames), -1)
        for row, own in enumerate(labels):
            for field, values in enumerate(own):
                padded[field, row, : len(values)] = torch.from_numpy(values.astype(np.int64))
        return PretrainingBatch(waveforms, lengths, tuple(padded), tuple(ids))
