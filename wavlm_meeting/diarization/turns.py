"""From decided frames to turns.

F frames of the recording, K its speakers, M active local speakers of all windows together,
D embedding size.

`reconstruction.smooth` sets minimum lengths of turns and gaps before. Then, say,

    shared = decided.sum(axis=1) > 1
    named = one_at_a_time(activity, decided, least) if exclusive else decided
    turns = turns_of(activity, named, shared, times, likeness)
    overlaps = times.stretches(shared)

so that overlap is flagged even where one speaker alone is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.diarization.reconstruction import runs_of
from wavlm_meeting.diarization.result import Turn
from wavlm_meeting.units import SAMPLE_RATE

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Flags = NDArray[np.bool_]

NOBODY = -1


@dataclass(frozen=True)
class FrameTimes:
    """When the frames of a recording are: each stands for the hop around its centre."""

    hop: int
    """Samples from one frame to the next."""
    receptive_field: int
    """Samples that a frame hears."""
    samples: int
    """Samples of the recording."""

    def stretch(self, start: int, end: int) -> tuple[float, float]:
        """Return where frames from `start` to before `end` begin and end, in seconds."""
        shift = (self.receptive_field - self.hop) / 2
        edges = [(frame * self.hop + shift) / SAMPLE_RATE for frame in (start, end)]
        first = 0.0 if start == 0 else edges[0]
        return round(first, 3), round(min(edges[1], self.samples / SAMPLE_RATE), 3)

    def stretches(self, flags: Flags) -> tuple[tuple[float, float], ...]:
        """Return the stretches in which the flags (F,) are set, in seconds."""
        return tuple(self.stretch(start, end) for start, end in runs_of(flags))


class Likeness:
    """How much the voices heard in a turn are like its speaker's mean voice."""

    def __init__(
        self,
        embeddings: Floats,
        labels: Ints,
        speech_s: Floats,
        first_frames: Ints,
        frames: int,
    ) -> None:
        """Take the local speakers as they were clustered.

        `embeddings` (M, D) have unit length, `labels` (M,) are their speakers, `speech_s` (M,) says
        how long each was heard, `first_frames` (M,) where its window of `frames` frames begins.
        """
        order = np.lexsort((first_frames, labels))
        count = int(labels.max(initial=-1)) + 1
        bounds = np.searchsorted(labels[order], np.arange(count + 1))
        self._frames, self._members = frames, []
        for own in (order[start:end] for start, end in pairwise(bounds)):
            voices, weights = embeddings[own].astype(np.float32), speech_s[own]
            mean = weights @ voices
            cosines = voices @ (mean / max(float(np.linalg.norm(mean)), 1e-8))
            self._members.append((first_frames[own], weights, cosines))

    def __call__(self, start: int, end: int, speaker: int) -> float:
        """Return the mean cosine over windows that the turn is in, by what they hold of it.

        The turn goes from frame `start` to before `end`. It is 0 where the speaker is in none of
        them: the target-speaker head has found the turn.
        """
        first_frames, speech_s, cosines = self._members[speaker]
        place = slice(*np.searchsorted(first_frames, (start - self._frames + 1, end)).tolist())
        first = first_frames[place]
        held = np.minimum(first + self._frames, end) - np.maximum(first, start)
        weights = held * speech_s[place]
        return float(weights @ cosines[place] / weights.sum()) if weights.any() else 0.0


def turns_of(
    activity: Floats, decided: Flags, shared: Flags, times: FrameTimes, likeness: Likeness
) -> tuple[Turn, ...]:
    """List all turns by start, speakers named in the order of their first.

    Args:
        activity: (F, K) probability that each speaker is active; a turn's mean is its confidence,
            which `calibrated` makes an honest one.
        decided: (F, K) who is taken to be active.
        shared: (F,) where more than one speaks.
        times: When the frames are.
        likeness: How like the speaker a turn's voice is.
    """
    runs = sorted(
        (start, end, speaker)
        for speaker in range(decided.shape[1])
        for start, end in runs_of(decided[:, speaker])
    )
    order = list(dict.fromkeys(speaker for _, _, speaker in runs))
    names = {speaker: f"SPEAKER_{number:02d}" for number, speaker in enumerate(order)}
    return tuple(
        Turn(
            *times.stretch(start, end),
            names[speaker],
            confidence=round(float(activity[start:end, speaker].mean(dtype=np.float64)), 3),
            overlap=round(float(shared[start:end].mean()), 3),
            likeness=round(likeness(start, end, speaker), 3),
        )
        for start, end, speaker in runs
    )


def one_at_a_time(activity: Floats, decided: Flags, least: int) -> Flags:
    """Leave one speaker in each frame of `decided` (F, K): the most probable of those there.

    A piece shorter than `least` frames goes to who speaks before or after it, if they speak all
    through it too. Who would lose every frame keeps the turn in which they are most probable.
    """
    if decided.sum(axis=1).max(initial=0) < 2:
        return decided.copy()
    owner = np.where(decided, activity, -1.0).argmax(axis=1)
    owner[~decided.any(axis=1)] = NOBODY
    while _hand_over(owner, activity, decided, least):
        pass
    alone: Flags = owner[:, None] == np.arange(decided.shape[1])
    for speaker in np.flatnonzero(decided.any(axis=0) & ~alone.any(axis=0)):
        runs = runs_of(decided[:, speaker])
        start, end = max(runs, key=lambda run: float(activity[slice(*run), speaker].mean()))
        alone[start:end] = np.arange(decided.shape[1]) == speaker
    return alone


def _hand_over(owner: Ints, activity: Floats, decided: Flags, least: int) -> bool:
    """Give short pieces of `owner` (F,) to neighbours, in place; tell whether any was.

    The number of pieces falls each time.
    """
    changed = False
    for start, end in _pieces(owner):
        if owner[start] == NOBODY or end - start >= least:
            continue
        beside = {int(who) for who in (*owner[max(start - 1, 0) : start], *owner[end : end + 1])}
        able = [
            who
            for who in sorted(beside - {NOBODY, int(owner[start])})
            if decided[start:end, who].all()
        ]
        if able:
            owner[start:end] = max(able, key=lambda who: float(activity[start:end, who].mean()))
            changed = True
    return changed


def _pieces(owner: Ints) -> Iterator[tuple[int, int]]:
    """Give the (first, past-the-last) frames within which `owner` (F,) is the same."""
    outside = NOBODY - 1
    yield from pairwise(np.flatnonzero(np.diff(owner, prepend=outside, append=outside)).tolist())
