"""Stage `separate`: the separation head, on mixtures that are rendered where the model is.

It listens through the encoder that `train` made, which stays as it is.

B batch, J talkers, N samples, M responses, K taps.
"""

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from wavlm_meeting.checkpoints.trainings import load_parts, steps_done
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.settings import SeparateSettings
from wavlm_meeting.recipes.tiny.train import samples_on, workers_for
from wavlm_meeting.separation.model import SeparationHead
from wavlm_meeting.separation.task import Batch, SeparationTask
from wavlm_meeting.training.batch_numbers import batch_numbers
from wavlm_meeting.training.scene_packing import PackedScenes, ScenePacker
from wavlm_meeting.training.scene_rendering import TAPS, SceneRenderer, through_telephone
from wavlm_meeting.training.seeds import StepSeeds
from wavlm_meeting.training.separation_data import MixtureBatches
from wavlm_meeting.training.separation_mixtures import TALKERS
from wavlm_meeting.training.separation_rooms import RoomPool
from wavlm_meeting.training.separation_training import new_head
from wavlm_meeting.training.trainer import fit
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

Places = dict[tuple[int, int, int], int]
"""Rows of responses by room, place and microphone."""

log = logging.getLogger(__name__)


class MixturePlans(IterableDataset[PackedScenes]):
    """The stream of `MixtureBatches`, packed for a renderer instead of rendered.

    `places` says which of the renderer's responses is a microphone's of a place in a room.
    """

    def __init__(self, mixtures: MixtureBatches, packer: ScenePacker, places: Places) -> None:
        self.mixtures, self.packer, self.places = mixtures, packer, places

    def __iter__(self) -> Iterator[PackedScenes]:
        for number in batch_numbers(self.mixtures.first):
            yield self.batch(number)

    def batch(self, number: int) -> PackedScenes:
        """Draw batch `number`."""
        count = self.mixtures.settings.mixtures
        plans = [self.mixtures.plan(number, each) for each in range(count)]
        responses = [
            {
                name: self.places[plan.room, place, plan.microphones[0]]
                for name, place in zip(plan.scene.speakers, plan.places, strict=False)
            }
            if plan.room is not None
            else {}
            for plan in plans
        ]
        return self.packer.pack([plan.scene for plan in plans], responses=responses)


def rendered(scenes: PackedScenes, renderer: SceneRenderer) -> Batch:
    """Return mixtures, images of talkers and noise as the model takes them."""
    images, noise = renderer.parts(scenes)
    band = scenes.telephone.clamp(max=1)
    images = through_telephone(images, band[scenes.plans])
    noise = through_telephone(noise, band)
    rank = torch.arange(len(scenes.plans), device=noise.device)
    first = torch.searchsorted(scenes.plans, scenes.plans)
    slots = scenes.plans * TALKERS + rank - first
    placed = images.new_zeros(len(noise) * TALKERS, noise.shape[1])
    placed = placed.index_copy(0, slots, images).view(len(noise), TALKERS, -1)
    return Batch(placed.sum(dim=1) + noise, placed, noise)


class MixtureTask(SeparationTask):
    """Training on mixtures that are rendered where the model is."""

    renderer: SceneRenderer

    def on_after_batch_transfer(self, batch: PackedScenes, _: int) -> Batch:
        """Render a batch."""
        return rendered(batch, self.renderer)


def responses_of(pool: RoomPool) -> tuple[Tensor, Places]:
    """Return all responses of a pool (M, K), float16, and the row of each."""
    rows: list[NDArray[np.float16]] = []
    places: Places = {}
    for room in range(len(pool)):
        for place, microphones in enumerate(pool.responses(room)):
            for microphone, response in enumerate(microphones):
                places[room, place, microphone] = len(rows)
                cut = response[:TAPS]
                rows.append(np.pad(cut, (0, TAPS - len(cut))).astype(np.float16))
    return torch.from_numpy(np.stack(rows)), places


def separate(
    work: Path, folder: Path, encoder: WavLM, settings: SeparateSettings, rooms: Path | None = None
) -> SeparationHead:
    """Train a head in `folder`, or go on from its last checkpoint; return it, ready to run.

    `rooms` is a folder of simulated rooms (`training/separation_rooms.py`); without it, all rooms
    are statistical.
    """
    collection = load_collection(work, "train")
    device = resolve_device("auto")
    pool = None if rooms is None else RoomPool(rooms)
    responses, places = (None, {}) if pool is None else responses_of(pool)
    head = new_head(encoder.config, settings.head, settings.seed)
    task = MixtureTask(encoder, head, settings.task)
    responses = None if responses is None else responses.to(device)
    task.renderer = SceneRenderer(samples_on(device, collection), responses)
    mixtures = MixtureBatches(
        collection.voices,
        collection.audio,
        settings.batches,
        settings.seed,
        first=steps_done(folder) * settings.trainer.accumulate,
        noises=collection.noises,
        pool=pool,
    )
    packer = ScenePacker(collection.samples, collection.starts, collection.lengths)
    fit(
        task,
        MixturePlans(mixtures, packer, places),
        folder,
        settings.trainer.model_copy(update={"workers": workers_for(device)}),
        steps=settings.task.steps,
        gradient_clip=settings.task.gradient_clip,
        callbacks=[StepSeeds(settings.seed, settings.trainer.accumulate)],
    )
    log.info("separate: %d updates", steps_done(folder))
    return trained_head(folder, encoder.config, settings)


def trained_head(folder: Path, encoder: WavLMConfig, settings: SeparateSettings) -> SeparationHead:
    """Return the head of the newest checkpoint; raises CheckpointError if there is none."""
    head = new_head(encoder, settings.head, settings.seed)
    load_parts(folder, {"head": head})
    return head.eval()
