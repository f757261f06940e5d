"""Average linkage of groups of local speakers, some of which must not be joined.

N groups at the start, D embedding size, W windows.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components
from scipy.special import expit

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]

APART = 1e12
"""Added to the distance of two local speakers of one window: no average with it passes a threshold,
not even one over all pairs of a day."""


@dataclass(frozen=True)
class Groups:
    """Groups of local speakers that are taken as one person each; at first single ones."""

    means: Floats
    """(N, D) mean of the members' embeddings, which have unit length."""
    sizes: Floats
    """(N,) how many members there are."""
    heard: csr_array
    """(N, W) members in each window: where two groups share a window, they are two people."""

    @classmethod
    def single(cls, embeddings: Floats, windows: Ints) -> "Groups":
        """Take every local speaker as a group; `windows` (N,) says where each was heard."""
        count = len(embeddings)
        places = np.arange(count), np.unique(windows, return_inverse=True)[1]
        heard = csr_array(coo_array((np.ones(count, np.float32), places)))
        return cls(embeddings, np.ones(count), heard)

    def __len__(self) -> int:
        """Return the number of groups."""
        return len(self.means)

    def part(self, rows: Ints) -> "Groups":
        """Return some of the groups."""
        return Groups(self.means[rows], self.sizes[rows], self.heard[rows])

    def joined(self, labels: Ints) -> "Groups":
        """Join the groups (N,) that have the same label."""
        sizes = np.bincount(labels, weights=self.sizes).astype(np.float64)
        shares = weighted_sums(labels, self.sizes / sizes[labels])
        heard = weighted_sums(labels, np.ones(len(labels))) @ self.heard
        return Groups(shares @ self.means, sizes, csr_array(heard))

    def apart(self) -> tuple[Ints, Ints, Floats]:
        """Return which two groups are two people: rows, columns, and for what share of the pairs.

        (P,) each; of groups that were heard in one window, every two are listed both ways round.
        """
        together = (self.heard @ self.heard.T).tocoo()
        rows, columns = together.coords
        shares = together.data / (self.sizes[rows] * self.sizes[columns])
        others = rows != columns
        return rows[others], columns[others], shares[others]


@dataclass(frozen=True)
class Dendrogram:
    """In which order groups are joined, from N groups to one."""

    pairs: Ints
    """(N - 1, 2) groups of the start, any of the members of what is joined."""
    heights: Floats
    """(N - 1,) average distances at which they are joined, never falling."""

    def groups_below(self, threshold: float) -> int:
        """Return how many groups are left by joining up to a distance."""
        joined = int(np.searchsorted(self.heights, threshold, side="right"))
        return len(self.heights) + 1 - joined

    def cut(self, groups: int) -> Ints:
        """Return the group (N,) of each at the start when so many are left."""
        count = len(self.heights) + 1
        left, right = self.pairs[: count - groups].T
        edges = coo_array((np.ones(len(left)), (left, right)), shape=(count, count))
        labels: Ints = connected_components(edges, directed=False)[1]
        return labels

    def thresholds(self, groups: int) -> tuple[float, float]:
        """Return between which distances so many groups are left."""
        edges = np.concatenate([[0.0], self.heights, [np.inf]])
        place = len(self.heights) + 1 - groups
        return float(edges[place]), float(edges[place + 1])

    def large(self, weights: Floats, least: float) -> Ints:
        """Return how many groups (N,) weigh `least` or more when 1, 2, ... N groups are left.

        `weights` (N,) are those of the groups at the start.
        """
        parents, weights = list(range(len(weights))), weights.tolist()

        def root(group: int) -> int:
            while parents[group] != group:
                parents[group] = group = parents[parents[group]]
            return group

        counts = [sum(weight >= least for weight in weights)]
        for pair in self.pairs.tolist():
            gone, kept = map(root, pair)
            both = weights[gone] + weights[kept]
            fewer = (weights[gone] >= least) + (weights[kept] >= least)
            counts.append(counts[-1] - fewer + (both >= least))
            parents[gone], weights[kept] = kept, both
        return np.array(counts[::-1])

    def counts(self, threshold: float, width: float) -> Floats:
        """Return the probability (N,) of 1, 2, ... N groups.

        The right threshold is taken to be unknown and logistic: `threshold` is its mean and `width`
        its scale. A number of groups is as probable as the thresholds are that lead to it, so that
        one which a wide gap between two joinings speaks for is sure.
        """
        below = np.concatenate([[0.0], expit((self.heights - threshold) / width), [1.0]])
        probabilities: Floats = np.diff(below)[::-1]
        return probabilities


def join(groups: Groups) -> Dendrogram:
    """Join groups by average linkage with the cosine distance.

    The average over all pairs of members is 1 - <mean, mean>, so that groups of any size go on as
    if their members were here.
    """
    means = groups.means.astype(np.float64)
    distances = -means @ means.T
    distances += 1.0
    rows, columns, shares = groups.apart()
    distances[rows, columns] += APART * shares
    return average_linkage(distances, groups.sizes)


def average_linkage(distances: Floats, sizes: Floats) -> Dendrogram:
    """Join groups by average linkage, which weighs them by their sizes (N,).

    `distances` (N, N) are overwritten. The chain of nearest neighbours (Murtagh 1983) takes a
    time of N^2. scipy's `linkage` does the same for groups of one member each, and only for those.
    """
    sizes = sizes.astype(np.float64)
    steps = max(len(sizes) - 1, 0)
    pairs, heights = np.zeros((steps, 2), np.int64), np.zeros(steps)
    np.fill_diagonal(distances, np.inf)
    alive = np.ones(len(sizes), np.bool_)
    chain: list[int] = []
    for step in range(steps):
        if not chain:
            chain.append(int(alive.argmax()))
        while True:
            row = distances[chain[-1]]
            nearest = int(row.argmin())
            if len(chain) > 1 and row[chain[-2]] <= row[nearest]:
                break
            chain.append(nearest)
        gone, kept = chain.pop(), chain.pop()
        pairs[step], heights[step] = (gone, kept), distances[gone, kept]
        total = sizes[gone] + sizes[kept]
        merged = (sizes[gone] * distances[gone] + sizes[kept] * distances[kept]) / total
        merged[kept] = np.inf
        distances[kept] = distances[:, kept] = merged
        distances[gone] = distances[:, gone] = np.inf
        sizes[kept], alive[gone] = total, False
    order = np.argsort(heights, kind="stable")
    return Dendrogram(pairs[order], heights[order])


def weighted_sums(labels: Ints, weights: Floats) -> csr_array:
    """Return the matrix (K, N) that sums what has the same label, in single precision."""
    places = labels, np.arange(len(labels))
    return csr_array(coo_array((weights.astype(np.float32), places)))
