"""What the heads say of a recording, window by window.

T frames of a window, S local speakers, D embedding size, C channels of features.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LocalSpeakers:
    """What the heads say of one window; all but `speech_s` fit into float16 without loss."""

    start: int
    """First sample of the window."""
    activity: NDArray[np.float32]
    """(T, S) probability that each local speaker is active."""
    embeddings: NDArray[np.float32]
    """(S, D) of unit length."""
    speech_s: NDArray[np.float64]
    """(S,) seconds of speech that each embedding rests on, 0 for who is never active."""
    levels: NDArray[np.float32]
    """(S,) level of that speech, dBFS."""
    features: NDArray[np.float32] | None = None
    """(T, C) what the target-speaker head keeps of each frame, if the model has one."""
    audible: NDArray[np.float32] | None = None
    """(T,) share of what was active in each frame that has not been left out; None is all."""


class ReadableWindows(Protocol):
    """The windows of a recording by start, any number of times."""

    def __len__(self) -> int:
        """Return how many windows there are."""

    def __iter__(self) -> Iterator[LocalSpeakers]:
        """Give the windows, from the first one on."""


class Windows(ReadableWindows, Protocol):
    """Windows that come one by one: a list, or a journal, which has them on the disk."""

    def append(self, local: LocalSpeakers, /) -> None:
        """Add the next window."""


@dataclass
class Heard:
    """All windows of a recording, and its length in samples."""

    local: Windows
    samples: int
