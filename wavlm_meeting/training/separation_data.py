"""Batches of mixtures for as long as separation is trained.

B windows, J talkers, N samples.
"""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from pydantic import Field
from torch.utils.data import IterableDataset

from wavlm_meeting.audio.simulate import LoadAudio, Utterance
from wavlm_meeting.config import Settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.separation.task import Batch
from wavlm_meeting.training.batch_numbers import batch_numbers
from wavlm_meeting.training.processes import processes
from wavlm_meeting.training.separation_mixtures import (
    TALKERS,
    MixturePlan,
    MixtureSettings,
    draw_mixture,
    place,
    render_mixture,
)
from wavlm_meeting.training.separation_rooms import RoomPool
from wavlm_meeting.units import SAMPLE_RATE


class MixtureBatchSettings(Settings):
    """How batches are drawn."""

    window_s: float = Field(4.0, gt=0)
    """Length of a mixture; the paper's."""
    mixtures: int = Field(16, ge=1)
    """Mixtures in a batch on each device."""
    mixture: MixtureSettings = MixtureSettings()
    """How each of them is drawn."""


class MixtureBatches(IterableDataset[Batch]):
    """An endless stream of batches: batch number n is the same whatever came before it.

    Talkers are drawn as likely as they have speech. `speech` and `noise` give the samples of an
    index; `noises` holds (index, samples) of the backgrounds. Each process draws its own share.
    """

    def __init__(
        self,
        voices: Mapping[str, Sequence[Utterance]],
        speech: LoadAudio,
        settings: MixtureBatchSettings,
        seed: int,
        first: int = 0,
        *,
        noises: Sequence[tuple[int, int]] = (),
        noise: LoadAudio | None = None,
        pool: RoomPool | None = None,
    ) -> None:
        """Weigh the talkers; raises SettingsError where there are fewer than two."""
        if len(voices) < TALKERS:
            raise SettingsError(
                f"speech of {len(voices)} speakers: mixtures take {TALKERS}; give more."
            )
        self.voices, self.names, self.speech = voices, sorted(voices), speech
        self.settings, self.seed, self.first = settings, seed, first
        self.noises, self.noise, self.pool = noises, noise, pool
        self.length = int(settings.window_s * SAMPLE_RATE)
        seconds = np.array([_seconds(voices[name]) for name in self.names])
        self.weights = seconds / seconds.sum()

    def __iter__(self) -> Iterator[Batch]:
        for number in batch_numbers(self.first):
            yield self.batch(number)

    def batch(self, number: int) -> Batch:
        """Draw and render this process's share of batch `number`."""
        rank, _ = processes()
        count = self.settings.mixtures
        rendered = [
            render_mixture(
                self.plan(number, rank * count + each), self.speech, self.noise, self.pool
            )
            for each in range(count)
        ]
        return Batch(
            torch.from_numpy(np.stack([each.waveforms[0] for each in rendered])),
            torch.from_numpy(np.stack([each.images[:, 0] for each in rendered])),
            torch.from_numpy(np.stack([each.noise[0] for each in rendered])),
        )

    def plan(self, number: int, mixture: int) -> MixturePlan:
        """Draw a mixture of batch `number`."""
        rng, settings = np.random.default_rng((self.seed, number, mixture)), self.settings.mixture
        drawn = rng.choice(len(self.names), TALKERS, replace=False, p=self.weights)
        voices = {self.names[each]: self.voices[self.names[each]] for each in drawn.tolist()}
        plan = draw_mixture(rng, voices, self.length, settings, self.noises)
        if self.pool is not None and rng.random() < settings.pool:
            plan = place(rng, plan, self.pool)
        return plan


def _seconds(said: Sequence[Utterance]) -> float:
    return sum(end - start for each in said for start, end in each.speech) / SAMPLE_RATE
