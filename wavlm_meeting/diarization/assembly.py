"""The steps from what was heard in windows to who is active when in a recording.

T frames of a window, S local speakers, D embedding size, W windows, M active local speakers of all
windows together, F frames of the recording, K its speakers.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.diarization.heard import ReadableWindows
from wavlm_meeting.diarization.reconstruction import (
    AT_ONCE,
    Floats,
    Ints,
    Part,
    by_speaker,
    most_active,
    overlap_add_blocks,
)


@dataclass(frozen=True)
class ActiveVoices:
    """The voices of all local speakers that say something."""

    embeddings: Floats
    """(M, D) of unit length."""
    windows: Ints
    """(M,) number of the window that each was heard in."""
    slots: Ints
    """(M,) number of the local speaker within it."""
    first_frames: Ints
    """(M,) frame of the recording that the window begins with."""
    speech_s: NDArray[np.float64]
    """(M,) seconds that each embedding rests on."""
    frames: int
    """F, those of the recording."""

    def speakers(self, labels: NDArray[np.integer], shape: tuple[int, int]) -> Ints:
        """Return the speaker of every local speaker (W, S) by `labels` (M,); -1 is nobody."""
        speakers = np.full(shape, -1, np.int64)
        speakers[self.windows, self.slots] = labels
        return speakers


class Block(NamedTuple):
    """Consecutive frames of a recording; the blocks of one follow each other without a gap."""

    activity: Floats
    """(f, K) probability that each speaker is active."""
    voices: Floats
    """(f,) expected number of voices."""


class Decided(NamedTuple):
    """Who is active in each frame of a recording."""

    activity: Floats
    """(F, K) probability that each speaker is active."""
    active: NDArray[np.bool_]
    """(F, K) whether it is taken to be so."""


def active_voices(local: ReadableWindows, speakers: int, size: int, hop: int) -> ActiveVoices:
    """Gather who says something, of `speakers` local speakers with embeddings of `size` D.

    A frame has `hop` samples.
    """
    most = len(local) * speakers
    embeddings = np.empty((most, size), np.float32)  # what is not filled takes no memory
    windows, slots, first_frames = (np.empty(most, np.int64) for _ in range(3))
    speech_s = np.empty(most, np.float64)
    count = frames = 0
    for window, item in enumerate(local):
        active = np.flatnonzero(item.speech_s > 0)
        place = slice(count, count + len(active))
        embeddings[place], speech_s[place] = item.embeddings[active], item.speech_s[active]
        windows[place], slots[place] = window, active
        first_frames[place] = item.start // hop
        count += len(active)
        frames = max(frames, item.start // hop + len(item.activity))
    return ActiveVoices(
        embeddings[:count],
        windows[:count],
        slots[:count],
        first_frames[:count],
        speech_s[:count],
        frames,
    )


def parts_of(local: ReadableWindows, speakers: Ints, hop: int) -> Iterator[Part]:
    """Give the windows with the speakers (W, S) of their local speakers; `hop` samples a frame."""
    for item, own in zip(local, speakers, strict=True):
        yield Part(item.start // hop, item.activity, own)


def blocks_of(parts: Iterable[Part], count: int, at_once: int = AT_ONCE) -> Iterator[Block]:
    """Put windows together, `at_once` of them, to the activities of `count` speakers."""
    voiced = (
        (
            first,
            np.hstack([by_speaker(activity, own, count), activity.sum(axis=1, keepdims=True)]),
        )
        for first, activity, own in parts
    )
    for block in overlap_add_blocks(voiced, at_once):
        yield Block(block[:, :count], block[:, count])


def decide(blocks: Iterable[Block], frames: int, count: int, onset: float) -> Decided:
    """Decide the `frames` frames of a recording, block by block, as `most_active` does."""
    decided = Decided(np.zeros((frames, count), np.float32), np.zeros((frames, count), np.bool_))
    first = 0
    for activity, voices in blocks:
        place = slice(first, first + len(activity))
        decided.activity[place] = activity
        decided.active[place] = most_active(activity, voices, onset)
        first += len(activity)
    return decided
