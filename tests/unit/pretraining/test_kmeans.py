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


def test_every_start_spreads_out() -> None:
    """With as many centres as blobs, each greedy start hits every blob, with points of its own."""
    frames, owner = blobs(30, 50, 6, 0.1)
    starts = plus_plus(frames, 30, 3, torch.Generator().manual_seed(0))
    assert starts.shape == (3, 30, 6)
    for centres in starts:
        squares = (centres[:, None] - frames).square().sum(dim=2)
        assert len(set(owner[squares.argmin(dim=1)].tolist())) == 30
    assert not starts[0].equal(starts[1])


def test_starts_are_greedy_plus_plus_written_out() -> None:
    """Side by side they choose what one start after the other does, with the same draws."""
    frames, _ = blobs(6, 40, 5, 4.0)
    starts = plus_plus(frames, 12, 2, torch.Generator().manual_seed(3))
    generator = torch.Generator().manual_seed(3)
    first = torch.randint(len(frames), (2,), generator=generator)
    draws = torch.stack(
        [torch.rand(2, 4, generator=generator, dtype=torch.double) for _ in range(11)]
    )
    squares = (frames[:, None].double() - frames.double()).square().sum(dim=2)
    for start in range(2):
        chosen = [int(first[start])]
        for draw in draws[:, start]:
            distance = squares[chosen].amin(dim=0)
            limits = distance.cumsum(dim=0)
            picked = [int((limits < share * limits[-1]).sum()) for share in draw]
            inertia = [float(squares[[*chosen, one]].amin(dim=0).sum()) for one in picked]
            chosen.append(picked[int(np.argmin(inertia))])
        assert starts[start].equal(frames[chosen])


def test_a_single_step_is_lloyds() -> None:
    """With one pass and all frames in a batch, centres are the means of what was nearest."""
    frames, _ = blobs(5, 30, 3, 3.0)
    start = plus_plus(frames, 7, 1, torch.Generator().manual_seed(0))[0]
    labels = assign(frames, start)[0]
    means = torch.stack([frames[labels == cluster].mean(dim=0) for cluster in range(7)])
    found = fit_kmeans(frames, KMeansSettings(clusters=7, batch=150, passes=1, restarts=1))
    assert torch.allclose(found.centres, means, atol=1e-4)


def test_it_goes_on_for_as_long_as_it_helps() -> None:
    """The smaller the tolerance, the lower the inertia."""
    frames, _ = blobs(60, 200, 12, 6.0)
    inertia = [
        fit_kmeans(
            frames,
            KMeansSettings(clusters=50, batch=500, passes=50, restarts=1, tolerance=tolerance),
        ).inertia
        for tolerance in (0.9, 0.01, 0.0)
    ]
    assert inertia == sorted(inertia, reverse=True)
    assert len(set(inertia)) == 3


def test_inertia_is_scikit_learns_within_a_per_cent() -> None:
    """Overlapping clusters, HuBERT's settings scaled down."""
    frames, _ = blobs(60, 400, 12, 6.0)
    theirs = MiniBatchKMeans(
        50, batch_size=2000, max_iter=50, n_init=5, max_no_improvement=100,
        tol=0.0, reassignment_ratio=0.0, random_state=0,
    ).fit(frames.numpy())  # fmt: skip
    ours = fit_kmeans(frames, KMeansSettings(clusters=50, batch=2000, passes=50, restarts=5))
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
    hidden = torch.randn(5000, 2)
    hidden[1234, 1] = torch.inf
    with pytest.raises(SettingsError, match="infinity"):
        fit_kmeans(hidden, KMeansSettings(clusters=2, batch=10, restarts=1))
