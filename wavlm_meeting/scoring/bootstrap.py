"""Resampling speakers or recordings, as if other ones had been there.

K trials, M recordings, U units: speakers, or recordings where speakers are not known.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.errors import FormatError


class Resampler:
    """Draws weights of trials: how often the speakers of both sides were drawn.

    U units are drawn from U with replacement. A trial of two of them weighs the product of their
    counts, as each copy of the one meets each copy of the other; a trial within one unit weighs its
    count, as copies of one speaker are tried by themselves.
    """

    def __init__(
        self,
        targets: NDArray[np.bool_],
        pairs: NDArray[np.integer],
        speakers: list[str] | None,
    ) -> None:
        """Take trials: `targets` (K,), `pairs` (K, 2) of recordings, `speakers` (M,) of those.

        Raises FormatError if `speakers` contradict `targets`.
        """
        units = pairs if speakers is None else np.unique(speakers, return_inverse=True)[1][pairs]
        within = units[:, 0] == units[:, 1]
        if speakers is not None and (wrong := np.flatnonzero(within != targets)).size:
            enrol, test = (speakers[place] for place in pairs[wrong[0]])
            said = "one speaker" if targets[wrong[0]] else "two speakers"
            raise FormatError(
                f"trial {wrong[0] + 1} is said to be of {said}, its recordings of '{enrol}' and "
                f"'{test}'; correct who speaks, or leave that out."
            )
        self._units = int(units.max()) + 1
        self._targets = _Sides(units[targets])
        self._nontargets = _Sides(units[~targets])

    def draw(self, rng: np.random.Generator) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the weights of the targets and of the nontargets, each in order.

        Of few speakers a draw may leave no trial of a kind: then another one is made.
        """
        while True:
            counts = np.bincount(rng.integers(self._units, size=self._units), minlength=self._units)
            weights = self._targets.weights(counts), self._nontargets.weights(counts)
            if all(kind.any() for kind in weights):
                return weights


class _Sides:
    """The units of the trials of one kind."""

    def __init__(self, units: NDArray[np.integer]) -> None:
        self._enrol, self._test = units.T.astype(np.int32)
        self._within = self._enrol == self._test

    def weights(self, counts: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the weight of each trial, from how often each unit was drawn."""
        drawn = counts.astype(np.float64)
        return drawn[self._enrol] * np.where(self._within, 1.0, drawn[self._test])


@dataclass(frozen=True)
class PairedInterval:
    """A difference of two rates and the interval that holds 95 % of its bootstraps."""

    difference: float
    low: float
    high: float


def paired_interval(
    first: NDArray[np.float64], second: NDArray[np.float64], resamples: int, seed: int = 0
) -> PairedInterval | None:
    """Return how much the rate of one system is above another's on the same recordings.

    `first` and `second` hold errors and what they are of for each recording, (M, 2); both are added
    over recordings before one is divided by the other. M recordings are drawn from M with
    replacement, the same ones for both systems (Bisani and Ney 2004). None if there is nothing that
    errors could be of; draws without it are left out.
    """
    rng = np.random.default_rng(seed)
    draws = rng.multinomial(len(first), np.full(len(first), 1.0 / len(first)), size=resamples)
    whole = np.ones((1, len(first)))
    sums = [np.concatenate([whole, draws]) @ system for system in (first, second)]
    told = np.logical_and.reduce([system[:, 1] > 0 for system in sums])
    if not told[0]:
        return None
    rates = [system[told, 0] / system[told, 1] for system in sums]
    difference, *drawn = (rates[0] - rates[1]).tolist()
    low, high = np.quantile(drawn or [difference], [0.025, 0.975]).tolist()
    return PairedInterval(difference, low, high)
