"""What a window's turns are for the loss: who is active in each frame.

T frames, S local speakers.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.wavlm.config import WavLMConfig


def local_targets(
    encoder: WavLMConfig, length: int, turns: Sequence[tuple[int, int, str]], local_speakers: int
) -> tuple[NDArray[np.float32], list[str]]:
    """Return activities (T, S) of a window of `length` samples, and the names of its speakers.

    `turns` hold (start, end, speaker) in samples of the window, sorted. Slots go by the first turn;
    where there are more speakers than slots, those who speak longest have them.
    """
    names = list(dict.fromkeys(name for _, _, name in turns))
    if len(names) > local_speakers:
        spoken = dict.fromkeys(names, 0)
        for start, end, name in turns:
            spoken[name] += end - start
        most = sorted(names, key=lambda name: -spoken[name])[:local_speakers]
        names = [name for name in names if name in most]
    activities = np.zeros((encoder.frame_count(length), local_speakers), np.float32)
    for start, end, name in turns:
        if name in names:
            activities[frame_range(encoder, start, end), names.index(name)] = 1.0
    return activities, names


def frame_range(encoder: WavLMConfig, start: int, end: int) -> slice:
    """Return the frames whose centres lie within the samples `start` to `end`."""
    centre = encoder.receptive_field / 2
    first = max(0, int(np.ceil((start - centre) / encoder.hop)))
    return slice(first, max(first, int(np.ceil((end - centre) / encoder.hop))))
