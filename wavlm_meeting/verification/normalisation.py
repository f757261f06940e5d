"""Adaptive s-norm: what a score means, given how recordings score against many other speakers.

M recordings, D embedding size, C speakers of the cohort, K trials.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from wavlm_meeting.errors import SettingsError

_ROWS = 4096
"""Recordings that meet the cohort at once."""
_TRIALS = 2048
"""Trials whose vectors are gathered at once: they stay in the processor's cache."""

_LEAST_DEVIATION = 1e-6
"""Cosines in single precision are no nearer to each other."""


def unit_length(embeddings: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return embeddings (M, D) at unit length, and the lengths they had (M,).

    Raises SettingsError for one that is zero or not finite, as it has no direction.
    """
    norms = np.linalg.norm(embeddings, axis=1).astype(np.float64)
    wrong = np.flatnonzero(~(np.isfinite(norms) & (norms > 0)))
    if wrong.size:
        raise SettingsError(
            f"embedding {wrong[0] + 1} of {len(norms)} is zero or not finite; leave it out."
        )
    return (embeddings / norms[:, None]).astype(np.float32), norms


def make_cohort(embeddings: NDArray[np.float32], speakers: Sequence[str]) -> NDArray[np.float32]:
    """Return the mean voice of each speaker at unit length, (C, D), in the order of their names.

    Each of the embeddings (M, D) counts by its direction alone; `speakers` (M,) says whose it is.
    """
    units, _ = unit_length(embeddings)
    names, owner = np.unique(np.asarray(speakers), return_inverse=True)
    sums = np.zeros((len(names), units.shape[1]), np.float32)
    np.add.at(sums, owner, units)
    return unit_length(sums)[0]


def cohort_statistics(
    units: NDArray[np.float32], cohort: NDArray[np.float32], top: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return mean and deviation (M,) of each recording's `top` highest scores in the cohort.

    `units` (M, D) and `cohort` (C, D) have unit length; of a smaller cohort, all scores count.
    """
    voices, others = torch.from_numpy(units), torch.from_numpy(cohort)
    top = min(top, len(others))
    means, deviations = torch.empty(len(voices)), torch.empty(len(voices))
    for start in range(0, len(voices), _ROWS):
        rows = slice(start, start + _ROWS)
        closest = torch.topk(voices[rows] @ others.T, top, dim=1, sorted=False).values
        spread, middle = torch.std_mean(closest, dim=1, correction=0)
        means[rows], deviations[rows] = middle, spread.clamp(min=_LEAST_DEVIATION)
    return means.double().numpy(), deviations.double().numpy()


def cosines(
    enrol: NDArray[np.float32], test: NDArray[np.float32], pairs: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the cosine of each pair (K, 2) of rows of `enrol` and `test`, of unit length."""
    found = np.empty(len(pairs), np.float32)
    for start in range(0, len(pairs), _TRIALS):
        places = pairs[start : start + _TRIALS]
        left, right = enrol.take(places[:, 0], axis=0), test.take(places[:, 1], axis=0)
        np.einsum("kd,kd->k", left, right, out=found[start : start + _TRIALS])
    return found.astype(np.float64)


def s_norm(
    scores: NDArray[np.float64],
    enrol: tuple[NDArray[np.float64], NDArray[np.float64]],
    test: tuple[NDArray[np.float64], NDArray[np.float64]],
    pairs: NDArray[np.integer],
) -> NDArray[np.float64]:
    """Return how many deviations a score (K,) lies above what each side scores with others, halved.

    `(s - mean_e) / deviation_e / 2 + (s - mean_t) / deviation_t / 2`: symmetric normalisation with
    the closest speakers of each side (Karam et al. 2011; Matejka et al. 2017, adaptive S-norm 1).
    `enrol` and `test` hold means and deviations of `cohort_statistics`.
    """
    sides = ((enrol, pairs[:, 0]), (test, pairs[:, 1]))
    total = np.zeros(len(scores))
    for (means, deviations), places in sides:
        total += (scores - means[places]) / (2.0 * deviations[places])
    return total
