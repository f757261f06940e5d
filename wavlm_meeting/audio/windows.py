"""Cutting a stream of samples into windows of equal length."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Window:
    """One window of a recording."""

    start: int
    """Its first sample's place in the recording."""

    samples: NDArray[np.float32]
    """(window,) samples; zeros after the end of the recording."""

    valid: int
    """How many of them are the recording's."""

    is_last: bool
    """Whether the recording ends in this window."""


def iter_windows(blocks: Iterable[NDArray[np.float32]], window: int, hop: int) -> Iterator[Window]:
    """Cut blocks of any sizes into windows of `window` samples that start every `hop` samples.

    Together the windows cover every sample; the last one is the first that reaches the end, and is
    padded with zeros. A recording shorter than a window gives one window, an empty one none. No
    more than a window and a block are held. Raises ValueError unless 0 < hop <= window.
    """
    if not 0 < hop <= window:
        raise ValueError(f"hop {hop} must be from 1 to the window, {window}, to cover all samples.")
    start = 0
    held = np.zeros(0, np.float32)
    for block in blocks:
        held = np.concatenate([held, block])
        # One sample more than a window: only then is it sure that this window is not the last.
        offset = 0
        while len(held) - offset > window:
            yield Window(start, held[offset : offset + window].copy(), window, is_last=False)
            start, offset = start + hop, offset + hop
        held = held[offset:].copy()
    if len(held):
        samples = np.zeros(window, np.float32)
        samples[: len(held)] = held
        yield Window(start, samples, len(held), is_last=True)
