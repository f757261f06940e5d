"""From the activities of local speakers in windows to the turns of a recording's speakers.

W windows, T frames of a window, S local speakers, F frames of the recording, K speakers.
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]

AT_ONCE = 256
"""Windows that are put together at once."""


class Part(NamedTuple):
    """A window, its place, and whose its local speakers are."""

    first: int
    """Frame of the recording that the window begins with."""
    activity: Floats
    """(T, S) probability that each local speaker is active."""
    speakers: Ints
    """(S,) the speaker of each local speaker, -1 for one that is nobody."""


def speaker_activity(
    activities: Sequence[Floats],
    first_frames: Sequence[int],
    speakers: Sequence[Ints],
    count: int,
) -> Floats:
    """Overlap-add windows to the probability (F, K) that each speaker is active.

    `activities` are W arrays (T, S) of probabilities, `first_frames` says where each window begins
    in the recording, `speakers` are W arrays (S,) with the speaker of each local speaker, -1 for
    one that is nobody.
    """
    own = [by_speaker(*each, count) for each in zip(activities, speakers, strict=True)]
    return overlap_add(own, first_frames)


def by_speaker(activity: Floats, speakers: Ints, count: int) -> Floats:
    """Return the activity (T, K) of the speakers in a window: that of their loudest local one."""
    own = np.zeros((len(activity), count), np.float32)
    for slot in np.flatnonzero(speakers >= 0):
        own[:, speakers[slot]] = np.maximum(own[:, speakers[slot]], activity[:, slot])
    return own


def overlap_add(windows: Sequence[Floats], first_frames: Sequence[int]) -> Floats:
    """Average W windows (T, C) where they overlap, to (F, C); see `overlap_add_blocks`."""
    blocks = overlap_add_blocks(zip(first_frames, windows, strict=True))
    return np.concatenate(
        [np.zeros((0, windows[0].shape[1] if windows else 0), np.float32), *blocks]
    )


def overlap_add_blocks(
    windows: Iterable[tuple[int, Floats]], at_once: int = AT_ONCE
) -> Iterator[Floats]:
    """Average windows (T, C) where they overlap; together the blocks (f, C) are the recording.

    Each window comes with its first frame, none before an earlier one's. A window counts less
    towards its edges, where it has heard less around. What is held is `at_once` windows long, and
    the result does not depend on it.
    """
    windows = iter(windows)
    total = weight = np.zeros((0, 1), np.float32)
    begin = 0  # frame of the recording that `total` begins with
    while group := list(islice(windows, at_once)):
        frames = max(first + len(window) for first, window in group) - begin
        total = _grown(total, frames, group[0][1].shape[1])
        weight = _grown(weight, frames, 1)
        settled = group[0][0] - begin  # no window to come reaches before this one
        if settled > 0:
            yield _average(total[:settled], weight[:settled])
            total, weight, begin = total[settled:], weight[settled:], begin + settled
        for first, window in group:
            size = len(window)
            taper = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
            total[first - begin : first - begin + size] += taper[:, None] * window
            weight[first - begin : first - begin + size] += taper[:, None]
    yield _average(total, weight)


def _grown(array: Floats, frames: int, channels: int) -> Floats:
    """Return a copy that is at least `frames` long, with zeros at its end."""
    grown = np.zeros((max(frames, len(array)), channels), np.float32)
    grown[: len(array)] = array
    return grown


def _average(total: Floats, weight: Floats) -> Floats:
    return (total / np.maximum(weight, 1e-8)).astype(np.float32)


def most_active(activity: Floats, voices: Floats, onset: float) -> NDArray[np.bool_]:
    """Decide (F, K) who is active: as many as speak, the most probable ones.

    `voices` (F,) is the expected number of voices: a frame in which somebody surely speaks has a
    speaker even if it is open who. With one voice expected or none, one is heard from `onset` on.
    """
    count = np.floor(voices + 1.0 - onset)[:, None]
    rank = np.argsort(np.argsort(-activity, axis=1, kind="stable"), axis=1, kind="stable")
    return np.asarray((rank < count) & (activity > 0))


def smooth(active: NDArray[np.bool_], gap: int, least: int) -> NDArray[np.bool_]:
    """Close the pauses of each speaker of (F, K) up to `gap` frames, then drop short turns."""
    smoothed = np.zeros_like(active)
    for speaker in range(active.shape[1]):
        starts, ends = _edges(active[:, speaker])
        apart = np.flatnonzero(starts[1:] - ends[:-1] > gap)
        first, last = np.append(-1, apart) + 1, np.append(apart, len(ends) - 1)
        for start, end in zip(starts[first], ends[last], strict=True) if len(starts) else ():
            if end - start >= least:
                smoothed[start:end, speaker] = True
    return smoothed


def restore_silent(active: NDArray[np.bool_], parts: Iterable[Part]) -> NDArray[np.bool_]:
    """Give speakers who lost every frame of (F, K) their most certain ones back.

    Neighbouring windows can outvote the only window in which somebody was heard.
    """
    silent: NDArray[np.bool_] = np.asarray(~active.any(axis=0))
    if not silent.any():
        return active
    active = active.copy()
    for first, local, speakers in parts:
        for slot in np.flatnonzero((speakers >= 0) & silent[speakers]):
            certain = local[:, slot] >= 0.9 * local[:, slot].max()
            active[first : first + len(local), speakers[slot]] |= certain
    return active


def runs_of(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the (first, past-the-last) frames of each run of true values in (F,)."""
    starts, ends = _edges(active)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def _edges(active: NDArray[np.bool_]) -> tuple[Ints, Ints]:
    """Return the first frames of the runs of true values in (F,), and those past their last."""
    edges = np.flatnonzero(np.diff(np.pad(active.astype(np.int8), 1)))
    return edges[::2], edges[1::2]
