"""Deciding frames anew, by the voices that clustering has found in the whole recording.

T frames of a window, C channels of features, F frames of the recording, K its speakers, M active
local speakers of all windows together, D embedding size.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from wavlm_meeting.diarization.assembly import Block
from wavlm_meeting.diarization.heard import LocalSpeakers
from wavlm_meeting.diarization.reconstruction import Floats, overlap_add_blocks
from wavlm_meeting.diarization.target_speaker import TargetSpeakerHead


def speaker_voices(
    embeddings: Floats,
    labels: NDArray[np.integer],
    speech_s: NDArray[np.float64],
    count: int,
) -> Floats:
    """Return the unit-length means (K, D) of the `count` speakers' embeddings (M, D), by speech."""
    sums = np.zeros((count, embeddings.shape[1]))
    np.add.at(sums, labels, embeddings * speech_s[:, None])
    lengths = np.linalg.norm(sums, axis=1, keepdims=True)
    return (sums / np.maximum(lengths, 1e-8)).astype(np.float32)


def central_features(windows: Iterable[LocalSpeakers], hop: int) -> Iterator[Floats]:
    """Give the features (f, C) of consecutive frames, each as the window knows it that is nearest.

    `hop` samples are a frame.
    """
    for window, place in _central(windows, hop):
        if window.features is None:
            raise ValueError("the windows carry no features: the model has no target-speaker head.")
        yield window.features[place]


def central_audible(windows: Iterable[LocalSpeakers], hop: int) -> Floats:
    """Return how much of the activity in each frame of the recording is audible (F,)."""
    return np.concatenate(
        [
            np.ones(place.stop - place.start, np.float32)
            if window.audible is None
            else window.audible[place]
            for window, place in _central(windows, hop)
        ]
    )


@torch.inference_mode()
def refined_blocks(
    head: TargetSpeakerHead, features: Iterable[Floats], voices: Floats, stretch: int
) -> Iterator[Floats]:
    """Give the probability (f, K) of each speaker in consecutive frames.

    `features` are those of `central_features`, `voices` (K, D) the speakers' embeddings. The head
    hears `stretch` frames at a time, half of which it has heard before; both are averaged.
    """
    device = head.output.weight.device
    known = torch.from_numpy(voices).to(device)[None]

    def heard() -> Iterator[tuple[int, Floats]]:
        for first, piece in _stretches(features, stretch):
            logits = head(torch.from_numpy(piece).to(device)[None], known)[0]
            yield first, logits.sigmoid().float().cpu().numpy()

    yield from overlap_add_blocks(heard(), at_once=8)


def blended(
    blocks: Iterable[Block], refined: Iterable[Floats], share: float, audible: Floats
) -> Iterator[Block]:
    """Give the blocks with activities that are refined ones by `share`, and voices to match.

    `refined` are blocks (f, K) of any sizes, with as many frames in all; they count as much as
    frames are `audible` (F,).
    """
    refined = iter(refined)
    held = np.zeros((0, 0), np.float32)
    first = 0
    for activity, voices in blocks:
        while len(held) < len(activity):
            following = next(refined)
            held = np.concatenate([held, following]) if len(held) else following
        own, held = held[: len(activity)], held[len(activity) :]
        own = own * audible[first : first + len(activity), None]
        first += len(activity)
        yield Block(
            (1 - share) * activity + share * own, (1 - share) * voices + share * own.sum(axis=1)
        )


def _central(windows: Iterable[LocalSpeakers], hop: int) -> Iterator[tuple[LocalSpeakers, slice]]:
    """Give each window with those of its frames that no other knows better.

    A window gives way to the next in the middle of what they share: towards its edges it has heard
    less around.
    """
    begin, held = 0, None
    for window in windows:
        if held is not None:
            first = held.start // hop
            end = (window.start // hop + first + len(held.activity)) // 2
            yield held, slice(begin - first, end - first)
            begin = end
        held = window
    if held is not None:
        yield held, slice(begin - held.start // hop, len(held.activity))


def _stretches(features: Iterable[Floats], size: int) -> Iterator[tuple[int, Floats]]:
    """Give the first frame and the features of stretches that overlap by half."""
    held: list[Floats] = []
    length = first = 0
    for part in features:
        held.append(part)
        length += len(part)
        while length > size:  # one more frame than a stretch: only then it is not the last
            joined = np.concatenate(held)
            yield first, joined[:size]
            held, length, first = [joined[size // 2 :]], length - size // 2, first + size // 2
    if length:
        yield first, np.concatenate(held)
