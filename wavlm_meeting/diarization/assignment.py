"""From groups of some local speakers to a speaker for every one of them.

M local speakers, D embedding size, K groups.
"""

import numpy as np
from scipy.optimize import linear_sum_assignment

from wavlm_meeting.diarization.agglomerative import Floats, Ints, weighted_sums

REFINEMENTS = 3
"""How often groups move to their members, who then choose again (docs/log.md: 31.2 to 30.4 %)."""
PINNED = 10.0
"""Similarity that outweighs any sum of cosines within a window."""
LEAST_WEIGHT = 1e-3
"""Seconds that an embedding counts for at least in a mean."""


def choose_founders(speech_s: Floats, least_s: float, least: int) -> Ints:
    """Choose local speakers that groups are founded on: long enough, or else the `least` longest.

    `speech_s` (M,) says how long each was heard.
    """
    order = np.argsort(-speech_s, kind="stable")
    enough = int(np.sum(speech_s >= least_s))
    return np.sort(order[: max(enough, least, 1)])


def large_enough(labels: Ints, speech_s: Floats, least_s: float, least: int, most: int) -> Ints:
    """Return the groups that are kept: the largest ones, as many as have `least_s` of speech.

    They are `least` to `most`, as long as there are as many.
    """
    sizes = np.bincount(labels, weights=speech_s)
    order = np.argsort(-sizes, kind="stable")
    count = min(max(int(np.sum(sizes >= least_s)), least, 1), most)
    return np.sort(order[:count])


def assign_all(
    embeddings: Floats, windows: Ints, speech_s: Floats, founders: Ints, labels: Ints, kept: Ints
) -> Ints:
    """Return the group (M,) of every local speaker, by its number in `kept`.

    `labels` are the groups of the `founders`. Everybody takes the nearest group, those of one
    window different ones as long as there are enough, and does so again once the groups have moved
    to all who took them. The most typical founder of each kept group stays in it, so that no group
    loses all its members.
    """
    groups, weights = np.zeros(len(embeddings), np.int64), np.zeros(len(embeddings))
    groups[founders], weights[founders] = labels, np.maximum(speech_s[founders], LEAST_WEIGHT)
    centroids = _centroids(embeddings, groups, weights)[kept]
    shared = _shared_windows(windows)
    own = [founders[labels == group] for group in kept]
    for _ in range(1 + REFINEMENTS):
        similarity = embeddings @ centroids.T  # (M, K)
        for number, founding in enumerate(own):
            typical = founding[np.argmax(similarity[founding, number])]
            similarity[typical, number] = PINNED
        assigned = similarity.argmax(axis=1)
        for items in shared:
            rows, columns = linear_sum_assignment(-similarity[items])
            assigned[items[rows]] = columns
        centroids = _centroids(embeddings, assigned, np.maximum(speech_s, LEAST_WEIGHT))
    return assigned


def _centroids(embeddings: Floats, labels: Ints, weights: Floats) -> Floats:
    """Return the weighted means (K, D) of the groups, of unit length."""
    sums = weighted_sums(labels, weights) @ embeddings
    centroids: Floats = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-8)
    return centroids


def _shared_windows(windows: Ints) -> list[Ints]:
    """Return the local speakers of each window that holds several."""
    order = np.argsort(windows, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(windows[order])) + 1)
    return [items for items in groups if len(items) > 1]
