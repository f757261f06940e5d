"""Error rates of verification equal their definitions, other libraries' and closed forms."""

from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import expit, logit
from scipy.stats import norm
from sklearn.isotonic import IsotonicRegression
from sklearn.metrics import log_loss, roc_curve

from wavlm_meeting.errors import FormatError
from wavlm_meeting.scoring.bootstrap import Resampler
from wavlm_meeting.scoring.verification import (
    cllr,
    det_curve,
    equal_error_rate,
    min_cllr,
    min_dcf,
    score_verification,
)

Case = tuple[NDArray[np.bool_], NDArray[np.float64]]


def cases() -> Iterator[Case]:
    """Draw trials of many kinds: few, many, with ties, apart, the wrong way round."""
    rng = np.random.default_rng(1)
    for count, gap, digits in (
        *((12, 1.0, 9), (12, 1.0, 0), (60, 2.0, 1), (200, 0.0, 0), (300, 1.5, 9)),
        *((40, 9.0, 9), (40, -1.0, 1), (1500, 2.0, 2), (9, 0.5, 0)),
    ):
        targets = rng.random(count) < 0.4
        targets[:2] = True, False
        yield targets, np.round(gap * targets + rng.standard_normal(count), digits)


CASES = list(cases())


def at_threshold(case: Case, threshold: float) -> tuple[float, float]:
    """Count false accepts and misses of accepting from a threshold on."""
    targets, scores = case
    accepted = scores >= threshold
    return float(accepted[~targets].mean()), float((~accepted)[targets].mean())


@pytest.mark.parametrize("case", CASES)
def test_eer_is_where_the_roc_of_scikit_learn_crosses(case: Case) -> None:
    """Misses and false accepts are equal between its points, on a line."""
    false_accepts, hits, _ = roc_curve(*case, drop_intermediate=False)
    expected = np.interp(0.0, false_accepts - 1 + hits, false_accepts)
    assert equal_error_rate(*case) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(
    ("targets", "scores", "rate"),
    [
        ([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1], 0.0),
        ([1, 1, 0, 0], [0.1, 0.2, 0.8, 0.9], 1.0),
        ([1, 0, 1, 0], [0.5, 0.5, 0.5, 0.5], 0.5),
        ([1, 1, 1, 0, 0, 0], [0.9, 0.8, 0.3, 0.7, 0.2, 0.1], 1 / 3),
    ],
)
def test_eer_by_hand(targets: list[int], scores: list[float], rate: float) -> None:
    """Misses and false accepts meet where they do by hand."""
    found = equal_error_rate(np.array(targets, bool), np.array(scores))
    assert found == pytest.approx(rate)


