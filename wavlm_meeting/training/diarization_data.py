"""Batches of windows for as long as diarization is trained: real conversations and simulated ones.

B windows, N samples, T frames, S local speakers.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.utils.data import IterableDataset

from wavlm_meeting.audio.simulate import (
    ConversationPlan,
    ConversationSettings,
    Placement,
    Samples,
    Utterance,
    crop,
    draw_conversation,
    draw_scene,
    render,
)
from wavlm_meeting.config import Settings
from wavlm_meeting.diarization.task import Batch
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.training.augmentation import Augmenter
from wavlm_meeting.training.batch_numbers import batch_numbers
from wavlm_meeting.training.diarization_recordings import Conversation
from wavlm_meeting.training.diarization_targets import local_targets
from wavlm_meeting.training.processes import processes
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig

Arrays: TypeAlias = tuple[NDArray[np.generic], ...]

TEACHER = 256
"""Size of a teacher's embedding, of which there is none here."""


class ConversationBatchSettings(Settings):
    """How batches are drawn."""

    window_s: float | None = Field(None, gt=0)
    """Length of a window; the model's own if none is given."""
    conversations: int = Field(8, ge=1)
    """Conversations in a batch on each device."""
    windows: int = Field(3, ge=1)
    """Windows cut out of each: which of their voices are one speaker is learned too."""
    simulated: float = Field(0.0, ge=0, le=1)
    """Probability that a conversation is simulated, from recordings of one speaker each."""
    one_channel: float = Field(0.5, ge=0, le=1)
    """Probability that one channel is heard of a recording that has several, not their mean."""
    named: bool = False
    """Whether a name is the same person in all recordings; else it is one in each."""
    speaker_shares: tuple[float, ...] = Field((0.1, 0.35, 0.35, 0.2), min_length=1)
    """Probability of a simulated conversation between 1, 2, ... speakers."""
    pauses_s: tuple[float, ...] = ()
    """Mean pause between the utterances of each of 1, 2, ... speakers who do not heed each other:
    mixtures as in EEND (Fujita et al., arXiv 1909.05952, algorithm 1). If empty, speakers take
    turns, as `conversation` says."""
    conversation: ConversationSettings = ConversationSettings()
    """How simulated conversations are drawn, and the rooms, noise and channels of all of them."""


