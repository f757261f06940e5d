"""Training windows, drawn and rendered on the fly.

B batch, N samples, T frames, S local speakers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import IterableDataset, get_worker_info

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
from wavlm_meeting.training.diarization_targets import local_targets
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig

Arrays = tuple[NDArray[np.generic], ...]


class WindowBatches(IterableDataset[Batch]):
    """An endless stream of batches; batch number n is the same whatever came before it."""

    def __init__(
        self,
        collection: Collection,
        settings: DataSettings,
        encoder: WavLMConfig,
        local_speakers: int,
        seed: int,
        first: int = 0,
    ) -> None:
        self.collection, self.settings, self.encoder = collection, settings, encoder
        self.local_speakers, self.seed, self.first = local_speakers, seed, first
        self.classes = {name: number for number, name in enumerate(collection.labelled)}

    def __iter__(self) -> Iterator[Batch]:
        worker = get_worker_info()
        number = self.first + (worker.id if worker else 0)
        while True:
            yield self.batch(number)
            number += worker.num_workers if worker else 1

    def batch(self, number: int) -> Batch:
        """Draw and render batch `number`."""
        settings, rng = self.settings, np.random.default_rng((self.seed, number))
        length_s, count, shares = settings.window_s, settings.batch, settings.speaker_shares
        if number < settings.voice_batches:
            length_s, shares = settings.voice_window_s, (1.0,)
            count = round(count * settings.window_s / length_s)
        length = int(length_s * SAMPLE_RATE)
        windows = [
            (*window, np.int64(conversation))
            for conversation in range(count // settings.conversation_windows)
            for window in self._conversation(rng, length, shares)
        ]
        return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*windows, strict=True)))

    def _conversation(
        self, rng: np.random.Generator, length: int, shares: tuple[float, ...]
    ) -> list[Arrays]:
        """Cut windows out of the middle of a conversation, in a row or apart."""
        settings, collection = self.settings, self.collection
        if collection.meetings and rng.random() < settings.meetings:
            said = collection.meetings[int(rng.integers(len(collection.meetings)))]
            if settings.contiguous:
                return self._meeting_windows(rng, length, said, settings.conversation_windows)
            return [
                window
                for _ in range(settings.conversation_windows)
                for window in self._meeting_windows(rng, length, said, 1)
            ]
        count = 1 + int(rng.choice(len(shares), p=shares))
        names = draw_speakers(rng, collection, count, settings.one_source, settings.sources)
        whole = draw_conversation(
            rng,
            {name: collection.voices[name] for name in names},
            2 * length * settings.conversation_windows,
            settings.conversation,
            collection.noises,
        )
        if settings.contiguous:
            start = int(rng.integers(length * settings.conversation_windows))
            plan = crop(whole, start, length * settings.conversation_windows)
            waveform = render(plan, collection.audio, collection.audio)
            return [
                (waveform[first : first + length], *self._said(crop(plan, first, length), names))
                for first in range(0, plan.length, length)
            ]
        windows = []
        for number in range(settings.conversation_windows):
            plan = crop(whole, 2 * length * number + int(rng.integers(length)), length)
            if rng.random() < settings.silence:
                plan = replace(plan, placements=())
            waveform = render(plan, collection.audio, collection.audio)
            windows.append((waveform, *self._said(plan, names)))
        return windows

    def _said(self, plan: ConversationPlan, names: list[str]) -> Arrays:
        said = [placement.utterance for placement in plan.placements]
        return self._targets(plan.length, plan.turns(), said, names)

    def _meeting_windows(
        self, rng: np.random.Generator, length: int, said: list[Utterance], count: int
    ) -> list[Arrays]:
        """Cut windows in a row out of a real conversation and send them through another channel."""
        collection = self.collection
        samples = int(collection.lengths[said[0].index])
        begin = int(rng.integers(max(1, samples - count * length)))
        whole = Utterance(said[0].index, "all", ((0, samples),))
        placement = Placement(whole, begin, min(begin + count * length, samples), 0)
        plan = draw_scene(
            rng, count * length, ["all"], [placement], self.settings.conversation, collection.noises
        )
        waveform = render(plan, collection.audio, collection.audio)
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
            targets = self._targets(length, turns, said, everybody)
            windows.append((waveform[first : first + length], *targets))
        return windows

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
            heard = {utterance.index for utterance in said if utterance.speaker == name}
            teacher[slot] = self.collection.teacher[sorted(heard)].sum(axis=0)
        return activities, classes, teacher, voices
