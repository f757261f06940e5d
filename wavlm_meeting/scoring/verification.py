"""Verification scores against the truth: EER, detection cost, Cllr and the DET curve.

K trials, R steps of the ROC, M recordings.

Every figure but Cllr depends on the order of the scores alone, and on nothing within a run of
targets or of nontargets. So trials are counted by step first, and weights of trials (a bootstrap's)
change the counts, not the steps.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from wavlm_meeting.errors import FormatError
from wavlm_meeting.scoring.bootstrap import Resampler

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]
Places = NDArray[np.integer]

Resampled = Literal["speakers", "recordings"]

_Figures = tuple[float, float, float, float, float]
"""EER, least costs for 1 % and 5 % of targets, Cllr and its least."""

_LN_2 = math.log(2.0)


@dataclass(frozen=True)
class Steps:
    """Targets and nontargets of each step, in ascending score; counts, or sums of weights."""

    targets: Floats
    """(R,)"""
    nontargets: Floats
    """(R,)"""

    def rates(self) -> tuple[Floats, Floats]:
        """Return false accepts and misses, both (R + 1,), of accepting from each step on.

        The first point accepts all, the last one nothing.
        """
        misses = np.concatenate([[0.0], self.targets.cumsum()]) / self.targets.sum()
        rejected = np.concatenate([[0.0], self.nontargets.cumsum()]) / self.nontargets.sum()
        return 1.0 - rejected, misses

    def equal_error_rate(self) -> float:
        """Return where misses equal false accepts, between the points of the ROC on its lines."""
        false_accepts, misses = self.rates()
        return float(np.interp(0.0, misses - false_accepts, false_accepts))

    def min_dcf(self, p_target: float) -> float:
        """Return the least detection cost of any threshold; see `min_dcf`."""
        false_accepts, misses = self.rates()
        costs = p_target * misses + (1.0 - p_target) * false_accepts
        return float(costs.min() / min(p_target, 1.0 - p_target))

    def min_cllr(self) -> float:
        """Return the Cllr of the best monotone calibration; see `min_cllr`."""
        kept = (self.targets + self.nontargets) > 0
        targets, nontargets = self.targets[kept], self.nontargets[kept]
        weights = targets + nontargets
        starts = isotonic_regression(targets / weights, weights=weights).blocks[:-1]
        hits = np.add.reduceat(targets, starts) / targets.sum()
        alarms = np.add.reduceat(nontargets, starts) / nontargets.sum()
        # The likelihood ratio of a block is hits / alarms; what costs nothing weighs nothing.
        shares = hits + alarms
        of_targets = -hits * np.log2(np.where(hits > 0, hits / shares, 1.0))
        of_nontargets = -alarms * np.log2(np.where(alarms > 0, alarms / shares, 1.0))
        return float((of_targets + of_nontargets).sum() / 2.0)


@dataclass(frozen=True)
class DetCurve:
    """What every threshold gives; from accepting all to accepting nothing."""

    false_accepts: Floats
    """(R + 1,): share of the nontargets that are accepted, falling."""
    misses: Floats
    """(R + 1,): share of the targets that are not, rising."""
    eer: float
    """Where both are equal."""


@dataclass(frozen=True)
class VerificationScore:
    """How well scores tell one speaker from two; rates are fractions."""

    targets: int
    """Trials with one speaker."""
    nontargets: int
    """Trials with two."""
    eer: float
    """Equal error rate."""
    min_dcf_01: float
    """Least normalised detection cost if 1 % of the trials are targets."""
    min_dcf_05: float
    """The same for 5 %."""
    cllr: float
    """Cost of the scores as log-likelihood ratios, in bits; 1 is that of saying nothing."""
    min_cllr: float
    """Cllr after the best monotone calibration: what is left is not the calibration's fault."""
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """Confidence interval of each of the five, by its name; empty if none was asked for."""
    resampled: Resampled | None = None
    """What the intervals were drawn over."""


