"""Shares that are right agree with scoring, and the calibration error with its definition."""

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from pyannote.core import Annotation, Segment
from pyannote.metrics.diarization import DiarizationErrorRate

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats import read_rttm
from wavlm_meeting.scoring.calibration import correct_shares, expected_calibration_error
from wavlm_meeting.scoring.diarization import score_diarization


@dataclass(frozen=True)
class Said:
    """A turn."""

    start: float
    end: float
    speaker: str


def draw(rng: np.random.Generator, speakers: int, name: str) -> list[Said]:
    """Draw turns to the millisecond; those of one speaker do not overlap."""
    turns = []
    for speaker in range(speakers):
        bounds = np.sort(rng.choice(20_000, 12, replace=False)) / 1000
        turns += [
            Said(float(start), float(end), f"{name}{speaker}")
            for start, end in bounds.reshape(-1, 2)
        ]
    return sorted(turns, key=lambda turn: turn.start)


def annotation_of(turns: list[Said]) -> Annotation:
    """Make an annotation of turns."""
    annotation = Annotation(uri="call")
    for track, turn in enumerate(turns):
        annotation[Segment(turn.start, turn.end), track] = turn.speaker
    return annotation


@pytest.mark.parametrize("seed", range(5))
def test_shares_are_what_counting_milliseconds_gives(seed: int) -> None:
    """Speakers matched by pyannote.metrics, every millisecond looked at: the same shares."""
    rng = np.random.default_rng(seed)
    truth, turns = draw(rng, 3, "person"), draw(rng, 4, "voice")
    reference = annotation_of(truth)
    mapping = DiarizationErrorRate().optimal_mapping(reference, annotation_of(turns))
    speaks = {turn.speaker: np.zeros(20_000, bool) for turn in truth}
    for turn in truth:
        speaks[turn.speaker][round(turn.start * 1000) : round(turn.end * 1000)] = True
    wanted = [
        speaks[mapping[turn.speaker]][round(turn.start * 1000) : round(turn.end * 1000)].mean()
        if turn.speaker in mapping
        else 0.0
        for turn in turns
    ]
    assert 0 < sum(wanted) < len(wanted)
    np.testing.assert_allclose(correct_shares(reference, turns), wanted, atol=1e-9)


def test_shares_add_up_to_the_time_that_scoring_calls_correct(shared_dir: Path) -> None:
    """On a real system's output: seconds that are right are those of the error rate."""
    folder = shared_dir / "corpus/scoring/speechbrain_ES2014c"
    reference = read_rttm(folder / "ref_ES2014c.rttm")
    hypothesis = {
        uri: each.support() for uri, each in read_rttm(folder / "sys_ES2014c.rttm").items()
    }
    ((uri, found),) = hypothesis.items()
    turns = [
        Said(turn.start, turn.end, str(label))
        for turn, _, label in found.itertracks(yield_label=True)
    ]
    right_s = correct_shares(reference[uri], turns) @ [turn.end - turn.start for turn in turns]
    assert right_s == pytest.approx(score_diarization(reference, hypothesis).total.correct_s)


def test_who_matches_nobody_is_never_right() -> None:
    """Without a reference, or with one speaker less, turns are wrong; none at all are no error."""
    turns = [Said(0, 2, "a"), Said(2, 3, "b")]
    assert correct_shares(Annotation(uri="x"), turns).tolist() == [0, 0]
    assert correct_shares(annotation_of([Said(0, 3, "one")]), turns).tolist() == [1, 0]
    assert correct_shares(annotation_of(turns), []).shape == (0,)


def brute_force(
    confidence: np.ndarray, share: np.ndarray, seconds: np.ndarray, edges: np.ndarray
) -> float:
    """Return the error by its definition, bin by bin."""
    total = 0.0
    for number, (low, high) in enumerate(pairwise(edges)):
        last = number == len(edges) - 2
        inside = [k for k, c in enumerate(confidence) if low <= c and (c < high or last)]
        if inside:
            weight = sum(seconds[k] for k in inside)
            said = sum(confidence[k] * seconds[k] for k in inside) / weight
            true = sum(share[k] * seconds[k] for k in inside) / weight
            total += weight / seconds.sum() * abs(said - true)
    return total


@pytest.mark.parametrize("bins", [1, 7, 10])
def test_the_error_is_its_definition(bins: int) -> None:
    """Both kinds of bins agree with a loop over bins and turns; equal confidences stay together."""
    rng = np.random.default_rng(bins)
    confidence = rng.beta(5, 2, 300).round(2)
    share, seconds = rng.random(300), rng.exponential(2, 300)
    edges = np.arange(bins + 1) / bins
    found = expected_calibration_error(confidence, share, seconds, bins)
    assert found == pytest.approx(brute_force(confidence, share, seconds, edges))
    edges = np.quantile(confidence, edges)
    found = expected_calibration_error(confidence, share, seconds, bins, equal_count=True)
    assert found == pytest.approx(brute_force(confidence, share, seconds, edges))


@pytest.mark.parametrize("equal_count", [False, True])
def test_honest_confidence_has_no_error_and_a_surplus_is_the_error(equal_count: bool) -> None:
    """What is right as often as it says has nearly none; 0.15 too sure is 0.15."""
    rng = np.random.default_rng(0)
    truth, seconds = rng.uniform(0.05, 0.8, 20_000), rng.exponential(2, 20_000)
    share = (rng.random(20_000) < truth).astype(float)
    honest = expected_calibration_error(truth, share, seconds, equal_count=equal_count)
    boastful = expected_calibration_error(truth + 0.15, share, seconds, equal_count=equal_count)
    assert honest < 0.02
    assert boastful == pytest.approx(0.15, abs=0.02)


def test_cutting_a_turn_changes_nothing() -> None:
    """Turns weigh by length: two pieces count as what they were cut from."""
    whole = expected_calibration_error(np.array([0.7, 0.2]), np.array([0.5, 0.4]), np.array([4, 1]))
    cut = expected_calibration_error(
        np.array([0.7, 0.7, 0.2]), np.array([1.0, 1 / 3, 0.4]), np.array([1, 3, 1])
    )
    assert whole == pytest.approx((4 * 0.2 + 0.2) / 5)
    assert cut == pytest.approx(whole)


def test_nothing_to_check_is_said() -> None:
    """Without turns there is no figure."""
    with pytest.raises(FormatError, match="with speech"):
        expected_calibration_error(np.zeros(0), np.zeros(0), np.zeros(0))
