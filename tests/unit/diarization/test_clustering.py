"""Clustering: voices that are apart are told apart, wanted counts are kept, by every method."""

from typing import Any

import numpy as np
import pytest

from drawn_voices import draw_voices, same_partition
from wavlm_meeting.diarization.clustering import (
    ClusteringSettings,
    Clusters,
    cluster,
    evident_speakers,
)

METHODS = pytest.mark.parametrize("method", ["agglomerative", "vbx", "spectral"])


def options(method: str = "agglomerative", **values: Any) -> ClusteringSettings:
    """Give settings under which only the threshold and the method decide."""
    plain = {"least_s": 0.0, "least_speaker_s": 0.0, "evident_share": 1.0, "evident_s": 99.0}
    return ClusteringSettings(**{"method": method, **plain, **values})


def speakers_of(found: Clusters) -> int:
    """Count the speakers, who are numbered without a gap."""
    names = sorted(set(found.labels.tolist()))
    assert names == list(range(len(names)))
    return len(names)


@METHODS
@pytest.mark.parametrize("speakers", [2, 3, 6, 15])
def test_separate_voices_are_found_without_a_count(method: str, speakers: int) -> None:
    """The true groups come out where they are apart, short embeddings included; surely so."""
    drawn = draw_voices(speakers, 100)
    found = cluster(*drawn.heard, options(method, least_s=1.0))
    assert same_partition(found.labels, drawn.truth)
    assert found.counts[speakers] > 0.99


@pytest.mark.parametrize("method", ["agglomerative", "vbx"])
def test_the_threshold_is_that_of_the_method(method: str) -> None:
    """A high one joins everybody, a low one nobody, whichever settings it is kept in."""
    drawn, own = draw_voices(4, 80), options(method)
    embeddings, windows, speech_s = drawn.heard
    alone = np.arange(len(windows))  # nobody is known to be somebody else
    for threshold, least, most in ((1.99, 1, 1), (own.joined_to, 4, 4), (1e-6, 4, 200)):
        found = cluster(embeddings, alone, speech_s, own.joining_to(threshold))
        assert least <= speakers_of(found) <= most
    assert own.joining_to(0.3).joined_to == 0.3
    assert own.joining_to(own.joined_to) == own


@METHODS
@pytest.mark.parametrize("wanted", [1, 2, 3, 7, 40])
def test_a_wanted_count_is_kept_exactly(method: str, wanted: int) -> None:
    """Whatever the voices are like, as many speakers come out as were asked for, surely."""
    settings = options(method, least_s=4.0, least_speaker_s=2.0)
    for noise in (0.0, 0.5, 5.0):
        drawn = draw_voices(4, 30, noise)
        bounds = {"min_speakers": wanted, "max_speakers": wanted}
        found = cluster(*drawn.heard, settings, **bounds)
        assert speakers_of(found) == wanted
        assert found.counts == {wanted: 1.0}


@pytest.mark.parametrize("method", ["agglomerative", "vbx"])
@pytest.mark.parametrize("bounds", [(4, 4), (4, None), (4, 5), (1, 4)])
def test_a_wanted_speaker_is_nobody_odd(method: str, bounds: tuple[int, int | None]) -> None:
    """Brief voices unlike any other are none of the speakers that were asked for.

    Those four have a cosine of one half to each other, what is odd has none to anybody.
    """
    drawn, rng = draw_voices(4, 40), np.random.default_rng(0)
    alike = np.hstack([drawn.embeddings, np.ones((80, 1))]) / np.sqrt(2)
    odd = np.hstack([np.linalg.qr(rng.standard_normal((64, 4)))[0].T, np.zeros((4, 1))])
    seconds = np.concatenate([np.full(80, 3.0), np.full(4, 0.2)])
    heard = np.concatenate([alike, odd]), np.arange(84), seconds
    settings = options(method, threshold=0.35, least_speaker_s=1.0, vbx={"threshold": 0.35})
    found = cluster(*heard, settings, min_speakers=bounds[0], max_speakers=bounds[1])
    assert speakers_of(found) == 4
    assert same_partition(found.labels[:80], drawn.truth)
    assert max(found.counts, key=found.counts.__getitem__) == 4


@METHODS
def test_more_speakers_than_voices_heard_gives_one_each(method: str) -> None:
    """A count that the recording cannot carry gives every local speaker a name of their own."""
    drawn = draw_voices(3, 2)
    found = cluster(*drawn.heard, options(method), min_speakers=9, max_speakers=9)
    assert speakers_of(found) == 4
    assert found.counts == {4: 1.0}


@METHODS
def test_local_speakers_of_a_window_are_kept_apart(method: str) -> None:
    """Two people heard in one window are two, however alike they sound."""
    rng = np.random.default_rng(0)
    embeddings = np.ones((20, 8)) + 0.01 * rng.standard_normal((20, 8))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    windows = np.repeat(np.arange(10), 2)
    for bounds in ({}, {"min_speakers": 2, "max_speakers": 2}, {"min_speakers": 5}):
        labels = cluster(embeddings, windows, np.ones(20), options(method), **bounds).labels
        pairs = labels.reshape(10, 2)
        assert (pairs[:, 0] != pairs[:, 1]).all()


