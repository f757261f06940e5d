"""Training windows, drawn as plans; rendered here, or by the batch where the model is.

B batch, N samples, T frames, S local speakers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import IterableDataset

from wavlm_meeting.audio.simulate import (
    ConversationPlan,
    Placement,
    Utterance,
    crop,
    draw_conversation,
    draw_scene,
    render,
)
from wavlm_meeting.diarization.task import Batch
from wavlm_meeting.recipes.tiny.collection import Collection, draw_speakers
from wavlm_meeting.recipes.tiny.settings import DataSettings
from wavlm_meeting.training.batch_numbers import batch_numbers
from wavlm_meeting.training.diarization_targets import local_targets
from wavlm_meeting.training.scene_packing import PackedScenes, ScenePacker
from wavlm_meeting.training.scene_rendering import SceneRenderer
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig

Arrays = tuple[NDArray[np.generic], ...]


class Targets(NamedTuple):
    """What a batch says of its windows: `Batch` without the waveforms."""

    activities: Tensor
    classes: Tensor
    teacher: Tensor
    voices: Tensor
    conversations: Tensor


class PlannedBatch(NamedTuple):
    """A batch that is still to be rendered; each scene holds as many windows in a row."""

    scenes: PackedScenes
    targets: Targets

    def rendered(self, renderer: SceneRenderer) -> Batch:
        """Return the batch as the model takes it."""
        heard = renderer.mixtures(self.scenes)
        return Batch(heard.view(len(self.targets.classes), -1), *self.targets)


class Scene(NamedTuple):
    """A stretch of a conversation, and the targets of each window in it."""

    plan: ConversationPlan
    windows: list[Arrays]


class WindowBatches(IterableDataset[Batch | PlannedBatch]):
    """An endless stream of batches; batch number n is the same whatever came before it.

    Where `planned`, they are plans for a renderer that has the collection's samples and, if it
    holds coded copies, those after them.
    """

    def __init__(
        self,
        collection: Collection,
        settings: DataSettings,
        encoder: WavLMConfig,
        local_speakers: int,
        seed: int,
        first: int = 0,
        *,
        planned: bool = False,
    ) -> None:
        self.collection, self.settings, self.encoder = collection, settings, encoder
        self.local_speakers, self.seed, self.first = local_speakers, seed, first
        self.planned = planned
        self.packer = ScenePacker(collection.samples, collection.starts, collection.lengths)
        self.classes = {name: number for number, name in enumerate(collection.labelled)}

    def __iter__(self) -> Iterator[Batch | PlannedBatch]:
        for number in batch_numbers(self.first):
            yield self.batch(number)

    def batch(self, number: int) -> Batch | PlannedBatch:
        """Draw batch `number`, and render it unless others are to."""
        scenes = self.scenes(number)
        per_conversation = self.settings.conversation_windows
        windows = [window for scene in scenes for window in scene.windows]
        numbers = np.arange(len(windows)) // per_conversation
        columns = [np.stack(column) for column in zip(*windows, strict=True)]
        targets = Targets(*(torch.from_numpy(column) for column in (*columns, numbers)))
        rng = np.random.default_rng((self.seed, number, 1))
        shifts = [self._copies(rng, scene.plan) for scene in scenes]
        if self.planned:
            packed = self.packer.pack([scene.plan for scene in scenes], shifts)
            return PlannedBatch(packed, targets)
        heard = np.stack(
            [self._render(scene.plan, shift) for scene, shift in zip(scenes, shifts, strict=True)]
        )
        return Batch(torch.from_numpy(heard).view(len(windows), -1), *targets)

    def scenes(self, number: int) -> list[Scene]:
        """Draw what batch `number` holds."""
        settings, rng = self.settings, np.random.default_rng((self.seed, number))
        length_s, count, shares = settings.window_s, settings.batch, settings.speaker_shares
        if number < settings.voice_batches:
            length_s, shares = settings.voice_window_s, (1.0,)
            count = round(count * settings.window_s / length_s)
        length = int(length_s * SAMPLE_RATE)
        return [
            scene
            for _ in range(count // settings.conversation_windows)
            for scene in self._conversation(rng, length, shares)
        ]

    def _render(self, plan: ConversationPlan, shift: dict[str, int]) -> NDArray[np.float32]:
        """Render a plan here, from the copies of each speaker's speech that were drawn."""
        coded = {
            placement.utterance.index
            for placement in plan.placements
            if shift.get(placement.utterance.speaker)
        }
        collection = self.collection
        return render(
            plan, lambda index: collection.audio(index, coded=index in coded), collection.audio
        )

    def _copies(self, rng: np.random.Generator, plan: ConversationPlan) -> dict[str, int]:
        """Draw of whom the copies that went through a codec are heard, where there are any.

        They lie as many samples further on as there are samples without.
        """
        collection, share = self.collection, self.settings.coded
        if collection.coded is None or not share:
            return {}
        bare = {
            placement.utterance.speaker
            for placement in plan.placements
            if not collection.coded[placement.utterance.index]
        }
        drawn = rng.random(len(plan.speakers)) < share
        return {
            name: len(collection.samples)
            for name, through in zip(plan.speakers, drawn, strict=True)
            if through and name not in bare
        }

    def _conversation(
        self, rng: np.random.Generator, length: int, shares: tuple[float, ...]
    ) -> list[Scene]:
        """Cut windows out of the middle of a conversation, in one row or several."""
        settings, collection = self.settings, self.collection
        rows = settings.conversation_windows // settings.in_a_row
        row = settings.in_a_row * length
        if collection.meetings and rng.random() < settings.meetings:
            said = collection.meetings[int(rng.integers(len(collection.meetings)))]
            return [self._meeting(rng, length, said, settings.in_a_row) for _ in range(rows)]
        count = 1 + int(rng.choice(len(shares), p=shares))
        names = draw_speakers(rng, collection, count, settings.one_source, settings.sources)
        part = int(settings.spread * row)
        whole = draw_conversation(
            rng,
            {name: collection.voices[name] for name in names},
            part * rows,
            settings.conversation,
            collection.noises,
        )
        scenes = []
        for number in range(rows):
            plan = crop(whole, part * number + int(rng.integers(part - row)), row)
            if settings.in_a_row == 1 and rng.random() < settings.silence:
                plan = replace(plan, placements=())
            scenes.append(self._scene(plan, length, names))
        return scenes

    def _scene(self, plan: ConversationPlan, length: int, names: list[str]) -> Scene:
        """Return a plan with the targets of its windows of `length` samples."""
        windows = []
        for first in range(0, plan.length, length):
            part = crop(plan, first, length)
            said = [placement.utterance for placement in part.placements]
            windows.append(self._targets(length, part.turns(), said, names))
        return Scene(plan, windows)

    def _meeting(
        self, rng: np.random.Generator, length: int, said: list[Utterance], count: int
    ) -> Scene:
        """Cut windows in a row out of a real conversation and send them through another channel."""
        collection = self.collection
        samples = int(collection.lengths[said[0].index])
        begin = int(rng.integers(max(1, samples - count * length)))
        whole = Utterance(said[0].index, "all", ((0, samples),))
        placement = Placement(whole, begin, min(begin + count * length, samples), 0)
        plan = draw_scene(
            rng, count * length, ["all"], [placement], self.settings.conversation, collection.noises
        )
        everybody = [utterance.speaker for utterance in said]
        windows = []
        for first in range(0, count * length, length):
            shift = begin + first
            turns = sorted(
                (max(start - shift, 0), min(end - shift, length), utterance.speaker)
                for utterance in said
                for start, end in utterance.speech
                if start < shift + length and end > shift
            )
            windows.append(self._targets(length, turns, said, everybody))
        return Scene(plan, windows)

    def _targets(
        self,
        length: int,
        turns: list[tuple[int, int, str]],
        said: Iterable[Utterance],
        everybody: list[str],
    ) -> Arrays:
        """Return activities (T, S), classes (S,), teacher embeddings (S, 256), voices (S,)."""
        activities, names = local_targets(self.encoder, length, turns, self.local_speakers)
        classes, voices = np.full((2, self.local_speakers), -1, np.int64)
        teacher = np.zeros((self.local_speakers, 256), np.float32)
        for slot, name in enumerate(names):
            classes[slot] = self.classes.get(name, -1)
            voices[slot] = everybody.index(name)
            if self.settings.whole_speaker and name in self.collection.voices:
                heard = {utterance.index for utterance in self.collection.voices[name]}
            else:
                heard = {utterance.index for utterance in said if utterance.speaker == name}
            teacher[slot] = self.collection.teacher[sorted(heard)].sum(axis=0)
        return activities, classes, teacher, voices
