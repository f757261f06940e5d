"""Average linkage: scipy's where scipy has it, members or their means alike, counts that add up."""

import numpy as np
import pytest
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import pdist
from scipy.special import expit

from drawn_voices import draw_voices, same_partition
from wavlm_meeting.diarization.agglomerative import APART, Groups, average_linkage, join


@pytest.mark.parametrize("noise", [0.3, 1.0, 5.0])
def test_the_joinings_are_scipys(noise: float) -> None:
    """Heights and every cut equal scipy's average linkage with two of a window far apart."""
    drawn = draw_voices(5, 40, noise)
    distances = pdist(drawn.embeddings, "cosine")
    distances[pdist(drawn.windows[:, None].astype(float)) == 0] += APART
    merges = linkage(distances, "average")
    tree = join(Groups.single(drawn.embeddings, drawn.windows))
    assert np.allclose(tree.heights, merges[:, 2])
    for groups in range(1, 81):
        assert same_partition(tree.cut(groups), fcluster(merges, groups, "maxclust"))
    for threshold in (0.2, 0.5, 0.8, 1.1):
        apart = len(np.unique(fcluster(merges, threshold, "distance")))
        assert tree.groups_below(threshold) == apart


def test_cannot_link_holds_below_every_threshold() -> None:
    """However large groups grow, an average with two of one window passes no threshold."""
    embeddings = np.ones((600, 4)) / 2
    tree = join(Groups.single(embeddings, np.append(np.arange(599), 0)))
    labels = tree.cut(tree.groups_below(2.0))
    assert labels.max() == 1
    assert labels[0] != labels[-1]


def test_groups_go_on_as_their_members_would() -> None:
    """Joined groups have the heights that their members had left; windows are remembered."""
    drawn = draw_voices(4, 50, noise=1.0)
    groups = Groups.single(drawn.embeddings, drawn.windows)
    tree = join(groups)
    half = tree.cut(50)
    after = join(groups.joined(half))
    assert np.allclose(after.heights, tree.heights[50:], atol=1e-4)
    assert same_partition(after.cut(6)[half], tree.cut(6))
    mixed = groups.joined(drawn.truth)
    for a, b, share in zip(*mixed.apart(), strict=True):
        own = [drawn.windows[drawn.truth == group] for group in (a, b)]
        assert share == pytest.approx(np.equal.outer(*own).mean())
    windows = drawn.truth.reshape(-1, 2)
    together = {(a, b) for a, b in np.concatenate([windows, windows[:, ::-1]])}
    assert together == set(zip(*mixed.apart()[:2], strict=True))


def test_one_group_and_two() -> None:
    """Nothing is to be joined of one; two are joined at their distance."""
    assert average_linkage(np.zeros((1, 1)), np.ones(1)).cut(1).tolist() == [0]
    tree = average_linkage(np.array([[0.0, 0.4], [0.4, 0.0]]), np.ones(2))
    assert tree.heights.tolist() == [0.4]
    assert tree.cut(2).tolist() == [0, 1]
    assert tree.cut(1).tolist() == [0, 0]


@pytest.mark.parametrize("least", [0.0, 1.0, 3.0, 1e9])
def test_large_groups_are_counted_at_every_cut(least: float) -> None:
    """So many groups of each cut weigh enough as its members' weights add up to."""
    tree = join(Groups.single(draw_voices(4, 15, noise=1.5).embeddings, np.arange(30)))
    weights = np.random.default_rng(0).exponential(size=30)
    large = tree.large(weights, least)
    for groups in range(1, 31):
        sums = np.bincount(tree.cut(groups), weights=weights)
        assert large[groups - 1] == (sums >= least).sum()


def test_counts_are_the_share_of_thresholds_that_lead_to_them() -> None:
    """Probabilities add up to 1 and are those of thresholds drawn from the distribution."""
    tree = join(Groups.single(draw_voices(4, 10, noise=1.2).embeddings, np.arange(20)))
    probabilities = tree.counts(0.6, 0.1)
    assert probabilities.sum() == pytest.approx(1.0)
    drawn = 0.6 + 0.1 * np.random.default_rng(0).logistic(size=20_000)
    counted = np.bincount([tree.groups_below(each) for each in drawn], minlength=21)[1:]
    assert np.allclose(probabilities, counted / 20_000, atol=0.015)
    low, high = tree.thresholds(4)
    assert probabilities[3] == pytest.approx(expit((high - 0.6) / 0.1) - expit((low - 0.6) / 0.1))
