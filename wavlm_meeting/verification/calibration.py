"""From scores to log-likelihood ratios, by a score and by how good the two recordings are.

K trials, F quality measures, Q points of the nontargets' distribution.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from wavlm_meeting.errors import SettingsError, TrainingError

_ENOUGH = 30
"""False accepts that an error rate needs to be known (Doddington's rule of 30)."""
_TAIL = 5.0
"""How many times the rarest known rate is the one down to which its fall is measured."""
_POINTS = 256
"""Points that the nontargets' distribution is kept at."""


@dataclass(frozen=True)
class Calibration:
    """`llr = weight score + measure_weights . measures + offset`, and how nontargets spread."""

    weight: float
    """Of the score, above 0: a higher score is never a lower log-likelihood ratio."""
    measure_weights: NDArray[np.float64]
    """(F,)"""
    offset: float
    lowest: NDArray[np.float64]
    """(F,): measures below are taken for this one, the least that was seen."""
    highest: NDArray[np.float64]
    """(F,): the same upwards: a line says nothing of what it was not laid through."""
    rates: NDArray[np.float64]
    """(Q,): shares of the nontargets, rising; empty if there were few."""
    thresholds: NDArray[np.float64]
    """(Q,): log-likelihood ratios that these shares reach."""

    def __call__(
        self, scores: NDArray[np.float64], measures: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Return natural log-likelihood ratios (K,) of scores (K,) with measures (K, F)."""
        bounded = measures.clip(self.lowest, self.highest)
        return self.weight * scores + bounded @ self.measure_weights + self.offset

    def threshold(self, false_accept_rate: float) -> float:
        """Return the log-likelihood ratio that this share of the nontargets reaches.

        Where the nontargets of the calibration were too few to tell, their tail is taken to fall on
        as it falls before that: exponentially, slower than a Gaussian's. It is never above
        `-log(rate)`, unless what is known is: no larger share can reach that, since a likelihood
        ratio is 1 on average over nontargets (Markov).

        Raises SettingsError for a rate that is not between 0 and 1.
        """
        if not 0.0 < false_accept_rate < 1.0:
            raise SettingsError(
                f"a false-accept rate of {false_accept_rate:g} is none; give one between 0 and 1, "
                "such as 0.01."
            )
        bound = -float(np.log(false_accept_rate))
        if not self.rates.size:
            return bound
        if false_accept_rate >= self.rates[0]:
            return self._known(false_accept_rate)
        rarest, wider = float(self.rates[0]), min(1.0, _TAIL * float(self.rates[0]))
        fall = (self._known(rarest) - self._known(wider)) / np.log(wider / rarest)
        beyond = self._known(rarest) + fall * np.log(rarest / false_accept_rate)
        return max(self._known(rarest), min(float(beyond), bound))

    def _known(self, rate: float) -> float:
        """Interpolate the nontargets' distribution."""
        return float(np.interp(np.log(rate), np.log(self.rates), self.thresholds))


def fit_calibration(
    scores: NDArray[np.float64],
    measures: NDArray[np.float64],
    targets: NDArray[np.bool_],
    prior: float,
) -> Calibration:
    """Fit a calibration by logistic regression to scores (K,), measures (K, F), targets (K,).

    Trials of the two kinds are weighted as if `prior` of them were targets, so that their numbers
    do not matter (Brummer and Doddington 2013). The weights' squares are held down as much as by
    one trial, which counts where trials are few or fall apart into the two kinds.

    Raises:
        TrainingError: One of the two kinds is missing, or higher scores do not mean one speaker.
    """
    count, hits = len(targets), int(targets.sum())
    if not 0 < hits < count:
        raise TrainingError("calibration needs trials of one speaker and of two; add some.")
    inputs = np.column_stack([scores, measures])
    scaler = StandardScaler().fit(inputs)
    weights = np.where(targets, prior / hits, (1.0 - prior) / (count - hits)) * count
    model = LogisticRegression(max_iter=1000, tol=1e-6)
    model.fit(scaler.transform(inputs), targets, sample_weight=weights)
    slopes = model.coef_[0] / scaler.scale_
    if slopes[0] <= 0:
        raise TrainingError(
            "a higher score does not mean one speaker in the calibration's trials; check their "
            "labels, or calibrate on more of them."
        )
    offset = float(model.intercept_[0] - slopes @ scaler.mean_ - np.log(prior / (1.0 - prior)))
    lowest, highest = measures.min(axis=0), measures.max(axis=0)
    llrs = inputs @ slopes + offset
    rates = _known_rates(count - hits)
    thresholds = np.quantile(llrs[~targets], 1.0 - rates)
    return Calibration(float(slopes[0]), slopes[1:], offset, lowest, highest, rates, thresholds)


def _known_rates(nontargets: int) -> NDArray[np.float64]:
    """Return the shares of so many nontargets that are known well enough, rising to all (Q,)."""
    least = _ENOUGH / nontargets
    return np.geomspace(least, 1.0, _POINTS) if least < 1.0 else np.empty(0)
