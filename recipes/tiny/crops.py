"""Crops of the prepared speech and their pseudo-labels, gathered where the model is.

B batch, N samples, T frames, K noises.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from wavlm_meeting.pretraining.task import PretrainingBatch
from wavlm_meeting.recipes.tiny.collection import Collection
from wavlm_meeting.training.batch_numbers import batch_numbers
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig


class CropBatch(NamedTuple):
    """Where the crops of a batch begin, and how long they are."""

    utterances: Tensor
    """(B,) places in the list of labelled utterances."""
    begins: Tensor
    """(B,) first frame of each crop."""
    noises: Tensor
    """(K, 2): first sample and number of samples of the noises beside them."""
    ids: list[str]
    """What a report on a broken batch calls the crops; asking a GPU would make it wait."""


class CropBatches(IterableDataset[CropBatch]):
    """An endless stream of crops: batch number n is the same whatever came before it.

    Utterances are drawn as likely as they are long; crops begin where a frame does.
    """

    def __init__(
        self,
        collection: Collection,
        utterances: NDArray[np.int64],
        encoder: WavLMConfig,
        crop_s: float,
        crops: int,
        noises: int,
        seed: int,
        first: int = 0,
    ) -> None:
        self.crops, self.noises, self.seed, self.first = crops, noises, seed, first
        lengths = collection.lengths[utterances]
        self.shares = lengths / lengths.sum()
        self.room = np.maximum(0, lengths - int(crop_s * SAMPLE_RATE)) // encoder.hop
        first_samples = [int(collection.starts[index]) for index, _ in collection.noises]
        counts = [count for _, count in collection.noises]
        self.backgrounds = np.array([first_samples, counts], np.int64).T.reshape(-1, 2)

    def __iter__(self) -> Iterator[CropBatch]:
        for number in batch_numbers(self.first):
            yield self.batch(number)

    def batch(self, number: int) -> CropBatch:
        """Draw batch `number`."""
        rng = np.random.default_rng((self.seed, number))
        drawn = rng.choice(len(self.shares), self.crops, p=self.shares)
        begins = rng.integers(0, self.room[drawn] + 1)
        count = self.noises if len(self.backgrounds) else 0
        noises = rng.integers(0, max(len(self.backgrounds), 1), count)
        return CropBatch(
            torch.from_numpy(drawn),
            torch.from_numpy(begins),
            torch.from_numpy(self.backgrounds[noises].reshape(-1, 2)),
            [str(number) for number in drawn.tolist()],
        )


class CropReader:
    """Gathers crops from all samples and all labels, which lie on the model's device."""

    def __init__(
        self,
        samples: Tensor,
        labels: Tensor,
        table: Tensor,
        encoder: WavLMConfig,
        crop_s: float,
    ) -> None:
        """Keep `samples`, `labels` and the `table` of the utterances.

        The table is (utterances, 4): first sample, samples, first label, labels.
        """
        self.samples, self.labels, self.table = samples, labels, table
        self.hop, self.size = encoder.hop, int(crop_s * SAMPLE_RATE)
        self.frames = encoder.frame_count(self.size)

    def __deepcopy__(self, memo: object) -> "CropReader":
        """Stay one: copies of a model share what it reads from."""
        return self

    def read(self, batch: CropBatch) -> PretrainingBatch:
        """Return the crops, zero after their ends, with the labels of their frames."""
        first, samples, first_label, labels = self.table[batch.utterances].unbind(1)
        begin = batch.begins * self.hop
        lengths = (samples - begin).clamp(max=self.size)
        sample = torch.arange(self.size, device=first.device)
        inside = sample < lengths[:, None]
        waveforms = self._gather((first + begin)[:, None] + sample, inside)
        frame = batch.begins[:, None] + torch.arange(self.frames, device=first.device)
        known = frame < labels[:, None]
        place = (first_label[:, None] + frame).clamp(max=len(self.labels) - 1)
        found = self.labels[place].long().masked_fill(~known, -1)
        noises = noise_lengths = None
        if len(batch.noises):
            noise_lengths = batch.noises[:, 1].clamp(max=self.size)
            noises = self._gather(batch.noises[:, :1] + sample, sample < noise_lengths[:, None])
        return PretrainingBatch(waveforms, lengths, [found], batch.ids, noises, noise_lengths)

    def _gather(self, places: Tensor, inside: Tensor) -> Tensor:
        places = places.clamp(max=len(self.samples) - 1)
        return self.samples[places].float().masked_fill(~inside, 0.0) / 32768.0
