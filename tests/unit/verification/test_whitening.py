"""Whitening: what it does to variances, what it is worth, and that backends keep it."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from wavlm_meeting.scoring.verification import equal_error_rate
from wavlm_meeting.verification.backend import (
    BackendSettings,
    Voices,
    fit_backend,
    load_backend,
    plain_backend,
    save_backend,
)
from wavlm_meeting.verification.normalisation import unit_length
from wavlm_meeting.verification.whitening import fit_whitening

SIZE = 16
SPREADS = np.linspace(0.2, 3.0, SIZE)


def people(count: int, each: int, seed: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Draw voices whose channels differ along two directions more than all voices do."""
    rng = np.random.default_rng(seed)
    owner = np.arange(count).repeat(each)
    voices = rng.standard_normal((count, SIZE))[owner] + 0.3 * rng.standard_normal(
        (len(owner), SIZE)
    )
    voices[:, :2] += 3.0 * rng.standard_normal((len(owner), 2))
    return (voices + 1.0).astype(np.float32), owner


def test_full_strength_makes_variances_alike() -> None:
    """At strength 1 the largest variance is near the smallest, at 0 all stay as they were."""
    rng = np.random.default_rng(0)
    cohort = (rng.standard_normal((4000, SIZE)) * SPREADS + 2.0).astype(np.float32)
    ranges = []
    for strength in (0.0, 1.0):
        whitening = fit_whitening(cohort, strength)
        variances = ((cohort - whitening.mean) @ whitening.matrix).var(axis=0)
        ranges.append(variances.max() / variances.min())
    assert ranges[0] == pytest.approx(
        (cohort.var(axis=0).max() / cohort.var(axis=0).min()), rel=1e-3
    )
    assert ranges[1] < ranges[0] / 20


def test_the_result_does_not_turn_with_the_axes() -> None:
    """Cosines after whitening are the same in any orthogonal coordinates."""
    rng = np.random.default_rng(1)
    cohort = unit_length(people(200, 1, 2)[0])[0]
    turn = np.linalg.qr(rng.standard_normal((SIZE, SIZE)))[0].astype(np.float32)
    straight = fit_whitening(cohort, 0.5)(cohort[:9])
    turned = fit_whitening(cohort @ turn, 0.5)(cohort[:9] @ turn)
    np.testing.assert_allclose(straight @ straight.T, turned @ turned.T, atol=1e-4)


def test_channels_that_shift_all_voices_count_less() -> None:
    """Where channels dominate some directions, strangers are told apart better."""
    cohort = unit_length(people(400, 1, 3)[0])[0]
    embeddings, owner = people(60, 4, 4)
    first, second = np.triu_indices(len(owner), 1)
    pairs, targets = np.stack([first, second], axis=1), owner[first] == owner[second]
    rates = []
    for settings in (BackendSettings(top=50), BackendSettings(top=50, whitening=1.0)):
        backend = plain_backend("", cohort, settings)
        voices = backend.describe(Voices(embeddings, np.ones(len(owner))))
        rates.append(equal_error_rate(targets, backend.cosine(voices, voices, pairs)))
    assert rates[1] < 0.8 * rates[0]


def test_a_backend_keeps_its_whitening(tmp_path: Path) -> None:
    """Written and read, a backend gives the same scores to the last bit."""
    cohort = unit_length(people(300, 1, 5)[0])[0]
    embeddings, owner = people(20, 4, 6)
    voices = Voices(embeddings, np.linspace(1, 9, len(owner)))
    first, second = np.triu_indices(len(owner), 1)
    pairs, targets = np.stack([first, second], axis=1), owner[first] == owner[second]
    settings = BackendSettings(top=50, whitening=0.5)
    backend = fit_backend("b" * 64, cohort, voices, targets, pairs, settings)
    save_backend(tmp_path / "backend.safetensors", backend)
    again = load_backend(tmp_path / "backend.safetensors", "b" * 64)
    scores = []
    for each in (backend, again):
        described = each.describe(voices)
        scores.append(each.log_likelihood_ratio(described, described, pairs))
    np.testing.assert_array_equal(scores[0], scores[1])
    assert again.whitening is not None
