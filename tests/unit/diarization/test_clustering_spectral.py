"""Spectral clustering: scikit-learn's groups on clean data, the count by the gap, cannot-links."""

import numpy as np
import pytest
from sklearn.cluster import SpectralClustering

from drawn_voices import draw_voices, same_partition
from wavlm_meeting.diarization.agglomerative import Groups
from wavlm_meeting.diarization.spectral import spectral


@pytest.mark.parametrize("speakers", [2, 4, 9])
def test_clean_voices_are_grouped_as_scikit_learn_does(speakers: int) -> None:
    """With the count given; without it, the gap between eigenvalues finds the same."""
    drawn = draw_voices(speakers, 60, noise=0.6)
    cosines = drawn.embeddings @ drawn.embeddings.T
    affinity = np.exp(-0.5 * ((1 - cosines) / 0.3) ** 2)
    reference = SpectralClustering(speakers, affinity="precomputed", random_state=0)
    expected = reference.fit_predict(affinity)
    groups = Groups.single(drawn.embeddings, np.arange(120))
    given = spectral(groups, 0.3, 1.0, speakers, speakers)
    assert same_partition(given, expected)
    assert same_partition(spectral(groups, 0.3, 1.0, 1, 120), expected)


def test_rings_that_no_average_tells_apart() -> None:
    """Voices that change along a path are followed by their neighbours, as only this does."""
    turn = np.linspace(0, np.pi, 60)
    flat = np.zeros(60)
    first = np.stack([np.cos(turn), np.sin(turn), flat, flat], axis=1)
    second = np.stack([flat, flat, np.cos(turn), np.sin(turn)], axis=1)
    groups = Groups.single(np.concatenate([first, second]), np.arange(120))
    found = spectral(groups, 0.05, 0.1, 2, 2)
    assert same_partition(found, np.repeat([0, 1], 60))


@pytest.mark.parametrize("wanted", [1, 2, 7, 60])
def test_bounds_are_kept_on_noise(wanted: int) -> None:
    """As many groups come out as are wanted, up to one for each."""
    drawn = draw_voices(3, 30, noise=5.0)
    groups = Groups.single(drawn.embeddings, drawn.windows)
    labels = spectral(groups, 0.3, 0.5, wanted, wanted)
    assert labels.max() + 1 == wanted
    assert 2 <= spectral(groups, 0.3, 0.5, 2, 3).max() + 1 <= 3