def score_verification(
    targets: Flags,
    scores: Floats,
    pairs: Places | None = None,
    speakers: list[str] | None = None,
    resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> VerificationScore:
    """Score trials by every figure, with confidence intervals where `pairs` are given.

    Intervals are percentiles of `resamples` bootstraps that draw whole speakers, since trials of
    one speaker are much alike (Poh and Bengio 2007). Without `speakers`, recordings are drawn:
    where speakers have many of them, such intervals are too narrow.

    Args:
        targets: Whether a trial has one speaker, (K,).
        scores: The higher, the more alike, (K,); Cllr reads them as natural log-likelihood ratios.
        pairs: The two recordings of each trial, (K, 2).
        speakers: The speaker of each recording, (M,).
        resamples: Number of bootstraps; 0 leaves out the intervals.
        confidence: Share of the bootstraps that lies within an interval.
        seed: Seed of the draws.

    Raises:
        FormatError: One of the two kinds of trials is missing, or `speakers` contradict `targets`.
    """
    check_both_kinds(targets)
    places, count = _steps_of(targets, scores)
    of_targets, of_nontargets = places[targets], places[~targets]
    losses = _losses(targets, scores)

    def figures(on_targets: Floats | None, on_nontargets: Floats | None) -> _Figures:
        steps = Steps(
            np.bincount(of_targets, on_targets, count).astype(np.float64),
            np.bincount(of_nontargets, on_nontargets, count).astype(np.float64),
        )
        nats = _mean(losses[0], on_targets) + _mean(losses[1], on_nontargets)
        return (
            steps.equal_error_rate(),
            steps.min_dcf(0.01),
            steps.min_dcf(0.05),
            nats / (2.0 * _LN_2),
            steps.min_cllr(),
        )

    found = figures(None, None)
    intervals: dict[str, tuple[float, float]] = {}
    if pairs is not None and resamples:
        resampler = Resampler(targets, pairs, speakers)
        rng = np.random.default_rng(seed)
        drawn = [figures(*resampler.draw(rng)) for _ in range(resamples)]
        tail = (1.0 - confidence) / 2.0
        low, high = np.quantile(drawn, [tail, 1.0 - tail], axis=0).tolist()
        names = ("eer", "min_dcf_01", "min_dcf_05", "cllr", "min_cllr")
        intervals = dict(zip(names, zip(low, high, strict=True), strict=True))
    return VerificationScore(
        len(of_targets),
        len(of_nontargets),
        *found,
        intervals,
        None if not intervals else "recordings" if speakers is None else "speakers",
    )


def equal_error_rate(targets: Flags, scores: Floats) -> float:
    """Return the rate (0 to 1) at which misses equal false accepts, interpolated on the ROC."""
    return _count(targets, scores).equal_error_rate()


def min_dcf(targets: Flags, scores: Floats, p_target: float) -> float:
    """Return the least detection cost that any threshold gives.

    `p_target P_miss + (1 - p_target) P_fa`, over that of the better one of accepting all or nothing
    (NIST SRE 2016 evaluation plan; both costs 1).
    """
    return _count(targets, scores).min_dcf(p_target)


def cllr(targets: Flags, llrs: Floats) -> float:
    """Return the cost of log-likelihood ratios in bits, over all priors (Brummer, du Preez 2006).

    `mean of log2(1 + 1/LR) over targets, plus mean of log2(1 + LR) over nontargets`, halved.
    """
    check_both_kinds(targets)
    of_targets, of_nontargets = _losses(targets, llrs)
    return float(of_targets.mean() + of_nontargets.mean()) / (2.0 * _LN_2)


def min_cllr(targets: Flags, scores: Floats) -> float:
    """Return the Cllr after the best monotone calibration, found by pool-adjacent-violators."""
    return _count(targets, scores).min_cllr()


def det_curve(targets: Flags, scores: Floats) -> DetCurve:
    """Return the corners of the detection error tradeoff curve (Martin et al. 1997)."""
    steps = _count(targets, scores)
    return DetCurve(*steps.rates(), steps.equal_error_rate())


def check_both_kinds(targets: Flags, where: str = "the list") -> None:
    """Refuse trials that lack one of the two kinds; raises FormatError."""
    if targets.all() or not targets.any():
        raise FormatError(f"{where}: an error rate needs trials of both kinds; add some.")


def _count(targets: Flags, scores: Floats) -> Steps:
    """Count the trials of each step."""
    check_both_kinds(targets)
    places, count = _steps_of(targets, scores)
    hits = np.bincount(places[targets], minlength=count)
    alarms = np.bincount(places[~targets], minlength=count)
    return Steps(hits.astype(np.float64), alarms.astype(np.float64))


def _steps_of(targets: Flags, scores: Floats) -> tuple[NDArray[np.int64], int]:
    """Return the step of each trial, (K,), and the number of steps R.

    A step is a run, in ascending score, of trials of one kind, or a score that both kinds share.
    """
    levels, level = np.unique(scores, return_inverse=True)
    hits = np.bincount(level[targets], minlength=len(levels)) > 0
    alarms = np.bincount(level[~targets], minlength=len(levels)) > 0
    both = hits & alarms
    begins = np.ones(len(levels), np.int64)
    begins[1:] = both[1:] | both[:-1] | (hits[1:] != hits[:-1])
    step = begins.cumsum() - 1
    return step[level], int(step[-1]) + 1


def _losses(targets: Flags, llrs: Floats) -> tuple[Floats, Floats]:
    """Return the logarithmic loss of each target and of each nontarget, in nats."""
    return np.logaddexp(0.0, -llrs[targets]), np.logaddexp(0.0, llrs[~targets])


def _mean(values: Floats, weights: Floats | None) -> float:
    return float(values.mean() if weights is None else values @ weights / weights.sum())
