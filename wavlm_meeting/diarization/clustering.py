"""Which local speakers of all windows are the same person.

M local speakers of all windows together, D embedding size, K speakers of the recording.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import linkage
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import pdist

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

MOST_FOUNDERS = 3000
"""Embeddings that groups are founded on; the distances between them take 36 MB."""
REFINEMENTS = 3
"""How often groups move to their members, who then choose again (docs/log.md: 31.2 to 30.4 %)."""
APART = 1e9
"""Distance given to two local speakers of one window: no average with it passes a threshold."""


def cluster(
    embeddings: Floats,
    windows: Ints,
    speech_s: Floats,
    *,
    threshold: float,
    least_s: float = 0.0,
    least_speaker_s: float = 0.0,
    evident: int = 1,
    evident_threshold: float = 0.0,
    min_speakers: int = 1,
    max_speakers: int | None = None,
) -> Ints:
    """Return the speaker (M,) of each local speaker, numbered from 0.

    `embeddings` (M, D) have unit length, `windows` (M,) says where each was heard and `speech_s`
    (M,) for how long. The ones with at least `least_s` of speech are merged by average linkage up
    to the cosine distance `threshold`; two local speakers of one window never
    merge, unless so few speakers are wanted. Where the windows are evidence of `evident` speakers,
    merging stops at so many groups, or else goes on up to `evident_threshold` only. Then every
    local speaker takes the nearest group, those of one window different ones as long as there are
    enough, and does so again once the groups have moved to all who took them. Groups with less than
    `least_speaker_s` are dissolved.

    The number of speakers lies within `min_speakers` and `max_speakers` whenever there are as many
    local speakers; a wanted number outranks threshold and least durations.
    """
    if not len(embeddings):
        return np.zeros(0, np.int64)
    founders = _founders(speech_s, least_s, max(min_speakers, evident))
    merges = _merges(embeddings[founders], windows[founders])
    groups = _groups_below(merges, threshold)
    groups = max(groups, min(evident, _groups_below(merges, evident_threshold)))
    groups = max(groups, min(min_speakers, len(founders)))
    labels = _cut(merges, min(groups, max_speakers or groups))
    centroids = _centroids(embeddings[founders], labels, speech_s[founders])
    kept = _large_enough(labels, speech_s[founders], least_speaker_s, min_speakers)
    assigned = _assign(embeddings, windows, centroids[kept], founders, labels, kept)
    for _ in range(REFINEMENTS):
        centroids = _centroids(embeddings, assigned, speech_s)
        assigned = _assign(embeddings, windows, centroids, founders, labels, kept)
    return np.unique(assigned, return_inverse=True)[1]


def evident_speakers(windows: Ints, speech_s: Floats, least_s: float, share: float) -> int:
    """Return how many speakers there are at least, by the windows that hold several.

    `windows` (M,) and `speech_s` (M,) as in `cluster`. That is the largest number of local speakers
    with `least_s` of speech alone which at least `share` of the windows with such a speaker have:
    who shares a microphone and a room with others is told from them within a window when their
    embeddings no longer do.
    """
    counts = np.bincount(windows[speech_s >= least_s])
    counts = np.sort(counts[counts > 0])[::-1]
    if not len(counts):
        return 1
    needed = max(1, int(np.ceil(share * len(counts))))
    return int(counts[needed - 1])


def _founders(speech_s: Floats, least_s: float, min_speakers: int) -> Ints:
    """Choose the embeddings that groups are founded on: long enough, or else the longest."""
    order = np.argsort(-speech_s, kind="stable")
    enough = int(np.sum(speech_s >= least_s))
    count = min(max(enough, min_speakers, 1), MOST_FOUNDERS, len(order))
    return np.sort(order[:count])


def _merges(embeddings: Floats, windows: Ints) -> Floats:
    """Return the merges of average linkage, as scipy lists them; none for a single embedding."""
    if len(embeddings) == 1:
        return np.zeros((0, 4))
    distances = pdist(embeddings.astype(np.float64), "cosine")
    distances[pdist(windows[:, None].astype(np.float64)) == 0] = APART
    merges: Floats = linkage(distances, "average")
    return merges


def _groups_below(merges: Floats, threshold: float) -> int:
    """Return how many groups are left by the merges up to a distance."""
    return len(merges) + 1 - int(np.searchsorted(merges[:, 2], threshold, side="right"))


def _cut(merges: Floats, groups: int) -> Ints:
    """Follow the first merges until exactly `groups` groups are left."""
    count = len(merges) + 1
    members = {item: [item] for item in range(count)}
    for step, (left, right, *_) in enumerate(merges[: count - groups]):
        members[count + step] = members.pop(int(left)) + members.pop(int(right))
    labels = np.zeros(count, np.int64)
    for label, items in enumerate(members.values()):
        labels[items] = label
    return labels


def _centroids(embeddings: Floats, labels: Ints, speech_s: Floats) -> Floats:
    """Return the unit-length means (K, D) of the groups, weighted by speech."""
    weights = np.zeros((labels.max() + 1, len(labels)))
    weights[labels, np.arange(len(labels))] = np.maximum(speech_s, 1e-3)
    sums = weights @ embeddings
    centroids: Floats = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-8)
    return centroids


def _large_enough(labels: Ints, speech_s: Floats, least_s: float, min_speakers: int) -> Ints:
    """Return the groups that are kept: the large ones, or as many as are wanted at least."""
    sizes = np.bincount(labels, weights=speech_s)
    order = np.argsort(-sizes, kind="stable")
    count = max(int(np.sum(sizes >= least_s)), min(min_speakers, len(sizes)), 1)
    return np.sort(order[:count])


def _assign(
    embeddings: Floats,
    windows: Ints,
    centroids: Floats,
    founders: Ints,
    labels: Ints,
    kept: Ints,
) -> Ints:
    """Give every local speaker a group, different ones within a window where possible.

    The most typical founder of each group stays in it, so that no group loses all its members.
    """
    similarity = embeddings @ centroids.T  # (M, K)
    for number, group in enumerate(kept):
        own = founders[labels == group]
        similarity[own[np.argmax(similarity[own, number])], number] = 10.0
    assigned = similarity.argmax(axis=1)
    order = np.argsort(windows, kind="stable")
    for items in np.split(order, np.flatnonzero(np.diff(windows[order])) + 1):
        if len(items) > 1:
            rows, columns = linear_sum_assignment(-similarity[items])
            assigned[items[rows]] = columns
    return assigned
