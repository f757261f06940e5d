"""From windows to turns: overlap-add, decisions and runs."""

import numpy as np
import pytest
from scipy.ndimage import binary_closing

from wavlm_meeting.diarization.reconstruction import (
    Part,
    most_active,
    overlap_add,
    overlap_add_blocks,
    restore_silent,
    runs_of,
    smooth,
    speaker_activity,
)


def test_windows_of_one_truth_add_up_to_it() -> None:
    """If every window sees the same, in whatever local order, so does the recording."""
    rng = np.random.default_rng(0)
    truth = rng.random((100, 3)).astype(np.float32)
    first = [0, 25, 50, 75, 90]
    orders = [rng.permutation(3) for _ in first]
    windows = [truth[f : f + 50][:, order] for f, order in zip(first, orders, strict=True)]
    found = speaker_activity(windows, first, orders, 3)
    np.testing.assert_allclose(found, truth, rtol=1e-5)


def test_a_window_counts_less_at_its_edges() -> None:
    """Where two windows disagree, the one that has the frame nearer to its middle wins."""
    yes, no = np.ones((10, 1), np.float32), np.zeros((10, 1), np.float32)
    names = [np.array([0]), np.array([0])]
    activity = speaker_activity([yes, no], [0, 5], names, 1)[:, 0]
    assert (activity[:5] == 1).all()
    assert (activity[10:] == 0).all()
    assert (np.diff(activity[5:10]) < 0).all()
    assert activity[5] > 0.5 > activity[9]


def test_two_local_speakers_of_one_person_count_as_the_louder() -> None:
    """Merged local speakers give their maximum, never a sum above 1."""
    local = np.array([[0.9, 0.8], [0.1, 0.7]], np.float32)
    found = speaker_activity([local], [0], [np.array([0, 0])], 1)
    np.testing.assert_allclose(found[:, 0], [0.9, 0.7], rtol=1e-6)


def test_as_many_are_active_as_speak() -> None:
    """The expected number of voices decides how many, the probabilities who."""
    activity = np.array([[0.4, 0.3, 0.1], [0.4, 0.3, 0.1], [0.2, 0.1, 0.0], [0.9, 0.0, 0.0]])
    voices = np.array([0.8, 1.6, 0.3, 2.0])
    active = most_active(activity.astype(np.float32), voices, 0.5)
    assert active.tolist() == [
        [True, False, False],
        [True, True, False],
        [False, False, False],
        [True, False, False],
    ]


@pytest.mark.parametrize("at_once", [1, 2, 7, 1000])
def test_blocks_of_any_size_are_the_recording(at_once: int) -> None:
    """However many windows are held at once, blocks add up to the plain weighted mean."""
    rng = np.random.default_rng(1)
    first = [0, 20, 40, 60, 85, 105]  # the fifth leaves five frames that nobody has heard
    windows = [rng.random((size, 3)).astype(np.float32) for size in (40, 40, 40, 20, 40, 13)]
    total, weight = np.zeros((125, 3)), np.zeros((125, 1))
    for start, window in zip(first, windows, strict=True):
        for place, row in enumerate(window):
            share = min(place + 1, len(window) - place)
            total[start + place] += share * row
            weight[start + place] += share
    blocks = list(overlap_add_blocks(zip(first, windows, strict=True), at_once))
    together = np.concatenate(blocks)
    np.testing.assert_allclose(together, total / np.maximum(weight, 1), rtol=1e-5)
    assert (together == overlap_add(windows, first)).all()
    held = at_once * 25 + 40
    assert all(len(block) <= held for block in blocks)


def test_smoothing_is_a_closing() -> None:
    """Pauses close as they do under scipy's binary closing, whatever the pattern."""
    active = np.random.default_rng(2).random((400, 3)) < 0.3
    for gap in (1, 3, 8):
        padded = np.pad(active, ((gap + 1, gap + 1), (0, 0)))
        closed = binary_closing(padded, np.ones((gap + 1, 1)))[gap + 1 : -gap - 1]
        assert (smooth(active, gap, 0) == closed).all()
    assert smooth(active, 10**12, 0).sum() >= smooth(active, 400, 0).sum()
    assert not smooth(active, 0, 10**12).any()
    assert not smooth(np.zeros((400, 2), np.bool_), 3, 2).any()


def test_short_gaps_close_and_short_turns_go() -> None:
    """Gaps of up to `gap` frames close, one frame more stays; the edges do not grow."""
    pattern = "11100111000111" + "0" * 10 + "10000000"
    active = np.array([[c == "1"] for c in pattern])
    assert runs_of(smooth(active, gap=2, least=2)[:, 0]) == [(0, 8), (11, 14)]
    assert runs_of(smooth(active, gap=0, least=1)[:, 0])[-1] == (24, 25)


def test_a_speaker_who_lost_all_frames_gets_the_surest_back() -> None:
    """Outvoted speakers return where they were surest; the others stay as they are."""
    local = np.array([[0.9, 0.2], [0.9, 0.6], [0.1, 0.3]], np.float32)
    active = np.array([[True, False], [True, False], [False, False]])
    restored = restore_silent(active, [Part(0, local, np.array([0, 1]))])
    assert restored[:, 0].tolist() == [True, True, False]
    assert restored[:, 1].tolist() == [False, True, False]