@pytest.mark.parametrize("p_target", [0.01, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("case", CASES)
def test_min_dcf_is_the_least_of_all_thresholds(case: Case, p_target: float) -> None:
    """Tried one by one."""
    costs = []
    for threshold in (*case[1], np.inf):
        false_accepts, misses = at_threshold(case, threshold)
        costs.append(p_target * misses + (1 - p_target) * false_accepts)
    expected = min(costs) / min(p_target, 1 - p_target)
    assert min_dcf(*case, p_target) == pytest.approx(expected, abs=1e-12)
    assert min_dcf(*case, p_target) <= 1.0


@pytest.mark.parametrize("case", CASES)
def test_cllr_is_the_balanced_log_loss(case: Case) -> None:
    """That of scikit-learn, of posteriors at even odds, in bits."""
    targets, llrs = case
    weights = np.where(targets, 1 / targets.sum(), 1 / (~targets).sum())
    expected = log_loss(targets, expit(llrs), sample_weight=weights) / np.log(2)
    assert cllr(targets, llrs) == pytest.approx(expected)
    assert cllr(targets, 0.0 * llrs) == pytest.approx(1.0)


@pytest.mark.parametrize("case", CASES)
def test_min_cllr_is_that_of_isotonic_regression(case: Case) -> None:
    """Scikit-learn's regression on all trials gives the posteriors; no monotone map does better."""
    targets, scores = case
    model = IsotonicRegression(y_min=0.0, y_max=1.0)
    posteriors = model.fit_transform(scores, targets.astype(float))
    with np.errstate(divide="ignore"):
        llrs = logit(posteriors) - logit(targets.mean())
    least = min_cllr(targets, scores)
    assert least == pytest.approx(cllr(targets, llrs.clip(-700, 700)), abs=1e-9)
    for scale, offset in ((1.0, 0.0), (2.0, -1.0), (0.3, 0.5)):
        assert least <= cllr(targets, scale * scores + offset) + 1e-12
    assert least <= 1.0 + 1e-12


def test_gaussian_scores_have_the_closed_form() -> None:
    """LLRs of Gaussians at +-d2/2 with variance d2 are calibrated, and their EER is Phi(-d/2)."""
    rng, deviation = np.random.default_rng(0), 3.0
    targets = np.arange(400_000) % 2 == 0
    llrs = np.where(targets, 0.5, -0.5) * deviation**2
    llrs += deviation * rng.standard_normal(len(targets))
    score = score_verification(targets, llrs)
    assert score.eer == pytest.approx(norm.cdf(-deviation / 2), abs=1e-3)
    assert score.cllr == pytest.approx(score.min_cllr, abs=2e-3)
    points = np.linspace(-40, 40, 20_001)
    density = norm.pdf(points, deviation**2 / 2, deviation)
    bits = np.trapezoid(density * np.logaddexp(0, -points), points) / np.log(2)
    assert score.cllr == pytest.approx(bits, abs=2e-3)
    # The best threshold of calibrated LLRs is Bayes': the logarithm of the prior's odds.
    for p_target, found in ((0.01, score.min_dcf_01), (0.05, score.min_dcf_05)):
        false_accepts, misses = at_threshold((targets, llrs), -float(logit(p_target)))
        bayes = (p_target * misses + (1 - p_target) * false_accepts) / p_target
        assert found == pytest.approx(bayes, abs=0.01)
        assert found <= bayes


@pytest.mark.parametrize("case", CASES)
def test_figures_depend_on_the_order_alone(case: Case) -> None:
    """But for Cllr: a rising map of the scores changes none of the others."""
    targets, scores = case
    plain, mapped = (score_verification(targets, each) for each in (scores, np.arctan(scores) + 7))
    for name in ("eer", "min_dcf_01", "min_dcf_05", "min_cllr"):
        assert getattr(plain, name) == pytest.approx(getattr(mapped, name), abs=1e-12), name


@pytest.mark.parametrize("case", CASES)
def test_det_curve_holds_the_points_of_all_thresholds(case: Case) -> None:
    """Each of its corners is a threshold's, and each threshold's point lies on it."""
    curve = det_curve(*case)
    tried = {at_threshold(case, threshold) for threshold in (*case[1], np.inf)}
    points = np.array(sorted(tried, key=lambda point: (-point[0], point[1])))
    corners = np.stack([curve.false_accepts, curve.misses], axis=1)
    for corner in corners:
        assert np.abs(points - corner).sum(axis=1).min() < 1e-12
    for false_accepts, misses in points:
        inside = (corners[:, 0] >= false_accepts - 1e-12) & (corners[:, 1] <= misses + 1e-12)
        last = corners[inside][-1]  # between it and the next one, one of the two rates stays
        assert last[0] - false_accepts < 1e-12 or misses - last[1] < 1e-12
    assert curve.eer == equal_error_rate(*case)


def expanded(
    case: Case, pairs: NDArray[np.integer], units: list[str] | None, counts: NDArray[np.int64]
) -> Case:
    """Copy each trial as often as its speakers were drawn: the slow, obvious bootstrap."""
    who = pairs if units is None else np.unique(units, return_inverse=True)[1][pairs]
    copies = [counts[a] if a == b else counts[a] * counts[b] for a, b in who]
    return np.repeat(case[0], copies), np.repeat(case[1], copies)


def speakers_and_trials(
    rng: np.random.Generator, people: int, each: int
) -> tuple[Case, NDArray[np.int64], list[str]]:
    """Draw people whose recordings are as alike as each of them speaks evenly, and all trials."""
    voices = rng.standard_normal((people, 1, 12))
    spread = rng.uniform(0.3, 1.2, (people, 1, 1))
    heard = (voices + spread * rng.standard_normal((people, each, 12))).reshape(-1, 12)
    heard /= np.linalg.norm(heard, axis=1, keepdims=True)
    owner = np.arange(people).repeat(each)
    pairs = np.stack(np.triu_indices(len(owner), 1), axis=1)
    targets = owner[pairs[:, 0]] == owner[pairs[:, 1]]
    scores = (heard[pairs[:, 0]] * heard[pairs[:, 1]]).sum(axis=1)
    return (targets, scores), pairs, [f"s{number}" for number in owner]


@pytest.mark.parametrize("known", [True, False])
def test_intervals_equal_copying_trials(*, known: bool) -> None:
    """Weighted figures are those of lists in which trials stand as often as they were drawn."""
    case, pairs, owners = speakers_and_trials(np.random.default_rng(2), 8, 3)
    speakers = owners if known else None
    score = score_verification(*case, pairs, speakers, resamples=25, seed=4)
    rng, units, found = np.random.default_rng(4), 8 if known else 24, []
    while len(found) < 25:
        counts = np.bincount(rng.integers(units, size=units), minlength=units)
        copied = expanded(case, pairs, speakers, counts)
        if copied[0].any() and not copied[0].all():
            figures = (equal_error_rate(*copied), min_dcf(*copied, 0.01), min_dcf(*copied, 0.05))
            found.append((*figures, cllr(*copied), min_cllr(*copied)))
    expected = np.quantile(found, [0.025, 0.975], axis=0).T
    assert list(score.intervals) == ["eer", "min_dcf_01", "min_dcf_05", "cllr", "min_cllr"]
    np.testing.assert_allclose(list(score.intervals.values()), expected, atol=1e-12)
    assert score.resampled == ("speakers" if known else "recordings")


def test_intervals_are_as_wide_as_other_people_differ() -> None:
    """EERs of independent people spread as the bootstrap over speakers says; recordings miss it."""
    rng = np.random.default_rng(3)
    rates, by_speakers, by_recordings = [], [], []
    for number in range(150):
        case, pairs, owners = speakers_and_trials(rng, 12, 12)
        rates.append(equal_error_rate(*case))
        if number < 10:
            for speakers, widths in ((owners, by_speakers), (None, by_recordings)):
                score = score_verification(*case, pairs, speakers, resamples=100)
                low, high = score.intervals["eer"]
                widths.append((high - low) / (2 * norm.ppf(0.975)))
    spread = np.std(rates)
    assert 0.8 * spread < np.mean(by_speakers) < 1.25 * spread
    assert np.mean(by_recordings) < 0.8 * spread


def test_no_intervals_without_pairs_or_resamples() -> None:
    """And nothing is said of what they were drawn over."""
    case, pairs, owners = speakers_and_trials(np.random.default_rng(2), 5, 2)
    for score in (score_verification(*case), score_verification(*case, pairs, owners, 0)):
        assert (score.intervals, score.resampled) == ({}, None)
    assert (score.targets, score.nontargets) == (5, 40)


def test_speakers_that_contradict_the_trials_are_refused() -> None:
    """One line names the trial and the two speakers."""
    case, pairs, owners = speakers_and_trials(np.random.default_rng(2), 4, 2)
    owners[1] = "s9"
    with pytest.raises(FormatError, match=r"trial 1 is said .* one speaker.*'s0' and 's9'"):
        score_verification(*case, pairs, owners)


def test_a_draw_that_leaves_one_kind_is_made_again() -> None:
    """Of two recordings, only the draws of both hold a nontarget."""
    targets, pairs = np.array([True, False]), np.array([[0, 0], [0, 1]])
    resampler, rng = Resampler(targets, pairs, None), np.random.default_rng(0)
    drawn = [resampler.draw(rng) for _ in range(20)]
    assert all(weights == ([1.0], [1.0]) for weights in drawn)


@pytest.mark.parametrize("kind", [True, False])
def test_one_kind_of_trials_has_no_error_rate(*, kind: bool) -> None:
    """Every figure refuses it with a cure."""
    targets, scores = np.full(3, kind), np.arange(3.0)
    for figure in (equal_error_rate, cllr, min_cllr, det_curve, score_verification):
        with pytest.raises(FormatError, match="needs trials of both kinds; add some"):
            figure(targets, scores)