@METHODS
def test_bounds_pull_the_estimate_in(method: str) -> None:
    """An estimate below the fewest or above the most speakers becomes that bound."""
    drawn = draw_voices(4, 40)

    def count(**bounds: int) -> int:
        found = cluster(*drawn.heard, options(method), **bounds)
        assert min(found.counts) >= bounds.get("min_speakers", 1)
        assert max(found.counts) <= bounds.get("max_speakers", 99)
        return speakers_of(found)

    assert count() == 4
    assert count(min_speakers=6) == 6
    assert count(max_speakers=3) == 3
    assert count(min_speakers=2, max_speakers=5) == 4


@METHODS
def test_the_order_of_local_speakers_does_not_matter(method: str) -> None:
    """Shuffled local speakers get the very labels they had, and the counts stay."""
    drawn = draw_voices(5, 60, noise=1.2)
    settings = options(method, threshold=0.7, least_s=1.0)
    found = cluster(*drawn.heard, settings)
    shuffle = np.random.default_rng(1).permutation(120)
    again = cluster(*(values[shuffle] for values in drawn.heard), settings)
    assert np.array_equal(again.labels, found.labels[shuffle])
    assert again.counts == found.counts


@METHODS
def test_one_voice_is_one_speaker(method: str) -> None:
    """A recording of one person, a single embedding included, has one speaker."""
    for windows in (1, 2, 5, 40):
        drawn = draw_voices(2, 60, noise=0.4)
        own = np.flatnonzero(drawn.truth == 0)[:windows]
        found = cluster(*(values[own] for values in drawn.heard), options(method))
        assert speakers_of(found) == 1
        assert max(found.counts, key=found.counts.__getitem__) == 1


@METHODS
def test_long_recordings_are_clustered_in_blocks(method: str) -> None:
    """Up to one block its size makes no difference; beyond, clear voices come out alike."""
    drawn = draw_voices(6, 350)
    whole = cluster(*drawn.heard, options(method, block=700))
    more = cluster(*drawn.heard, options(method, block=100_000))
    assert np.array_equal(whole.labels, more.labels)
    assert whole.counts == more.counts
    for block in (100, 300, 699):
        cut = cluster(*drawn.heard, options(method, block=block))
        assert np.array_equal(cut.labels, whole.labels)


@METHODS
@pytest.mark.parametrize("wanted", [1, 4, 90])
def test_a_wanted_count_is_kept_in_blocks_too(method: str, wanted: int) -> None:
    """Blocks leave as many groups as are asked for, on noise too."""
    drawn = draw_voices(4, 150, noise=5.0)
    bounds = {"min_speakers": wanted, "max_speakers": wanted}
    found = cluster(*drawn.heard, options(method, block=100), **bounds)
    assert speakers_of(found) == wanted


def test_a_voice_heard_too_briefly_is_nobody() -> None:
    """Groups below the least speech dissolve into the others, unless they are asked for."""
    drawn = draw_voices(3, 40)
    seconds = np.where(drawn.truth == 2, 0.05, 3.0)
    heard = drawn.embeddings, drawn.windows, seconds
    settings = options(least_speaker_s=2.0)
    found = cluster(*heard, settings)
    assert speakers_of(found) == 2
    assert found.counts[2] > 0.99
    assert speakers_of(cluster(*heard, settings, min_speakers=3)) == 3


def test_nobody_is_clustered_to_nothing() -> None:
    """A recording without speech has no labels, and surely no speaker."""
    nothing = np.zeros(0)
    found = cluster(np.zeros((0, 8)), nothing, nothing, options())
    assert found.labels.shape == (0,)
    assert found.counts == {0: 1.0}


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


@pytest.mark.parametrize(("angle", "expected"), [(0.9, 2), (0.2, 1)])  # distances 0.38 and 0.02
def test_evidence_keeps_near_voices_apart_but_not_one_voice(angle: float, expected: int) -> None:
    """Voices that the threshold would join stay two where windows show two, unless too near."""
    rng = np.random.default_rng(0)
    centres = np.zeros((2, 32))
    centres[:, 0] = 1.0, np.cos(angle)
    centres[1, 1] = np.sin(angle)
    # Twenty windows hold one of them; the windows that hold both are heard too briefly to found.
    truth, windows = np.arange(44) % 2, np.append(np.arange(40), [40, 40, 41, 41])
    embeddings = centres[truth] + 0.02 * rng.standard_normal((44, 32))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    heard = embeddings, windows, np.append(np.full(40, 2.0), np.full(4, 0.9))
    evidence = {"evident_s": 0.8, "evident_share": 2 / 42, "evident_threshold": 0.25}
    assert speakers_of(cluster(*heard, options(least_s=1.0))) == 2 - 1
    found = cluster(*heard, options(least_s=1.0, **evidence))
    assert speakers_of(found) == expected
    if expected == 2:
        assert same_partition(found.labels, truth)
    assert speakers_of(cluster(*heard, options(least_s=1.0, **evidence), max_speakers=1)) == 1