class ConversationBatches(IterableDataset[Batch]):
    """An endless stream of batches: batch number n is the same whatever came before it.

    Real conversations are as likely as they are long, simulated ones are between different speakers
    of `speech`, whose supervisions say where speech is. Each process draws and renders its own
    share of the conversations. The windows of a conversation stand side by side.
    """

    def __init__(
        self,
        real: Sequence[Conversation],
        speech: Sequence[Conversation],
        settings: ConversationBatchSettings,
        augmenter: Augmenter,
        encoder: WavLMConfig,
        local_speakers: int,
        window_s: float,
        seed: int,
        first: int = 0,
    ) -> None:
        """Sort speech by speaker; raises SettingsError where that leaves too little."""
        self.real, self.speech, self.settings, self.augmenter = real, speech, settings, augmenter
        self.encoder, self.local_speakers = encoder, local_speakers
        self.seed, self.first = seed, first
        self.length = int((settings.window_s or window_s) * SAMPLE_RATE)
        self.voices = voices_of(speech)
        people = {self._person(each, name): None for each in real for name in each.speakers}
        self.classes = {name: number for number, name in enumerate([*self.voices, *people])}
        durations = np.array([each.duration_s for each in real])
        self.weights = durations / durations.sum() if len(real) else durations
        noises = augmenter.noises
        quiet = [] if noises is None else augmenter.quiet
        self.noises = [(index, noises.length(index)) for index in quiet] if noises else []
        self._check()

    def __iter__(self) -> Iterator[Batch]:
        for number in batch_numbers(self.first):
            yield self.batch(number)

    def batch(self, number: int) -> Batch:
        """Draw, read and render this process's share of batch `number`."""
        rank, _ = processes()
        count = self.settings.conversations
        windows = [
            (*window, np.int64(conversation))
            for conversation in range(count)
            for window in self._windows(
                np.random.default_rng((self.seed, number, rank * count + conversation))
            )
        ]
        return Batch(*(torch.from_numpy(np.stack(part)) for part in zip(*windows, strict=True)))

    def _windows(self, rng: np.random.Generator) -> list[Arrays]:
        """Draw a conversation and cut windows out of it."""
        if rng.random() < self.settings.simulated:
            return self._simulated(rng)
        return self._real(rng)

    def _real(self, rng: np.random.Generator) -> list[Arrays]:
        """Cut windows out of a recording; each is heard through a way of its own."""
        said = self.real[int(rng.choice(len(self.real), p=self.weights))]
        channel = None
        if said.channels > 1 and rng.random() < self.settings.one_channel:
            channel = 1 + int(rng.integers(said.channels))
        windows = []
        for _ in range(self.settings.windows):
            offset = int(rng.integers(max(0, said.samples - self.length) + 1))
            plan = self.augmenter.draw(rng, self.length, -1)
            waveform = self.augmenter.render(plan, said.read(offset, self.length, channel))
            turns = _turns_within(said, offset, self.length)
            people = {name: self._person(said, name) for name in said.speakers}
            windows.append((waveform, *self._targets(turns, people)))
        return windows

    def _simulated(self, rng: np.random.Generator) -> list[Arrays]:
        """Draw a conversation and cut windows out of it, with others left out in between."""
        settings, length = self.settings, self.length
        count = 1 + int(rng.choice(len(settings.speaker_shares), p=settings.speaker_shares))
        drawn = rng.choice(len(self.voices), count, replace=False)
        everybody = sorted(self.voices)
        names = [everybody[number] for number in drawn.tolist()]
        voices: dict[str, Sequence[Utterance]] = {name: self.voices[name] for name in names}
        whole = 2 * length * settings.windows
        if settings.pauses_s:
            plan = draw_mixture(
                rng, voices, whole, settings.pauses_s[count - 1], settings.conversation, self.noises
            )
        else:
            plan = draw_conversation(rng, voices, whole, settings.conversation, self.noises)
        windows = []
        for number in range(settings.windows):
            part = crop(plan, 2 * length * number + int(rng.integers(length)), length)
            waveform = render(part, self._utterance, self._noise)
            windows.append(
                (waveform, *self._targets(part.turns(), {name: name for name in voices}))
            )
        return windows

    def _targets(self, turns: Sequence[tuple[int, int, str]], people: dict[str, str]) -> Arrays:
        """Return activities (T, S), classes (S,), teacher embeddings (S, 256), voices (S,).

        `people` are the classes of all who speak in the conversation, by their name in it.
        """
        slots, everybody = self.local_speakers, list(people)
        activities, names = local_targets(self.encoder, self.length, turns, slots)
        classes, voices = np.full((2, slots), -1, np.int64)
        voices[: len(names)] = [everybody.index(name) for name in names]
        classes[: len(names)] = [self.classes[people[name]] for name in names]
        return activities, classes, np.zeros((slots, TEACHER), np.float32), voices

    def _person(self, said: Conversation, name: str) -> str:
        """Return the class of somebody in a real conversation."""
        return name if self.settings.named else f"{said.name} {name}"

    def _utterance(self, index: int) -> Samples:
        said = self.speech[index]
        return said.read(0, said.samples)

    def _noise(self, index: int) -> Samples:
        noises = self.augmenter.noises
        if noises is None:
            raise IndexError(index)
        return noises.read(index, 0, noises.length(index))

    def _check(self) -> None:
        settings, most = self.settings, len(self.settings.speaker_shares)
        if settings.simulated < 1 and not any(each.said for each in self.real):
            raise SettingsError("no turns in the recordings to train on; check their references.")
        if not settings.simulated:
            return
        if abs(sum(settings.speaker_shares) - 1) > 1e-6:
            raise SettingsError(
                f"speaker_shares add up to {sum(settings.speaker_shares):g}: make it 1."
            )
        if len(self.voices) < most:
            raise SettingsError(
                f"conversations between {most} speakers are to be simulated, and there is speech "
                f"of {len(self.voices)}: give more, or shorten speaker_shares."
            )
        if settings.pauses_s and len(settings.pauses_s) < most:
            raise SettingsError("pauses_s is shorter than speaker_shares; give one for each.")


def draw_mixture(
    rng: np.random.Generator,
    voices: Mapping[str, Sequence[Utterance]],
    length: int,
    pause_s: float,
    settings: ConversationSettings,
    noises: Sequence[tuple[int, int]] = (),
) -> ConversationPlan:
    """Draw a mixture of `length` samples of speakers who do not heed each other.

    Each says one utterance after the other, with exponential pauses of `pause_s` on the mean, from
    before the beginning on, so that nobody begins at 0 (arXiv 1909.05952, algorithm 1).
    """
    placements = []
    for said in voices.values():
        clock = -rng.uniform(0.0, pause_s) * SAMPLE_RATE
        while clock < length:
            utterance = said[int(rng.integers(len(said)))]
            begin, end = utterance.speech[0][0], utterance.speech[-1][1]
            clock += rng.exponential(pause_s) * SAMPLE_RATE
            placements.append(Placement(utterance, begin, end, int(clock)))
            clock += end - begin
    return draw_scene(rng, length, list(voices), placements, settings, noises)


def voices_of(speech: Sequence[Conversation]) -> dict[str, list[Utterance]]:
    """Return the utterances of each speaker; raises SettingsError for one with several speakers."""
    voices: dict[str, list[Utterance]] = {}
    for index, each in enumerate(speech):
        if len(each.speakers) > 1:
            raise SettingsError(
                f"{each.path}: has several speakers; conversations are simulated from recordings "
                "of one."
            )
        spans = tuple(
            (int(said.start_s * SAMPLE_RATE), min(int(said.end_s * SAMPLE_RATE), each.samples))
            for said in each.said
        )
        if spans:
            name = each.said[0].speaker
            voices.setdefault(name, []).append(Utterance(index, name, spans))
    return voices


def _turns_within(said: Conversation, offset: int, length: int) -> list[tuple[int, int, str]]:
    """Return (start, end, speaker) in samples of a window, sorted by start."""
    found = []
    for each in said.said:
        start = round(each.start_s * SAMPLE_RATE) - offset
        end = round(each.end_s * SAMPLE_RATE) - offset
        if start < length and end > 0:
            found.append((max(start, 0), min(end, length), each.speaker))
    return sorted(found)
