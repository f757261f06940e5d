"""Stretches of changed voices in changed places, and what the teacher says of each.

B batch, T frames, C numbers of a frame, D directions.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from wavlm_meeting.recipes.tiny.collection import Collection
from wavlm_meeting.recipes.tiny.settings import VoiceSettings
from wavlm_meeting.recipes.tiny.voice_scenes import Scenes
from wavlm_meeting.recipes.tiny.voice_spectra import RATE, noise_spectra, speech_spectra
from wavlm_meeting.recipes.tiny.voice_teacher import LEAST, Directions, describe, teacher_filters
from wavlm_meeting.training.batch_numbers import batch_numbers
from wavlm_meeting.verification.fbank import centred_decibels, stack, triangular_filters


class VoiceBatch(NamedTuple):
    """Stretches of one length."""

    features: Tensor
    """(B, T, C): filterbanks, as the head reads them."""
    targets: Tensor
    """(B, D): what the teacher says of each, of unit length; zeros where it says nothing."""


class VoiceBatches(IterableDataset[VoiceBatch]):
    """An endless stream of batches; batch number n is the same whatever came before it."""

    def __init__(
        self,
        collection: Collection,
        sources: dict[str, float],
        settings: VoiceSettings,
        directions: Directions,
        first: int = 0,
    ) -> None:
        self.settings, self.directions, self.first = settings, directions, first
        self.scenes = Scenes(
            settings.scene,
            speech_spectra(collection, sources, LEAST),
            noise_spectra(collection),
            teacher_filters(),
            triangular_filters(settings.head.mels),
        )

    def __iter__(self) -> Iterator[VoiceBatch]:
        for number in batch_numbers(self.first):
            yield self.batch(number)

    def batch(self, number: int) -> VoiceBatch:
        """Draw batch `number` and ask the teacher about it."""
        settings, rng = self.settings, np.random.default_rng((self.settings.seed, number))
        frames = round(RATE * settings.lengths_s[rng.integers(len(settings.lengths_s))])
        count = max(1, round(RATE * settings.seconds / frames))
        scene = self.scenes.draw(rng, count, frames)
        valid = torch.full((count,), frames)
        features = centred_decibels(scene.heard, valid, settings.head.centred)
        said = describe(scene.voice, scene.speech)
        targets = np.where(said.any(axis=1, keepdims=True), self.directions(said), 0.0)
        return VoiceBatch(
            stack(features, settings.head.stacked), torch.from_numpy(targets.astype(np.float32))
        )
