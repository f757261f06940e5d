"""From the activities of local speakers in windows to the turns of a recording's speakers.

W windows, T frames of a window, S local speakers, F frames of the recording, K speakers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_closing, find_objects, label

Floats = NDArray[np.float32]


def speaker_activity(
    activities: Sequence[Floats],
    first_frames: Sequence[int],
    speakers: Sequence[NDArray[np.int64]],
    count: int,
) -> Floats:
    """Overlap-add windows to the probability (F, K) that each speaker is active.

    `activities` are W arrays (T, S) of probabilities, `first_frames` says where each window begins
    in the recording, `speakers` are W arrays (S,) with the speaker of each local speaker, -1 for
    one that is nobody.
    """
    own = []
    for local, names in zip(activities, speakers, strict=True):
        part = np.zeros((len(local), count), np.float32)
        for slot in np.flatnonzero(names >= 0):
            part[:, names[slot]] = np.maximum(part[:, names[slot]], local[:, slot])
        own.append(part)
    return overlap_add(own, first_frames)


def overlap_add(windows: Sequence[Floats], first_frames: Sequence[int]) -> Floats:
    """Average W windows (T, C) where they overlap, to (F, C).

    A window counts less towards its edges, where it has heard less around.
    """
    ends = [first + len(window) for first, window in zip(first_frames, windows, strict=True)]
    frames = max(ends, default=0)
    channels = windows[0].shape[1] if windows else 0
    total = np.zeros((frames, channels), np.float32)
    weight = np.zeros((frames, 1), np.float32)
    for first, window in zip(first_frames, windows, strict=True):
        size = len(window)
        taper = np.minimum(np.arange(1, size + 1), np.arange(size, 0, -1)).astype(np.float32)
        total[first : first + size] += taper[:, None] * window
        weight[first : first + size] += taper[:, None]
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
    active = active.copy()
    for speaker in range(active.shape[1]):
        padded = np.pad(active[:, speaker], gap + 1)
        closed = binary_closing(padded, np.ones(gap + 1)) if gap else padded
        closed = closed[gap + 1 : len(closed) - gap - 1]
        runs, _ = label(closed)
        for (run,) in find_objects(runs):
            if run.stop - run.start < least:
                closed[run] = False
        active[:, speaker] = closed
    return active


def restore_silent(
    active: NDArray[np.bool_],
    activities: Sequence[Floats],
    first_frames: Sequence[int],
    speakers: Sequence[NDArray[np.int64]],
) -> NDArray[np.bool_]:
    """Give speakers who lost every frame of (F, K) their most certain ones back.

    Neighbouring windows can outvote the only window in which somebody was heard. The other
    arguments are those of `speaker_activity`.
    """
    active = active.copy()
    for silent in np.flatnonzero(~active.any(axis=0)):
        for first, local, names in zip(first_frames, activities, speakers, strict=True):
            for slot in np.flatnonzero(names == silent):
                certain = local[:, slot] >= 0.9 * local[:, slot].max()
                active[first : first + len(local), silent] |= certain
    return active


def runs_of(active: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the (first, past-the-last) frames of each run of true values in (F,)."""
    edges = np.flatnonzero(np.diff(np.pad(active.astype(np.int8), 1)))
    return [(int(start), int(end)) for start, end in zip(edges[::2], edges[1::2], strict=True)]
