"""Scores of separated tracks: laws, and what independent packages say."""

import itertools

import numpy as np
import pytest
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment

from wavlm_meeting.errors import FormatError
from wavlm_meeting.scoring.separation import (
    LIMIT_DB,
    Leakage,
    leakage,
    lone_spans,
    mean_figures,
    score_separation,
)

Signals = NDArray[np.float32]
RATE = 16_000


@pytest.fixture
def talkers() -> Signals:
    """Give two signals that rise and fall as speech does, with a mean that is not zero."""
    rng = np.random.default_rng(0)
    loudness = np.abs(rng.standard_normal((2, 40))).repeat(400, axis=1)
    return (loudness * rng.standard_normal((2, 16_000)) + 0.05).astype(np.float32)


@pytest.fixture
def estimates(talkers: Signals) -> Signals:
    """Give tracks in the other order, at another level, with noise and some of each other."""
    rng = np.random.default_rng(1)
    noise = 0.1 * rng.standard_normal(talkers.shape)
    return (0.5 * talkers[::-1] + 0.1 * talkers + noise).astype(np.float32)


def test_agrees_with_the_formula(talkers: Signals, estimates: Signals) -> None:
    """Figures are what the definition gives when it is written out, sample by sample."""
    score = score_separation(talkers, estimates)
    assert score.tracks == (1, 0)
    for number, reference in enumerate(talkers.astype(float)):
        s = reference - reference.mean()
        e = estimates[1 - number] - estimates[1 - number].mean(dtype=float)
        target = (e @ s) / (s @ s) * s
        ratios = {
            "si_sdr": (target @ target) / ((e - target) @ (e - target)),
            "sdr": (s @ s) / ((e - s) @ (e - s)),
        }
        for name, ratio in ratios.items():
            assert score.figures[name][number] == pytest.approx(10 * np.log10(ratio), abs=1e-6)


@pytest.mark.parametrize(("name", "theirs"), [("si_sdr", "sisdr"), ("sdr", "snr")])
def test_agrees_with_asteroid(talkers: Signals, estimates: Signals, name: str, theirs: str) -> None:
    """The means under the best order are those of Asteroid's losses, to 0.001 dB."""
    torch = pytest.importorskip("torch")
    losses = pytest.importorskip("asteroid.losses", reason="needs the extra 'train'")
    loss = losses.PITLossWrapper(losses.PairwiseNegSDR(theirs), pit_from="pw_mtx")
    value = loss(torch.from_numpy(estimates.copy())[None], torch.from_numpy(talkers)[None])
    mean = mean_figures([score_separation(talkers, estimates)])[name]
    assert mean == pytest.approx(-value.item(), abs=1e-3)


def test_the_order_is_the_best_of_all() -> None:
    """With three talkers and four tracks, no other order has a higher sum of SI-SDR."""
    rng = np.random.default_rng(2)
    talkers = rng.standard_normal((3, 4000)).astype(np.float32)
    tracks = (rng.uniform(-1, 1, (4, 3)) @ talkers).astype(np.float32)
    score = score_separation(talkers, tracks)
    sums = [
        sum(
            score_separation(talkers[[row]], tracks[[track]]).figures["si_sdr"][0] or 0.0
            for row, track in enumerate(order)
        )
        for order in itertools.permutations(range(4), 3)
    ]
    found = sum(each or 0.0 for each in score.figures["si_sdr"])
    assert found == pytest.approx(max(sums), abs=1e-6)


@pytest.mark.parametrize("gain", [0.01, -3.0])
def test_level_does_not_count_for_si_sdr(talkers: Signals, estimates: Signals, gain: float) -> None:
    """Tracks at another level, or upside down, have the same SI-SDR, but another SDR."""
    once, twice = (score_separation(talkers, each) for each in (estimates, gain * estimates))
    assert twice.figures["si_sdr"] == pytest.approx(once.figures["si_sdr"], abs=1e-4)
    assert twice.figures["sdr"] != pytest.approx(once.figures["sdr"], abs=0.1)


def test_swapped_tracks_score_the_same(talkers: Signals, estimates: Signals) -> None:
    """The order of the tracks changes who is whose, and no figure."""
    once, twice = (score_separation(talkers, each) for each in (estimates, estimates[::-1]))
    assert (once.tracks, twice.tracks) == ((1, 0), (0, 1))
    for name, values in once.figures.items():
        assert twice.figures[name] == pytest.approx(values)


def test_the_mixture_improves_nothing(talkers: Signals) -> None:
    """The mixture on both tracks has an improvement of exactly 0 dB."""
    mixture = talkers.sum(axis=0)
    score = score_separation(talkers, np.stack([mixture, mixture]), mixture)
    assert score.figures["si_sdr_improvement"] == (0.0, 0.0)


def test_ends_of_the_scale(talkers: Signals) -> None:
    """A perfect track has the highest figure there is, a silent one the lowest and SDR 0."""
    tracks = np.stack([talkers[0], np.zeros_like(talkers[1])])
    figures = score_separation(talkers, tracks).figures
    assert figures["si_sdr"] == (LIMIT_DB, -LIMIT_DB)
    assert figures["sdr"] == (LIMIT_DB, 0.0)


