"""Embeddings around their mean, with directions in which all voices differ made shorter.

What all embeddings have in common says nothing about who speaks, and what most recordings differ
in, such as the microphone, says little (Garcia-Romero and Espy-Wilson, "Analysis of i-vector length
normalization in speaker recognition systems", Interspeech 2011).

M recordings, D embedding size, C speakers of the cohort.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FLOOR = 0.1
"""Added to every variance, as a share of their mean: few speakers say little of small ones."""


@dataclass(frozen=True)
class Whitening:
    """`(x - mean) matrix`, brought to unit length."""

    mean: NDArray[np.float32]
    """(D,)"""
    matrix: NDArray[np.float32]
    """(D, D), symmetric."""

    def __call__(self, units: NDArray[np.float32]) -> NDArray[np.float32]:
        """Transform embeddings (M, D) of unit length; they have it again."""
        moved = (units - self.mean) @ self.matrix
        lengths = np.linalg.norm(moved, axis=1, keepdims=True)
        return (moved / np.maximum(lengths, 1e-12)).astype(np.float32)


def fit_whitening(cohort: NDArray[np.float32], strength: float) -> Whitening:
    """Learn mean and covariance from a cohort (C, D) at unit length.

    `strength` 1 gives all directions the same variance, 0 leaves them as they are, around 0.
    """
    mean = cohort.mean(axis=0)
    covariance = np.cov((cohort - mean).astype(np.float64).T)
    variances, directions = np.linalg.eigh(covariance)
    variances = np.maximum(variances, 0.0) + FLOOR * variances.mean()
    matrix = (directions * variances ** (-strength / 2)) @ directions.T
    return Whitening(mean, matrix.astype(np.float32))
