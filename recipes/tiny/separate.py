"""Stage `separate`: the separation head, on mixtures that are rendered where the model is.

It listens through the encoder that `train` made, which stays as it is.

B batch, J talkers, N samples, M responses, K taps.
"""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import IterableDataset, get_worker_info

from wavlm_meeting.checkpoints.trainings import load_parts, steps_done
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.recipes.tiny.collection import Collection, load_collection
from wavlm_meeting.recipes.tiny.settings import SeparateSettings
from wavlm_meeting.recipes.tiny.train import samples_on, workers_for
from wavlm_meeting.separation.model import SeparationHead
from wavlm_meeting.separation.task import Batch, SeparationTask
from wavlm_meeting.training.scene_packing import PackedScenes, ScenePacker
from wavlm_meeting.training.scene_rendering import TAPS, SceneRenderer, through_telephone
from wavlm_meeting.training.seeds import StepSeeds
from wavlm_meeting.training.separation_mixtures import TALKERS, draw_mixture
from wavlm_meeting.training.separation_rooms import RoomPool
from wavlm_meeting.training.separation_training import new_head
from wavlm_meeting.training.trainer import fit
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

log = logging.getLogger(__name__)


class PlannedMixtures(NamedTuple):
    """A batch of mixtures that is still to be rendered."""

    scenes: PackedScenes

    def rendered(self, renderer: SceneRenderer) -> Batch:
        """Return the batch as the model takes it."""
        scenes = self.scenes
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


class MixturePlans(IterableDataset[PlannedMixtures]):
    """An endless stream of mixtures: batch number n is the same whatever came before it.

    Talkers are drawn as likely as they have speech. `places` says how many rooms the renderer's
    responses are of, and how many talkers' places each has.
    """

    def __init__(
        self,
        collection: Collection,
        settings: SeparateSettings,
        seed: int,
        first: int = 0,
        places: tuple[int, int] | None = None,
    ) -> None:
        self.collection, self.settings, self.seed, self.first = collection, settings, seed, first
        self.places = places
        self.packer = ScenePacker(collection.samples, collection.starts, collection.lengths)
        self.names = sorted(collection.voices)
        seconds = np.array(
            [
                sum(end - start for said in collection.voices[name] for start, end in said.speech)
                for name in self.names
            ]
        )
        self.weights = seconds / seconds.sum()

    def __iter__(self) -> Iterator[PlannedMixtures]:
        worker = get_worker_info()
        number = self.first + (worker.id if worker else 0)
        while True:
            yield self.batch(number)
            number += worker.num_workers if worker else 1

    def batch(self, number: int) -> PlannedMixtures:
        """Draw batch `number`."""
        batches, collection = self.settings.batches, self.collection
        rng = np.random.default_rng((self.seed, number))
        length = int(batches.window_s * SAMPLE_RATE)
        plans, responses = [], []
        for _ in range(batches.mixtures):
            drawn = rng.choice(len(self.names), TALKERS, replace=False, p=self.weights)
            voices = {self.names[each]: collection.voices[self.names[each]] for each in drawn}
            plan = draw_mixture(rng, voices, length, batches.mixture, collection.noises).scene
            plans.append(plan)
            responses.append(self._room(rng, plan.speakers))
        return PlannedMixtures(self.packer.pack(plans, responses=responses))

    def _room(self, rng: np.random.Generator, speakers: list[str]) -> dict[str, int]:
        """Draw a room of the pool and where in it the talkers stand."""
        if self.places is None or rng.random() >= self.settings.batches.mixture.pool:
            return {}
        rooms, places = self.places
        first = int(rng.integers(rooms)) * places
        order = rng.permutation(places)
        return {name: first + int(order[slot]) for slot, name in enumerate(speakers)}


class MixtureTask(SeparationTask):
    """Training on mixtures that are rendered where the model is."""

    renderer: SceneRenderer

    def on_after_batch_transfer(self, batch: PlannedMixtures, _: int) -> Batch:
        """Render a batch."""
        return batch.rendered(self.renderer)


def pool_on(device: torch.device, folder: Path) -> tuple[Tensor, tuple[int, int]]:
    """Return the responses (M, K) of a pool's talkers at one microphone each, and (rooms, places).

    Rooms all have as many places as the one with the fewest.
    """
    pool = RoomPool(folder)
    places = min(pool.shape(room)[0] for room in range(len(pool))) - 1
    rows = []
    for room in range(len(pool)):
        for response in pool.responses(room)[:places, 0]:
            cut = response[:TAPS]
            rows.append(np.pad(cut, (0, TAPS - len(cut))).astype(np.float16))
    return torch.from_numpy(np.stack(rows)).to(device), (len(pool), places)


def separate(
    work: Path, folder: Path, encoder: WavLM, settings: SeparateSettings, rooms: Path | None = None
) -> SeparationHead:
    """Train a head in `folder`, or go on from its last checkpoint; return it, ready to run.

    `rooms` is a folder of simulated rooms (`training/separation_rooms.py`); without it, all rooms
    are statistical.
    """
    collection = load_collection(work, "train")
    device = resolve_device("auto")
    responses, places = pool_on(device, rooms) if rooms is not None else (None, None)
    head = new_head(encoder.config, settings.head, settings.seed)
    task = MixtureTask(encoder, head, settings.task)
    task.renderer = SceneRenderer(samples_on(device, collection), responses)
    batches = MixturePlans(
        collection, settings, settings.seed, first=steps_done(folder), places=places
    )
    fit(
        task,
        batches,
        folder,
        steps=settings.task.steps,
        gradient_clip=settings.task.gradient_clip,
        checkpoint_steps=settings.trainer.checkpoint_steps,
        log_steps=settings.trainer.log_steps,
        workers=workers_for(device),
        callbacks=[StepSeeds(settings.seed, 1)],
    )
    log.info("separate: %d updates", steps_done(folder))
    return trained_head(folder, encoder.config, settings)


def trained_head(folder: Path, encoder: WavLMConfig, settings: SeparateSettings) -> SeparationHead:
    """Return the head of the newest checkpoint; raises CheckpointError if there is none."""
    head = new_head(encoder, settings.head, settings.seed)
    load_parts(folder, {"head": head})
    return head.eval()
