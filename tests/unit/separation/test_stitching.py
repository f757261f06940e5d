"""What joins windows: nothing added, nothing lost, nothing swapped."""

import numpy as np
import pytest

from wavlm_meeting.audio.windows import iter_windows
from wavlm_meeting.separation.stitching import Cuts, Stitcher, similarity

# J tracks, N samples, W samples of a window

CUTS = [
    Cuts.of(400, 200, 100, fade=20),  # future as well as history
    Cuts.of(400, 200, 200, fade=20),  # no future: the fade lies in the history
    Cuts.of(400, 200, 0, fade=20),  # no history: the fade lies in the future
    Cuts.of(400, 200, 190, fade=20),  # a future shorter than the fade
    Cuts.of(400, 200, 900, fade=20),  # more history than there is room for
    Cuts.of(400, 390, 5, fade=20),  # hardly an overlap
    Cuts.of(400, 400, 0, fade=20),  # none
    Cuts.of(400, 10, 250, fade=20),  # fade upon fade
]


def stitched(
    tracks: np.ndarray, cuts: Cuts, rng: np.random.Generator | None = None
) -> list[np.ndarray]:
    """Cut tracks (J, N) into windows, with the order of each drawn by `rng`, and join them."""
    stitcher, pieces = Stitcher(cuts), []
    for windows in zip(
        *(iter_windows([track], cuts.window, cuts.hop) for track in tracks), strict=True
    ):
        own = np.stack([window.samples for window in windows])
        if rng is not None:
            own = own[rng.permutation(len(own))]
        last = windows[0]
        pieces.append(stitcher.add(own, last.valid, is_last=last.is_last))
    return pieces


@pytest.mark.parametrize("cuts", CUTS)
@pytest.mark.parametrize("length", [1, 10, 399, 400, 401, 600, 601, 2003])
def test_the_weights_of_all_windows_sum_to_one(cuts: Cuts, length: int) -> None:
    """Windows of ones give ones, one for each sample."""
    found = np.concatenate(stitched(np.ones((1, length), np.float32), cuts), axis=1)
    assert found.shape == (1, length)
    assert np.allclose(found, 1, atol=1e-6)


@pytest.mark.parametrize("cuts", [c for c in CUTS if c.hop < c.window - 100])
def test_tracks_keep_their_order_whatever_that_of_the_windows(cuts: Cuts) -> None:
    """Two voices come out as they went in, though each window gives them in any order."""
    rng = np.random.default_rng(1)
    voices = rng.standard_normal((2, 5000)).astype(np.float32)
    found = np.concatenate(stitched(voices, cuts, np.random.default_rng(2)), axis=1)
    same = np.abs(found[0, :100] - voices[0, :100]).max() < 1e-6
    assert np.allclose(found, voices if same else voices[::-1], atol=1e-6)


def test_three_tracks_keep_their_order() -> None:
    """The number of tracks is not written into the joining."""
    voices = np.random.default_rng(3).standard_normal((3, 5000)).astype(np.float32)
    found = np.concatenate(stitched(voices, CUTS[0], np.random.default_rng(4)), axis=1)
    assert {row.tobytes() for row in found[:, ::250]} == {row.tobytes() for row in voices[:, ::250]}


def test_who_talks_alone_stays_on_a_track_across_a_long_pause() -> None:
    """After more silence than a window hears, a voice goes on where it was."""
    rng = np.random.default_rng(5)
    talks = np.repeat(np.arange(40) % 8 < 3, 250)
    voice = (talks * rng.standard_normal(len(talks))).astype(np.float32)
    rest = 0.01 * rng.standard_normal(len(talks)).astype(np.float32)
    found = np.concatenate(
        stitched(np.stack([voice, rest]), CUTS[0], np.random.default_rng(6)), axis=1
    )
    loudest = np.square(found).sum(axis=1).max()
    assert loudest == pytest.approx(np.square(voice).sum(), rel=1e-3)


def test_a_loud_word_on_the_wrong_track_does_not_turn_all_around() -> None:
    """What was heard most of the time decides, not what was heard loudest."""
    voices = np.random.default_rng(8).standard_normal((2, 16_000)).astype(np.float32)
    heard_again = voices.copy()
    voices[:, 8000:9600] *= 5
    heard_again[:, 8000:9600] = voices[::-1, 8000:9600]
    alike = similarity(voices, heard_again)
    assert np.trace(alike) > np.trace(alike[::-1])
    assert np.trace(voices @ heard_again.T) < np.trace(voices[::-1] @ heard_again.T)  # energies


def test_one_window_that_errs_does_not_turn_the_next_ones() -> None:
    """Tracks go on by what all windows before heard, not by the last one alone."""
    voices = np.random.default_rng(9).standard_normal((2, 600)).astype(np.float32)
    stitcher = Stitcher(Cuts.of(400, 50, 200, fade=20))
    for start in (0, 50, 100, 150):
        tracks = voices[:, start : start + 400].copy()
        if start == 150:
            tracks[:, 230:] = tracks[::-1, 230:]  # half of what the next one hears
        stitcher.add(tracks, 400, is_last=False)
    piece = stitcher.add(voices[::-1, 200:600], 400, is_last=True)
    assert np.allclose(piece[:, -100:], voices[:, 500:], atol=1e-6)


def test_joins_do_not_click() -> None:
    """Where windows disagree about the level, the step is spread over the whole fade."""
    cuts = CUTS[0]
    stitcher = Stitcher(cuts)
    levels = np.random.default_rng(7).uniform(0.5, 1, 20).astype(np.float32)
    pieces = [
        stitcher.add(np.full((1, cuts.window), level, np.float32), cuts.window, is_last=False)
        for level in levels
    ]
    steps = np.abs(np.diff(np.concatenate(pieces, axis=1)))
    assert steps.max() <= np.pi / 2 * np.abs(np.diff(levels)).max() / cuts.fade


@pytest.mark.parametrize("cuts", CUTS)
def test_tracks_are_behind_by_the_latency(cuts: Cuts) -> None:
    """With each window comes all but the latest samples; how many, the cuts say."""
    pieces = stitched(np.ones((1, 4000), np.float32), cuts)[:-1]
    given = np.cumsum([piece.shape[1] for piece in pieces])
    ends = cuts.window + cuts.hop * np.arange(len(pieces))
    assert (ends - given + cuts.hop == cuts.latency).all()


@pytest.mark.parametrize("hop", [0, -1, 401])
def test_windows_that_leave_samples_out_are_refused(hop: int) -> None:
    """A hop is from 1 to the window."""
    with pytest.raises(ValueError, match="hop"):
        Cuts.of(400, hop, 100)
