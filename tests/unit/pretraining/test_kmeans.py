"""K-means against scikit-learn, and on data whose clusters are known."""

import numpy as np
import pytest
import torch
from sklearn.cluster import MiniBatchKMeans

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.kmeans import KMeansSettings, assign, fit_kmeans, plus_plus


def blobs(clusters: int, each: int, channels: int, spread: float) -> tuple[torch.Tensor, ...]:
    """Give frames around far centres, and which centre each belongs to."""
    generator = torch.Generator().manual_seed(0)
    centres = 10 * torch.randn(clusters, channels, generator=generator)
    owner = torch.arange(clusters).repeat_interleave(each)
    frames = centres[owner] + spread * torch.randn(len(owner), channels, generator=generator)
    shuffled = torch.randperm(len(owner), generator=generator)
    return frames[shuffled], owner[shuffled]


def test_known_clusters_are_found() -> None:
    """Blobs far apart come out whole, one label each, and all are in use."""
    frames, owner = blobs(20, 200, 8, 0.3)
    found = fit_kmeans(frames, KMeansSettings(clusters=20, batch=500, passes=5, restarts=3))
    labels = assign(frames, found.centres)[0]
    pairs = set(zip(owner.tolist(), labels.tolist(), strict=True))
    assert len(pairs) == 20
    assert found.use.tolist() == torch.bincount(labels, minlength=20).tolist()
    assert found.inertia == pytest.approx(8 * 0.3**2, rel=0.05)


def test_assignment_is_the_nearest_centre() -> None:
    """Labels and distances equal the written-out ones, over several chunks."""
    torch.manual_seed(1)
    frames, centres = torch.randn(9001, 13), torch.randn(37, 13)
    labels, distances = assign(frames, centres)
    squares = (frames[:, None] - centres).square().sum(dim=2)
    assert labels.equal(squares.argmin(dim=1))
    assert torch.allclose(distances, squares.amin(dim=1), atol=1e-4)


def test_the_start_spreads_out() -> None:
    """With as many centres as blobs, the greedy start hits every blob."""
    frames, owner = blobs(30, 50, 6, 0.1)
    centres = plus_plus(frames, 30, torch.Generator().manual_seed(0))
    squares = (centres[:, None] - frames).square().sum(dim=2)
    assert len(set(owner[squares.argmin(dim=1)].tolist())) == 30


def test_inertia_is_scikit_learns_within_a_per_cent() -> None:
    """Overlapping clusters, HuBERT's settings scaled down."""
    frames, _ = blobs(60, 400, 12, 6.0)
    theirs = MiniBatchKMeans(
        50, batch_size=2000, max_iter=50, n_init=5, max_no_improvement=100,
        tol=0.0, reassignment_ratio=0.0, random_state=0,
    ).fit(frames.numpy())  # fmt: skip
    ours = fit_kmeans(
        frames, KMeansSettings(clusters=50, batch=2000, passes=50, restarts=5, patience=100)
    )
    reference = np.square(
        frames.numpy() - theirs.cluster_centers_[theirs.predict(frames.numpy())]
    ).sum(axis=1).mean()  # fmt: skip
    assert ours.inertia <= 1.01 * reference


def test_equal_seeds_give_equal_centres() -> None:
    """Everything random hangs on the seed."""
    frames, _ = blobs(5, 100, 4, 1.0)
    settings = KMeansSettings(clusters=8, batch=100, passes=3, restarts=2)
    first, second = (fit_kmeans(frames, settings) for _ in range(2))
    assert first.centres.equal(second.centres)
    other = fit_kmeans(frames, settings.model_copy(update={"seed": 1}))
    assert not first.centres.equal(other.centres)


def test_edges() -> None:
    """As many clusters as frames, equal frames, too few, and broken ones."""
    frames = torch.arange(6.0)[:, None] * 100
    settings = KMeansSettings(clusters=6, batch=64, passes=50, restarts=4)
    assert fit_kmeans(frames, settings).inertia < 1e-3
    same = fit_kmeans(torch.ones(50, 3), KMeansSettings(clusters=4, batch=50, restarts=1))
    assert same.inertia == 0
    assert same.centres.isfinite().all()
    with pytest.raises(SettingsError, match="5 frames are fewer than 6"):
        fit_kmeans(frames[:5], settings)
    with pytest.raises(SettingsError, match="NaN"):
        fit_kmeans(torch.full((50, 2), torch.nan), KMeansSettings(clusters=2))
