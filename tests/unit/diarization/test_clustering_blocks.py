"""Blocks: few groups are left of many, nobody is joined who must not be, in bounded memory."""

import tracemalloc

import numpy as np
import pytest

from drawn_voices import draw_voices
from wavlm_meeting.diarization.agglomerative import Groups
from wavlm_meeting.diarization.blocks import blocks, condense
from wavlm_meeting.diarization.clustering import ClusteringSettings, cluster


@pytest.mark.parametrize("noise", [0.3, 5.0])
def test_few_enough_groups_are_left_of_clear_voices_and_of_noise(noise: float) -> None:
    """Sizes and means stay true, all are somewhere, and a small number stays as it is."""
    drawn = draw_voices(4, 300, noise)
    groups = Groups.single(drawn.embeddings, drawn.windows)
    fewer, members = condense(groups, 40, 0.3, 1)
    assert len(fewer) <= 40
    assert np.array_equal(np.bincount(members), fewer.sizes)
    for number in range(len(fewer)):
        mean = drawn.embeddings[members == number].mean(axis=0)
        assert np.allclose(fewer.means[number], mean)
    same, order = condense(groups, 600, 0.3, 1)
    assert same is groups
    assert order.tolist() == list(range(600))


def test_who_is_heard_in_one_window_is_never_joined_across_blocks() -> None:
    """A window that a block's end cuts through keeps its two speakers apart on all levels."""
    rng = np.random.default_rng(0)
    embeddings = np.ones((401, 8)) + 0.01 * rng.standard_normal((401, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    windows = np.append([-1], np.repeat(np.arange(200), 2))  # pairs begin at odd places
    fewer, members = condense(Groups.single(embeddings, windows), 40, 0.3, 1)
    pairs = members[1:].reshape(200, 2)
    assert (pairs[:, 0] != pairs[:, 1]).all()
    rows, columns, _ = fewer.apart()
    assert set(map(tuple, pairs)) <= set(zip(rows, columns, strict=True))


@pytest.mark.parametrize("count", [1, 7, 16, 17, 1000])
def test_blocks_cover_all_and_keep_the_work_linear(count: int) -> None:
    """Every number is in one block; pairs within blocks are at most `most` for each of them."""
    parts = list(blocks(count, 16))
    assert np.array_equal(np.concatenate(parts), np.arange(count))
    assert max(map(len, parts)) <= 16
    assert sum(len(part) ** 2 for part in parts) <= 16 * count


def test_memory_grows_with_the_local_speakers_and_not_with_their_square() -> None:
    """Twice the local speakers take twice the memory at most, far less than all pairs would."""
    peaks = []
    for windows in (4000, 8000):
        drawn = draw_voices(8, windows)
        settings = ClusteringSettings(block=500)
        tracemalloc.start()
        found = cluster(*drawn.heard, settings)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.labels.max() + 1 == 8
    assert peaks[1] < 2.1 * peaks[0]
    assert peaks[1] < 16_000**2 * 8 / 20
