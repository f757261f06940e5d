"""VBx: its bound never falls, its sums are those over all paths, needless speakers vanish."""

from itertools import product

import numpy as np
import pytest

from drawn_voices import draw_voices, same_partition
from wavlm_meeting.diarization.vbx import SpeakerModel, forward_backward, infer

MODEL = SpeakerModel(cosine=0.7, acoustic_factor=0.3, speaker_factor=3.0, stay=0.3)


@pytest.mark.parametrize("stay", [0.0, 0.3, 0.9])
@pytest.mark.parametrize("noise", [0.5, 1.0, 5.0])
def test_the_bound_never_falls(noise: float, stay: float) -> None:
    """Each round raises the lower bound of the evidence, from a random start too."""
    drawn = draw_voices(4, 60, noise)
    start = np.random.default_rng(0).integers(9, size=120)
    model = SpeakerModel(0.6, 0.3, 3.0, stay)
    found = infer(drawn.embeddings, drawn.windows, start, model)
    bounds = np.array(found.bounds)
    assert len(bounds) > 2
    assert (np.diff(bounds) > -1e-6 * np.abs(bounds[1:])).all()
    assert np.allclose(found.speakers.sum(axis=1), 1.0, atol=1e-3)


def test_speakers_that_are_one_are_found_to_be_one() -> None:
    """Each voice is split in three at the start; what comes out is the voices."""
    drawn = draw_voices(4, 100)
    split = 3 * drawn.truth + np.random.default_rng(0).integers(3, size=200)
    found = infer(drawn.embeddings, drawn.windows, split, MODEL)
    assert same_partition(found.labels(), drawn.truth)


def test_speakers_that_differ_stay() -> None:
    """The true speakers at the start are still there at the end."""
    drawn = draw_voices(8, 100, noise=0.8)
    found = infer(drawn.embeddings, drawn.windows, drawn.truth, MODEL)
    assert same_partition(found.labels(), drawn.truth)


@pytest.mark.parametrize("stay", [(0.0, 0.6, 0.0, 0.6, 0.3), (0.0, 0.0, 0.0, 0.0, 0.0)])
def test_forward_and_backward_sum_over_all_paths(stay: tuple[float, ...]) -> None:
    """Posteriors, evidence and draws equal those of the list of all paths."""
    rng = np.random.default_rng(0)
    likelihoods, weights = rng.normal(size=(5, 3)), np.array([0.5, 0.3, 0.2])
    total, visits, draws = 0.0, np.zeros((5, 3)), np.zeros(3)
    # A path says for each embedding who speaks and whether that was drawn anew.
    for path in product(product(range(3), [True, False]), repeat=5):
        probability, last = 1.0, -1
        for n, (speaker, drawn) in enumerate(path):
            step = (1 - stay[n]) * weights[speaker] if drawn else stay[n] * (speaker == last)
            probability *= step * np.exp(likelihoods[n, speaker])
            last = speaker
        total += probability
        for n, (speaker, drawn) in enumerate(path):
            visits[n, speaker] += probability
            draws[speaker] += probability * drawn
    posterior, evidence, drawn_often = forward_backward(likelihoods, weights, np.array(stay))
    assert evidence == pytest.approx(np.log(total))
    assert np.allclose(posterior, visits / total)
    assert np.allclose(drawn_often, draws / total)


def test_the_model_is_the_one_that_is_described() -> None:
    """What is drawn from it has unit length and its cosine; no other start has a higher bound."""
    rng, size, truth = np.random.default_rng(0), 48, np.arange(300) % 4
    model = SpeakerModel(cosine=0.6, acoustic_factor=1.0, speaker_factor=1.0, stay=0.0)
    speakers = rng.standard_normal((4, size)) * np.sqrt(model.cosine / size)
    noise = rng.standard_normal((300, size)) * np.sqrt((1 - model.cosine) / size)
    drawn = speakers[truth] + noise
    assert np.sum(drawn**2) / 300 == pytest.approx(1.0, abs=0.1)
    same = np.equal.outer(truth, truth) & ~np.eye(300, dtype=bool)
    assert (drawn @ drawn.T)[same].mean() == pytest.approx(model.cosine, abs=0.1)
    best = infer(drawn, np.arange(300), truth, model)
    assert same_partition(best.labels(), truth)
    for start in (truth // 2, truth + 4 * rng.integers(2, size=300), 0 * truth):
        assert infer(drawn, np.arange(300), start, model).bounds[-1] < best.bounds[-1]
