"""From decided frames to turns: times, shares, likeness, and one speaker at a time."""

import numpy as np
import pytest

from wavlm_meeting.diarization.reconstruction import runs_of
from wavlm_meeting.diarization.turns import FrameTimes, Likeness, one_at_a_time, turns_of

TIMES = FrameTimes(hop=640, receptive_field=1360, samples=200 * 640 + 720)
"""As of `tiny`: 200 frames, 40 ms apart."""


def drawn(seed: int, frames: int = 200, speakers: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Draw probabilities (F, K) that vary slowly, and who is taken to be active."""
    rng = np.random.default_rng(seed)
    walk = np.cumsum(rng.standard_normal((frames, speakers)), axis=0)
    activity = (1 / (1 + np.exp(-walk / 2 - rng.standard_normal(speakers)))).astype(np.float32)
    return activity, activity > 0.5


def voices(seed: int, speakers: int = 4) -> tuple[np.ndarray, ...]:
    """Draw local speakers of 10 windows of 40 frames every 20: each speaker is in all of them."""
    rng = np.random.default_rng(seed)
    embeddings = rng.standard_normal((10 * speakers, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    labels = np.concatenate([rng.permutation(speakers) for _ in range(10)])
    first_frames = np.repeat(np.arange(10) * 20, speakers)
    return embeddings, labels, rng.uniform(0.5, 2, 10 * speakers), first_frames


@pytest.mark.parametrize("least", [1, 3, 10])
@pytest.mark.parametrize("seed", range(4))
def test_one_speaker_is_left_in_each_frame(seed: int, least: int) -> None:
    """One where anybody speaks, nobody elsewhere, only who was there, and nobody is lost."""
    activity, decided = drawn(seed)
    assert (decided.sum(axis=1) > 1).any()
    alone = one_at_a_time(activity, decided, least)
    assert np.array_equal(alone.sum(axis=1), decided.any(axis=1))
    assert (decided | ~alone).all()
    assert np.array_equal(alone.any(axis=0), decided.any(axis=0))


def test_the_most_probable_is_left() -> None:
    """Without a least length each frame is decided by its own probabilities."""
    activity, decided = drawn(5)
    alone = one_at_a_time(activity, decided, 1)
    some = decided.any(axis=1)
    wanted = np.where(decided, activity, 0).max(axis=1)
    assert np.array_equal(activity[alone], wanted[some])


def test_a_short_piece_goes_to_who_speaks_around_it() -> None:
    """Two frames within another's turn do not cut it; three do where three are asked for."""
    activity = np.tile(np.array([0.7, 0.6], np.float32), (20, 1))
    activity[5:7, 1] = activity[12:15, 1] = 0.9
    alone = one_at_a_time(activity, np.ones((20, 2), bool), 3)
    assert runs_of(alone[:, 1]) == [(12, 15)]


def test_a_short_piece_stays_where_nobody_else_speaks() -> None:
    """Speech is kept whatever its length: only others who speak there can take it over."""
    activity = np.array([[0.9, 0.8]] * 10 + [[0.1, 0.8]] * 2, np.float32)
    decided = np.array([[True, True]] * 10 + [[False, True]] * 2)
    alone = one_at_a_time(activity, decided, 5)
    assert runs_of(alone[:, 0]) == [(0, 10)]
    assert runs_of(alone[:, 1]) == [(10, 12)]


def test_who_is_always_outvoted_keeps_the_best_turn() -> None:
    """A speaker does not vanish: the number of speakers stays what it was."""
    activity = np.array([[0.9, 0.5], [0.9, 0.5], [0.9, 0.0], [0.9, 0.6]], np.float32)
    alone = one_at_a_time(activity, activity > 0.1, 1)
    assert alone.tolist() == [[True, False], [True, False], [True, False], [False, True]]


def test_nothing_to_choose_changes_nothing() -> None:
    """No frames, no speakers, or never two at once."""
    for shape in ((0, 3), (5, 0), (5, 1)):
        decided = np.ones(shape, bool)
        assert np.array_equal(one_at_a_time(np.ones(shape, np.float32), decided, 3), decided)


def test_turns_hold_the_decided_frames() -> None:
    """Each frame's middle is in a turn of whoever is active in it, and in no other's."""
    activity, decided = drawn(1)
    embeddings, labels, speech_s, first_frames = voices(1)
    likeness = Likeness(embeddings, labels, speech_s, first_frames, 40)
    turns = turns_of(activity, decided, decided.sum(axis=1) > 1, TIMES, likeness)
    assert [(turn.start, turn.end) for turn in turns] == sorted((t.start, t.end) for t in turns)
    order = list(dict.fromkeys(turn.speaker for turn in turns))
    assert order == [f"SPEAKER_{number:02d}" for number in range(len(order))]
    by_run = {}
    for speaker in range(4):
        for start, end in runs_of(decided[:, speaker]):
            by_run[speaker, TIMES.stretch(start, end)] = (start, end)
    assert len(by_run) == len(turns)
    names = {}
    for turn in turns:
        ((speaker, start, end),) = (
            (who, *frames)
            for (who, times), frames in by_run.items()
            if times == (turn.start, turn.end) and names.get(who, turn.speaker) == turn.speaker
        )
        names[speaker] = turn.speaker
        assert turn.confidence == pytest.approx(activity[start:end, speaker].mean(), abs=0.001)
        several = [decided[frame].sum() > 1 for frame in range(start, end)]
        assert turn.overlap == pytest.approx(np.mean(several), abs=0.001)
    assert len(set(names.values())) == len(names)


def test_frames_have_the_times_of_their_middles() -> None:
    """The first turn begins with the recording, none outlasts it, and stretches are runs."""
    assert TIMES.stretch(0, 1)[0] == 0.0
    middle = (9 * 640 + 680) / 16_000
    start, end = TIMES.stretch(9, 10)
    assert (start + end) / 2 == pytest.approx(middle, abs=0.001)
    assert end - start == pytest.approx(0.04, abs=0.0015)
    assert TIMES.stretch(150, 400)[1] == round(TIMES.samples / 16_000, 3)
    flags = np.zeros(200, bool)
    flags[[3, 4, 9]] = True
    assert TIMES.stretches(flags) == (TIMES.stretch(3, 5), TIMES.stretch(9, 10))


def test_likeness_is_its_definition() -> None:
    """A mean over the windows that share frames with the turn, as much as each says of it."""
    embeddings, labels, speech_s, first_frames = voices(2)
    likeness = Likeness(embeddings, labels, speech_s, first_frames, 40)
    rng = np.random.default_rng(0)
    for _ in range(50):
        start, end = np.sort(rng.choice(200, 2, replace=False)).tolist()
        for speaker in range(4):
            own = np.flatnonzero(labels == speaker)
            mean = np.mean([speech_s[k] * embeddings[k] for k in own], axis=0)
            total = weight = 0.0
            for k in own:
                frames = range(first_frames[k], first_frames[k] + 40)
                held = sum(start <= frame < end for frame in frames) * speech_s[k]
                total += held * (embeddings[k] @ mean) / np.linalg.norm(mean)
                weight += held
            assert likeness(start, end, speaker) == pytest.approx(total / weight, abs=1e-5)


def test_one_voice_is_wholly_like_itself() -> None:
    """Wherever a turn is, and in half precision too."""
    embeddings = np.tile(np.eye(8, dtype=np.float16)[3], (10, 1))
    zeros = np.zeros(10, np.int64)
    likeness = Likeness(embeddings, zeros, np.ones(10), np.arange(10) * 20, 40)
    assert likeness(37, 55, 0) == pytest.approx(1.0, abs=1e-6)


def test_a_turn_without_a_window_of_its_speaker_is_like_nobody() -> None:
    """The target-speaker head can find a speaker where no window has heard them."""
    likeness = Likeness(np.eye(2, 8), np.array([0, 1]), np.ones(2), np.array([0, 100]), 40)
    assert likeness(110, 120, 0) == 0.0
    assert likeness(110, 120, 1) == 1.0
