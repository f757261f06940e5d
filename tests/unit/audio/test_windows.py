"""Windows over a stream equal windows over the whole."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from wavlm_meeting.audio import iter_windows

Samples = NDArray[np.float32]


def obvious_windows(samples: Samples, window: int, hop: int) -> list[tuple[int, Samples, int]]:
    """Cut the whole recording with slices: the reference that nobody can misread."""
    windows = []
    start = 0
    while len(samples):
        part = samples[start : start + window]
        windows.append((start, np.pad(part, (0, window - len(part))), len(part)))
        if start + window >= len(samples):
            break
        start += hop
    return windows


def test_streamed_windows_are_those_of_the_whole() -> None:
    """For any lengths of recording, window, hop and blocks."""
    random = np.random.default_rng(0)
    for _ in range(300):
        window = int(random.integers(1, 50))
        hop = int(random.integers(1, window + 1))
        samples = random.standard_normal(random.integers(0, 200)).astype(np.float32)
        cuts = np.sort(random.integers(0, len(samples) + 1, size=random.integers(0, 9)))
        found = list(iter_windows(np.split(samples, cuts), window, hop))
        expected = obvious_windows(samples, window, hop)
        assert [(item.start, item.valid) for item in found] == [
            (start, valid) for start, _, valid in expected
        ]
        for item, (_, part, _) in zip(found, expected, strict=True):
            np.testing.assert_array_equal(item.samples, part)
        assert [item.is_last for item in found] == [False] * (len(found) - 1) + [True] * bool(found)


def test_every_sample_is_covered_once_by_windows_without_overlap() -> None:
    """With hop equal to window the valid parts, joined, are the recording."""
    samples = np.arange(1000, dtype=np.float32)
    windows = iter_windows(np.array_split(samples, 7), 64, 64)
    joined = np.concatenate([window.samples[: window.valid] for window in windows])
    np.testing.assert_array_equal(joined, samples)


def test_a_short_recording_gives_one_window() -> None:
    """It is padded with zeros and says how much of it is real."""
    [window] = iter_windows([np.ones(3, np.float32)], 8, 4)
    np.testing.assert_array_equal(window.samples, [1, 1, 1, 0, 0, 0, 0, 0])
    assert (window.start, window.valid, window.is_last) == (0, 3, True)


def test_windows_come_as_soon_as_they_are_full() -> None:
    """No more blocks are read than the window needs, and one to know that it is not the last."""
    read = 0

    def blocks() -> Iterator[Samples]:
        nonlocal read
        for _ in range(100):
            read += 10
            yield np.zeros(10, np.float32)

    for window in iter_windows(blocks(), 25, 5):
        assert read <= window.start + 25 + 10


def test_windows_are_theirs_to_keep() -> None:
    """A window may be changed, or kept, without touching another or holding its block."""
    first, second = iter_windows([np.arange(12, dtype=np.float32)], 8, 4)
    first.samples[:] = -1
    np.testing.assert_array_equal(second.samples, np.arange(4, 12))
    assert first.samples.base is None


@pytest.mark.parametrize("hop", [0, -1, 9])
def test_a_hop_that_would_lose_samples_is_refused(hop: int) -> None:
    """Windows must cover everything."""
    with pytest.raises(ValueError, match="cover all samples"):
        list(iter_windows([np.zeros(20, np.float32)], 8, hop))
