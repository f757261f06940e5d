"""Batches of speech by many speakers, for as long as a speaker model is trained.

B crops, N samples, C classes, E size of the teacher's embedding.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch.utils.data import IterableDataset

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.training.augmentation import Augmenter
from wavlm_meeting.training.batch_numbers import batch_numbers
from wavlm_meeting.training.processes import processes
from wavlm_meeting.training.recordings import Ints, Recordings
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.task import SpeakerBatch


class SpeakerBatchSettings(Settings):
    """How batches are drawn; every speaker is as likely, however many recordings there are."""

    speakers: int = Field(128, ge=1)
    """Speakers in a batch on each device."""
    utterances: int = Field(1, ge=1)
    """Crops of each speaker, of different sessions where there are several; 2 or more for the
    objective of pairs."""
    unlabelled: int = Field(0, ge=0)
    """Further crops of recordings without a speaker, of which the teacher alone knows something."""
    crop_s: float = Field(3.0, gt=0)
    """Length of a crop; shorter recordings are repeated."""
    least_recordings: int = Field(1, ge=1)
    """Speakers with fewer recordings are left out."""
    speeds: tuple[Annotated[float, Field(gt=0)], ...] = Field((1.0, 0.9, 1.1), min_length=1)
    """Speeds at which speech is played; a speaker at another speed is another speaker (Yamamoto et
    al., Interspeech 2019)."""
    one_source: float = Field(0.0, ge=0, le=1)
    """Probability that all of a batch comes from one source: microphones and codecs then do not
    tell its speakers apart."""
    sources: dict[str, float] = Field(default_factory=dict)
    """Weight of each source, none for those that are not named; all speakers alike if empty."""
    cache: bool = False
    """Whether decoded recordings stay in memory; for small corpora of compressed files."""


class SpeakerBatches(IterableDataset[SpeakerBatch]):
    """An endless stream of batches: batch number n is the same whatever came before it.

    All processes draw the same speakers, and each takes a share of them: together they have the
    batch that one process would draw with so many more speakers. Classes are the speakers in the
    order of their names, then the same at the next speed.

    `teacher` holds embeddings (recordings, speeds, E) in the orders of the manifest and of the
    settings, zeros where there is none.
    """

    def __init__(
        self,
        recordings: Recordings,
        settings: SpeakerBatchSettings,
        augmenter: Augmenter,
        seed: int,
        first: int = 0,
        teacher: Path | None = None,
    ) -> None:
        """Sort recordings by speaker; raises SettingsError where that leaves too little."""
        self.recordings, self.settings, self.augmenter = recordings, settings, augmenter
        self.seed, self.first = seed, first
        counts = np.bincount(recordings.speakers[recordings.speakers >= 0])
        kept = np.flatnonzero(counts >= settings.least_recordings)
        if len(kept) < 2:
            raise SettingsError(
                f"{len(kept)} speakers have {settings.least_recordings} recordings or more, and "
                "training takes two: give a manifest with more, or lower least_recordings."
            )
        order = np.argsort(recordings.speakers, kind="stable")
        bounds = np.searchsorted(recordings.speakers[order], [kept, kept + 1])
        self._own = [order[begin:end] for begin, end in bounds.T]
        self._unlabelled = np.flatnonzero(recordings.speakers < 0)
        self._pools, self._weights = self._pool()
        self.classes = self._names(kept)
        self._teacher = None if teacher is None else self._read_teacher(teacher)
        if settings.unlabelled and not (len(self._unlabelled) and teacher):
            raise SettingsError(
                "unlabelled is above 0, but there are no recordings without a speaker, or no "
                "teacher for them: set it to 0."
            )

    @property
    def teacher_size(self) -> int:
        """Return E; 0 without a teacher."""
        return 0 if self._teacher is None else int(self._teacher.shape[2])

    def __iter__(self) -> Iterator[SpeakerBatch]:
        for number in batch_numbers(self.first):
            yield self.batch(number)

    def batch(self, number: int) -> SpeakerBatch:
        """Draw batch `number`, and read and render this process's share of it."""
        rank, ranks = processes()
        drawn = self._draw(np.random.default_rng((self.seed, number)), ranks)
        share = len(drawn) // ranks
        waves, classes, taught = [], [], []
        for row in range(rank * share, (rank + 1) * share):
            class_, index, speed = drawn[row].tolist()
            rng = np.random.default_rng((self.seed, number, row))
            waves.append(self._crop(rng, index, self.settings.speeds[speed]))
            classes.append(class_)
            if self._teacher is not None:
                taught.append(self._teacher[index, speed].astype(np.float32))
        teacher = np.stack(taught) if taught else np.zeros((share, 0), np.float32)
        return SpeakerBatch(
            torch.from_numpy(np.stack(waves)), torch.tensor(classes), torch.from_numpy(teacher)
        )

    def _draw(self, rng: np.random.Generator, ranks: int) -> NDArray[np.int64]:
        """Return (class, recording, speed) of each crop of all processes, by process."""
        settings = self.settings
        chosen = self._draw_classes(rng, settings.speakers * ranks)
        speakers = len(self._own)
        rows = [
            (class_, index, class_ // speakers)
            for class_ in chosen.tolist()
            for index in self._draw_recordings(rng, self._own[class_ % speakers])
        ]
        labelled = np.array(rows, np.int64).reshape(ranks, -1, 3)
        further = settings.unlabelled * ranks
        if not further:
            return labelled.reshape(-1, 3)
        unknown = np.stack(
            [
                np.full(further, -1),
                rng.choice(self._unlabelled, further),
                rng.integers(len(settings.speeds), size=further),
            ],
            axis=1,
        )
        whole = np.concatenate([labelled, unknown.reshape(ranks, -1, 3)], axis=1)
        return whole.reshape(-1, 3)

    def _draw_classes(self, rng: np.random.Generator, count: int) -> Ints:
        """Draw different classes, in any order; a source that has too few gives them again."""
        pools, shares = [np.concatenate(self._pools)], [count]
        if rng.random() < self.settings.one_source:
            pools = [self._pools[int(rng.choice(len(self._pools), p=self._weights))]]
        elif self.settings.sources:
            pools, shares = self._pools, rng.multinomial(count, self._weights).tolist()
        drawn = [
            np.resize(rng.permutation(pool), share)
            for pool, share in zip(pools, shares, strict=True)
        ]
        return rng.permutation(np.concatenate(drawn))

    def _draw_recordings(self, rng: np.random.Generator, own: Ints) -> list[int]:
        """Draw a speaker's recordings for a batch, of as many sessions as can be."""
        wanted = self.settings.utterances
        if wanted == 1:
            return [int(own[rng.integers(len(own))])]
        chosen: list[int] = []
        others: list[int] = []
        sessions: set[int] = set()
        for index in rng.permutation(own).tolist():
            session = int(self.recordings.sessions[index])
            (others if session in sessions else chosen).append(index)
            sessions.add(session)
            if len(chosen) == wanted:
                break
        several = (chosen + others)[:wanted]
        return [several[number % len(several)] for number in range(wanted)]

    def _crop(self, rng: np.random.Generator, index: int, speed: float) -> NDArray[np.float32]:
        """Cut a piece out of a recording, and send it through rooms, noise and channels."""
        samples = int(self.settings.crop_s * SAMPLE_RATE)
        length = self.recordings.length(index, speed)
        # Where a short recording begins, which is repeated, is drawn too.
        offset = int(rng.integers(length - samples + 1 if length >= samples else length))
        plan = self.augmenter.draw(rng, samples, int(self.recordings.speakers[index]))
        return self.augmenter.render(plan, self.recordings.read(index, offset, samples, speed))

    def _pool(self) -> tuple[list[Ints], NDArray[np.float64]]:
        """Return the classes of each source, and the probability of each source.

        A speaker belongs to the source of their first recording. Raises SettingsError for a source
        that is not there.
        """
        names = [*self.recordings.source_names, ""]  # the last is what -1 picks
        weights = self.settings.sources
        missing = [name for name in weights if name not in names]
        if missing:
            raise SettingsError(
                f"sources: there is no '{missing[0]}': there are {', '.join(names[:-1]) or 'none'}."
            )
        source = np.array([self.recordings.sources[own[0]] for own in self._own])
        speakers, speeds = len(self._own), len(self.settings.speeds)
        pools, shares = [], []
        for number in np.unique(source).tolist():
            own = np.flatnonzero(source == number)
            share = weights.get(names[number], 0.0) if weights else len(own)
            if share > 0:
                pools.append(np.concatenate([own + speakers * each for each in range(speeds)]))
                shares.append(share)
        if not pools:
            raise SettingsError("sources: all weights are 0; give one that is above.")
        return pools, np.array(shares) / sum(shares)

    def _names(self, kept: Ints) -> list[str]:
        """Return what each class is called, the same in every training on these speakers."""
        names = [self.recordings.speaker_names[speaker] for speaker in kept.tolist()]
        return [
            name if speed == 1.0 else f"{name} x{speed:g}"
            for speed in self.settings.speeds
            for name in names
        ]

    def _read_teacher(self, path: Path) -> NDArray[np.float32]:
        """Map the teacher's embeddings; raises SettingsError if they are not those of all cuts."""
        try:
            found: NDArray[np.float32] = np.load(path, mmap_mode="r")
        except (OSError, ValueError) as error:
            raise SettingsError(f"{path}: not a file of embeddings ({error}).") from None
        expected = (len(self.recordings), len(self.settings.speeds))
        if found.ndim != 3 or found.shape[:2] != expected:
            raise SettingsError(
                f"{path}: has the shape {found.shape}, and should hold an embedding for each of "
                f"{expected[0]} recordings at {expected[1]} speeds; write it again."
            )
        return found
