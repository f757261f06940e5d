"""Batches of speech from shards, for as long as pretraining goes on."""

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import numpy as np
import torch
from lhotse import CutSet
from lhotse.cut import Cut
from lhotse.dataset import DynamicBucketingSampler
from torch.utils.data import IterableDataset, get_worker_info

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.settings import BatchSettings
from wavlm_meeting.pretraining.task import PretrainingBatch
from wavlm_meeting.training.noise import NoisePool
from wavlm_meeting.training.processes import processes
from wavlm_meeting.training.shards import CUTS, read_index, read_shards
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig


class SpeechBatches(IterableDataset[PretrainingBatch]):
    """An endless stream of batches, the same whatever was read before: it can begin anywhere.

    Batch number n depends on the seed, n, the process's number, and how many processes with how
    many workers there are. Each worker has shards of its own and draws from a block of them at a
    time. The first batches are passed over by their cuts' lengths, without a look at the audio but
    for the block that `first` lies in: that is how a run goes on after it was stopped.
    """

    def __init__(
        self,
        folder: Path,
        label_fields: tuple[str, ...],
        encoder: WavLMConfig,
        settings: BatchSettings,
        seed: int,
        first: int = 0,
        noise: Path | None = None,
    ) -> None:
        self.folder, self.label_fields, self.encoder = folder, label_fields, encoder
        self.settings, self.seed, self.first, self.noise = settings, seed, first, noise
        self.longest = int(settings.longest_s * SAMPLE_RATE)
        self.shards = [shard.number for shard in read_index(folder) if shard.cuts]
        read_shards(folder, label_fields)  # a missing field is said before training begins
        if noise is not None:
            read_index(noise)

    def __iter__(self) -> Iterator[PretrainingBatch]:
        worker = get_worker_info()
        workers, own = (worker.num_workers, worker.id) if worker else (1, 0)
        rank, ranks = processes()
        # Workers are asked in turn, from the first on: that one has the stream of batch `first`.
        stream = (self.first + own) % workers
        share = self.shards[rank * workers + stream :: ranks * workers]
        if not share:
            raise SettingsError(
                f"{self.folder}: {len(self.shards)} shards are too few for {ranks} processes with "
                f"{workers} workers each; use fewer, or write smaller shards."
            )
        number = stream
        for epoch in count():
            begun = number
            order = np.random.default_rng((self.seed, epoch)).permutation(share).tolist()
            for start in range(0, len(order), self.settings.block):
                block = order[start : start + self.settings.block]
                passed = 0
                if number < self.first:
                    passed = sum(1 for _ in self._drawn(self._lengths(block), epoch))
                if number + workers * passed <= self.first and passed:
                    number += workers * passed
                    continue
                pool = self._noise_pool((self.seed, rank, number))
                for cuts in self._drawn(read_shards(self.folder, self.label_fields, block), epoch):
                    if number >= self.first:
                        rng = np.random.default_rng((self.seed, rank, number))
                        yield self._load(cuts, rng, pool)
                    number += workers
            if number == begun:
                raise SettingsError(
                    f"{self.folder}: no cut of {self.settings.shortest_s:g} s or more; lower "
                    "shortest_s."
                )

    def _lengths(self, shards: list[int]) -> CutSet:
        """Return the cuts of some shards without their audio."""
        return CutSet.from_files([str(self.folder / (CUTS % shard)) for shard in shards])

    def _drawn(self, cuts: CutSet, epoch: int) -> Iterator[CutSet]:
        """Give the cuts of batch after batch, all of about the same length."""
        settings = self.settings
        longest = settings.longest_s
        edges = np.linspace(settings.shortest_s, longest, settings.buckets + 1)[1:-1]
        return iter(
            DynamicBucketingSampler(
                cuts.filter(self._long_enough),
                max_duration=max(settings.seconds, longest),
                duration_bins=[float(edge) for edge in edges],
                buffer_size=settings.buffer,
                shuffle=True,
                seed=self.seed + epoch,
                sync_buckets=False,  # else it draws by the worker's number, which a stop changes
                rank=0,
                world_size=1,
            )
        )

    def _noise_pool(self, seed: tuple[int, ...]) -> NoisePool | None:
        if self.noise is None:
            return None
        return NoisePool(self.noise, self.longest, np.random.default_rng(seed))

    def _long_enough(self, cut: Cut) -> bool:
        return bool(cut.duration >= self.settings.shortest_s)

    def _load(
        self, cuts: CutSet, rng: np.random.Generator, pool: NoisePool | None
    ) -> PretrainingBatch:
        """Decode cuts and crop them, on a frame's edge so that labels stay in step."""
        hop, most = self.encoder.hop, self.longest
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
        noises = (None, None) if pool is None else pool.draw(self.settings.noises, rng)
        return PretrainingBatch(waveforms, lengths, tuple(padded), tuple(ids), *noises)
