"""Spectral clustering of groups of local speakers.

Ng, Jordan and Weiss, "On spectral clustering: analysis and an algorithm", 2001; only the nearest
neighbours keep their affinity, and the gap between eigenvalues tells the number of speakers.

N groups, D embedding size, K speakers.
"""

import numpy as np
from scipy.linalg import eigh

from wavlm_meeting.diarization.agglomerative import Floats, Groups, Ints, join

MOST = 20
"""Speakers that are looked for, unless more are wanted."""
FEWEST_NEIGHBOURS = 20
"""Neighbours kept however few groups there are."""


def spectral(groups: Groups, scale: float, neighbours: float, least: int, most: int) -> Ints:
    """Return the speaker (N,) of each group, between `least` and `most` of them.

    `neighbours` is the share of all groups that each keeps an affinity to. Groups that were heard
    in one window have none. Rows of the K first eigenvectors are put together by constrained
    average linkage where the authors take k-means: it draws nothing and gives K speakers exactly.
    """
    count = len(groups)
    affinity = _affinity(groups, scale, neighbours)
    degree = np.maximum(affinity.sum(axis=1), 1e-8)
    normalised = affinity / np.sqrt(degree[:, None] * degree)
    most = min(most, max(MOST, least))
    first = max(0, count - most - 1)
    values, vectors = eigh(normalised, subset_by_index=[first, count - 1])
    speakers = _largest_gap(values[::-1], least, most)
    rows = vectors[:, ::-1][:, :speakers]
    rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-8)
    return join(Groups(rows, groups.sizes, groups.heard)).cut(speakers)


def _affinity(groups: Groups, scale: float, neighbours: float) -> Floats:
    """Return the affinities (N, N): cosines to the nearest neighbours, made symmetric."""
    count = len(groups)
    lengths = np.linalg.norm(groups.means, axis=1, keepdims=True)
    units = (groups.means / np.maximum(lengths, 1e-8)).astype(np.float64)
    affinity = np.exp(-0.5 * np.square((1.0 - units @ units.T) / scale))
    rows, columns, _ = groups.apart()
    affinity[rows, columns] = 0.0
    np.fill_diagonal(affinity, 0.0)
    kept = min(count, max(FEWEST_NEIGHBOURS, round(neighbours * count)))
    weakest = np.partition(affinity, count - kept, axis=1)[:, count - kept, None]
    affinity[affinity < weakest] = 0.0
    symmetric: Floats = (affinity + affinity.T) / 2
    return symmetric


def _largest_gap(values: Floats, least: int, most: int) -> int:
    """Return the number of falling eigenvalues, within bounds, before the largest gap."""
    gaps = values - np.append(values[1:], 0.0)
    return least + int(gaps[least - 1 : most].argmax())