def test_means_are_over_talkers(talkers: Signals, estimates: Signals) -> None:
    """A recording of two talkers weighs twice what one of a single talker does."""
    two = score_separation(talkers, estimates)
    one = score_separation(talkers[:1], estimates)
    values = [*two.figures["si_sdr"], *one.figures["si_sdr"]]
    assert mean_figures([two, one])["si_sdr"] == pytest.approx(np.mean(np.array(values, float)))


def test_what_cannot_be_compared(talkers: Signals) -> None:
    """A silent reference, too few tracks and other lengths are refused, with the cure."""
    with pytest.raises(FormatError, match="reference 2 is silent"):
        score_separation(np.stack([talkers[0], 0 * talkers[1]]), talkers)
    with pytest.raises(FormatError, match="2 references, but 1 tracks"):
        score_separation(talkers, talkers[:1])
    with pytest.raises(FormatError, match="15,999 and 16,000 samples"):
        score_separation(talkers, talkers[:, :-1])


def test_quality_is_asked_about_pairs(talkers: Signals, estimates: Signals) -> None:
    """Each reference is given out with its own track, and what has no figure leaves the mean."""
    asked = []

    def quality(reference: Signals, track: Signals) -> dict[str, float | None]:
        asked.append((reference, track))
        return {"good": None if len(asked) == 1 else 3.0}

    score = score_separation(talkers, estimates, quality=quality)
    for row, (reference, track) in enumerate(asked):
        np.testing.assert_array_equal(reference, talkers[row])
        np.testing.assert_array_equal(track, estimates[1 - row])
    assert score.figures["good"] == (None, 3.0)
    assert mean_figures([score])["good"] == 3.0


def turns(*lines: tuple[float, float, str]) -> Annotation:
    """Give turns of one recording."""
    annotation = Annotation(uri="call")
    for number, (start, end, speaker) in enumerate(lines):
        annotation[Segment(start, end), number] = speaker
    return annotation


def test_leakage_by_hand() -> None:
    """A tenth of the amplitude on the wrong track is -20 dB of it; overlap does not count."""
    tracks = np.zeros((2, 5 * RATE), np.float32)
    tracks[0, : 2 * RATE], tracks[1, : 2 * RATE] = 1.0, 0.1
    tracks[:, 2 * RATE : 3 * RATE] = 7.0  # both speak
    tracks[1, 3 * RATE :], tracks[0, 3 * RATE :] = 1.0, 0.1
    found = leakage(tracks, turns((0, 3, "anna"), (2, 5, "ben")))
    assert found.lone_s == 4.0
    assert found.decibels == pytest.approx(10 * np.log10(0.01 / 1.01), abs=1e-6)


def test_who_moves_within_a_turn_leaks() -> None:
    """A talker may come on another track with the next turn, but not in the midst of one."""
    moving = np.zeros((2, 4 * RATE), np.float32)
    moving[0, : 2 * RATE] = moving[1, 2 * RATE :] = 0.5
    two = leakage(moving, turns((0, 1.9, "anna"), (2, 4, "anna")))
    one = leakage(moving, turns((0, 4, "anna")))
    assert two.decibels == -LIMIT_DB
    assert one.decibels == pytest.approx(10 * np.log10(0.5))


def test_leakage_adds_energies() -> None:
    """Recordings add up by energies and seconds, as if they were one."""
    rng = np.random.default_rng(3)
    tracks = rng.standard_normal((2, 4 * RATE)).astype(np.float32)
    halves = [
        leakage(half, turns((0, 2, "anna")))
        for half in (tracks[:, : 2 * RATE], tracks[:, 2 * RATE :])
    ]
    whole = leakage(tracks, turns((0, 2, "anna"), (2, 4, "ben")))
    added = halves[0] + halves[1]
    assert added.decibels == pytest.approx(whole.decibels)
    assert added.lone_s == whole.lone_s
    assert Leakage() + added == added


def test_lone_spans_are_where_one_speaks() -> None:
    """The spans of all turns cover what a count of the speakers at each moment says."""
    rng = np.random.default_rng(4)
    starts, lengths = rng.integers(0, 900, 40), rng.integers(1, 60, 40)
    drawn = turns(
        *(
            (s / 10, (s + n) / 10, f"{k % 4}")
            for k, (s, n) in enumerate(zip(starts, lengths, strict=True))
        )
    )
    speaking = np.zeros((4, 1000), bool)
    for number, (start, length) in enumerate(zip(starts, lengths, strict=True)):
        speaking[number % 4, start : start + length] = True
    spans, turn = lone_spans(drawn)
    found = np.zeros(1000, int)
    for start, end in spans // (RATE // 10):
        found[start:end] += 1
    np.testing.assert_array_equal(found, speaking.sum(axis=0) == 1)
    assert (np.diff(turn) >= 0).all()


def test_without_lone_speech_there_is_no_leakage() -> None:
    """Where two always speak at once, or turns lie behind the end, that is refused."""
    tracks = np.ones((2, RATE), np.float32)
    for lines in ([(0, 1, "anna"), (0, 1, "ben")], [(2, 3, "anna")]):
        with pytest.raises(FormatError, match="call: nobody speaks alone"):
            leakage(tracks, turns(*lines))
