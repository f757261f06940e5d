"""Clustering: voices that are apart are told apart, and wanted counts are kept."""

import numpy as np
import pytest

from wavlm_meeting.diarization.clustering import cluster, evident_speakers


def voices(
    speakers: int, windows: int, noise: float = 0.3, seed: int = 0
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Give embeddings, windows, seconds and truth: two different speakers in each window."""
    rng = np.random.default_rng(seed)
    centres = np.linalg.qr(rng.standard_normal((64, 64)))[0][:speakers]
    truth = np.concatenate([rng.permutation(speakers)[:2] for _ in range(windows)])
    embeddings = centres[truth] + noise * rng.standard_normal((2 * windows, 64)) / 8
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return embeddings, np.repeat(np.arange(windows), 2), rng.uniform(0.2, 5, 2 * windows), truth


def same_partition(a: np.ndarray, b: np.ndarray) -> bool:
    """Tell whether two labelings group alike."""
    return np.array_equal(a[:, None] == a, b[:, None] == b)


@pytest.mark.parametrize("speakers", [2, 3, 6, 15])
def test_separate_voices_are_found_without_a_count(speakers: int) -> None:
    """The threshold finds the true groups where they are apart, short embeddings included."""
    embeddings, windows, seconds, truth = voices(speakers, 100)
    labels = cluster(embeddings, windows, seconds, threshold=0.6, least_s=1.0)
    assert same_partition(labels, truth)


@pytest.mark.parametrize("wanted", [1, 2, 3, 7, 40])
def test_a_wanted_count_is_kept_exactly(wanted: int) -> None:
    """Whatever the voices are like, as many speakers come out as were asked for."""
    for noise in (0.0, 0.5, 5.0):
        embeddings, windows, seconds, _ = voices(4, 30, noise)
        labels = cluster(
            embeddings,
            windows,
            seconds,
            threshold=0.6,
            least_s=4.0,
            min_speakers=wanted,
            max_speakers=wanted,
        )
        assert sorted(set(labels.tolist())) == list(range(wanted))


def test_more_speakers_than_voices_heard_gives_one_each() -> None:
    """A count that the recording cannot carry gives every local speaker a name of their own."""
    embeddings, windows, seconds, _ = voices(3, 2)
    labels = cluster(embeddings, windows, seconds, threshold=0.6, min_speakers=9, max_speakers=9)
    assert len(set(labels.tolist())) == 4


def test_local_speakers_of_a_window_are_kept_apart() -> None:
    """Two people heard in one window are two, however alike they sound."""
    rng = np.random.default_rng(0)
    embeddings = np.ones((20, 8)) + 0.01 * rng.standard_normal((20, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    windows = np.repeat(np.arange(10), 2)
    labels = cluster(embeddings, windows, np.ones(20), threshold=0.6).reshape(10, 2)
    assert (labels[:, 0] != labels[:, 1]).all()


def test_bounds_pull_the_estimate_in() -> None:
    """An estimate below the fewest or above the most speakers becomes that bound."""
    embeddings, windows, seconds, _ = voices(4, 40)

    def count(**bounds: int) -> int:
        labels = cluster(embeddings, windows, seconds, threshold=0.6, **bounds)
        return len(set(labels.tolist()))

    assert count() == 4
    assert count(min_speakers=6) == 6
    assert count(max_speakers=3) == 3
    assert count(min_speakers=2, max_speakers=5) == 4


def test_a_voice_heard_too_briefly_is_nobody() -> None:
    """Groups below the least speech dissolve into the others, unless they are asked for."""
    embeddings, windows, _, truth = voices(3, 40)
    seconds = np.where(truth == 2, 0.05, 3.0)
    options = {"threshold": 0.6, "least_speaker_s": 2.0}
    assert len(set(cluster(embeddings, windows, seconds, **options).tolist())) == 2
    wanted = cluster(embeddings, windows, seconds, **options, min_speakers=3)
    assert len(set(wanted.tolist())) == 3


def test_nobody_is_clustered_to_nothing() -> None:
    """A recording without speech has no labels."""
    nothing = np.zeros(0)
    assert cluster(np.zeros((0, 8)), nothing, nothing, threshold=0.5).shape == (0,)


def test_windows_are_evidence_of_the_number_of_speakers() -> None:
    """As many as are heard side by side, long enough, in enough of the windows that hold speech."""
    windows = np.repeat(np.arange(10), 3)
    seconds = np.zeros((10, 3))
    assert evident_speakers(windows, seconds.ravel(), 0.8, 0.1) == 1
    seconds[:5, 0] = 2.0
    assert evident_speakers(windows, seconds.ravel(), 0.8, 0.1) == 1
    seconds[0, 1] = 0.7
    assert evident_speakers(windows, seconds.ravel(), 0.8, 0.1) == 1
    seconds[0, 1] = 0.9
    assert evident_speakers(windows, seconds.ravel(), 0.8, 0.2) == 2
    assert evident_speakers(windows, seconds.ravel(), 0.8, 0.21) == 1
    seconds[:3] = 1.0
    assert evident_speakers(windows, seconds.ravel(), 0.8, 0.6) == 3


def test_evidence_keeps_near_voices_apart_but_not_one_voice() -> None:
    """Voices that the threshold would join stay two where windows show two, unless too near."""
    rng = np.random.default_rng(0)
    first = np.zeros(32)
    first[0] = 1.0
    for angle, expected in ((0.9, 2), (0.2, 1)):
        second = np.zeros(32)
        second[:2] = np.cos(angle), np.sin(angle)  # cosine distances 0.38 and 0.02
        truth = np.arange(40) % 2
        embeddings = np.stack([first, second])[truth] + 0.02 * rng.standard_normal((40, 32))
        embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
        parts = embeddings, np.arange(40), np.full(40, 2.0)
        joined = cluster(*parts, threshold=0.6)
        assert joined.max() == 0
        found = cluster(*parts, threshold=0.6, evident=2, evident_threshold=0.25)
        assert found.max() + 1 == expected
        if expected == 2:
            assert same_partition(found, truth)
        limited = cluster(*parts, threshold=0.6, evident=2, evident_threshold=0.25, max_speakers=1)
        assert limited.max() == 0
