"""Which speaker of a finished diarization each local speaker of a window was.

F frames of the recording, T frames of a window, S local speakers, K speakers, D embedding size.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.diarization.heard import LocalSpeakers
from wavlm_meeting.diarization.result import Diarization

Floats = NDArray[np.floating]


def decided_frames(diarization: Diarization, frames: int, hop_s: float) -> NDArray[np.bool_]:
    """Return (F, K) who speaks in each frame of `hop_s`, in the order of `speakers`."""
    place = {name: number for number, name in enumerate(diarization.speakers)}
    decided = np.zeros((frames, len(place)), np.bool_)
    for turn in diarization.turns:
        decided[round(turn.start / hop_s) : round(turn.end / hop_s), place[turn.speaker]] = True
    return decided


def whose(activity: Floats, decided: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Return the speaker (S,) in whose frames each local speaker is most active.

    `activity` (T, S) and `decided` (T, K) are of the same frames; -1 is active in nobody's.
    """
    if not decided.shape[1]:
        return np.full(activity.shape[1], -1, np.int64)
    shared = activity.T @ decided.astype(np.float32)  # (S, K)
    return np.where(shared.max(axis=1) > 0, shared.argmax(axis=1), -1)


def speaker_embeddings(
    diarization: Diarization, windows: Iterable[LocalSpeakers], hop_s: float, hop: int
) -> NDArray[np.float32]:
    """Return a unit-length embedding (K, D) of each speaker, in the order of `speakers`.

    It is the mean over the windows that the speaker is heard in, weighted by the speech that each
    embedding rests on; zeros for who has none. Frames are `hop` samples, `hop_s` seconds.
    """
    frames = int(np.ceil(diarization.duration_s / hop_s)) + 1
    decided = decided_frames(diarization, frames, hop_s)
    sums: NDArray[np.float64] | None = None
    for window in windows:
        if sums is None:
            sums = np.zeros((decided.shape[1], window.embeddings.shape[1]))
        first = window.start // hop
        part = decided[first : first + len(window.activity)]
        speakers = whose(window.activity[: len(part)], part)
        heard = (speakers >= 0) & (window.speech_s > 0)
        weighted = window.embeddings * window.speech_s[:, None]
        np.add.at(sums, speakers[heard], weighted[heard])
    if sums is None:
        return np.zeros((0, 0), np.float32)
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.maximum(lengths, 1e-8)).astype(np.float32)
