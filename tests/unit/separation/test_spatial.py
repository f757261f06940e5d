"""Masks of several microphones against the slow, obvious form, and what they promise."""

import numpy as np
import pytest
import torch
from torch import Tensor

from wavlm_meeting.separation.spatial import (
    LEAST,
    LOADING,
    from_hermitian_parts,
    hermitian_parts,
    spatial_masks,
)

# B batch, C microphones, K sources, T frames, F bins


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Draw complex noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.complex64, generator=generator)


def draw_masks(*shape: int, seed: int = 1) -> Tensor:
    """Draw masks that sum to one over the dimension before the last two."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).softmax(dim=-3)


def slow_masks(spectra: np.ndarray, masks: np.ndarray, rounds: int) -> np.ndarray:
    """Fit the mixture of complex angular central Gaussians bin by bin and frame by frame."""
    microphones, frames, bins = spectra.shape
    found = np.zeros_like(masks)
    for f in range(bins):
        vectors = spectra[:, :, f].T / np.linalg.norm(spectra[:, :, f].T, axis=1, keepdims=True)
        prior = masks[:, :, f] + LEAST
        prior = prior / prior.sum(axis=0)
        shares, shapes = prior, [np.eye(microphones, dtype=np.complex128) for _ in prior]
        forms = np.ones_like(prior)
        for _ in range(rounds):
            for k, own in enumerate(shares):
                total = sum(
                    own[t] / forms[k, t] * np.outer(vectors[t], vectors[t].conj())
                    for t in range(frames)
                )
                total = microphones * total / np.trace(total).real
                shapes[k] = total + LOADING * np.eye(microphones)
            density = np.zeros_like(prior)
            for k, shape in enumerate(shapes):
                for t, vector in enumerate(vectors):
                    forms[k, t] = (vector.conj() @ np.linalg.solve(shape, vector)).real
                    density[k, t] = 1 / (np.linalg.det(shape).real * forms[k, t] ** microphones)
            shares = prior * density / (prior * density).sum(axis=0)
        found[:, :, f] = shares
    return found


@pytest.mark.parametrize("microphones", [2, 4])
def test_masks_are_those_of_the_formula(microphones: int) -> None:
    """Three rounds, for each bin and frame alone, in double precision."""
    spectra, masks = draw(microphones, 30, 3), draw_masks(3, 30, 3)
    slow = slow_masks(spectra.numpy().astype(np.complex128), masks.double().numpy(), 3)
    np.testing.assert_allclose(spatial_masks(spectra, masks, 3), slow, atol=1e-4)


def test_a_matrix_is_its_parts() -> None:
    """Parts give the matrix back, and their scalar product is the trace of the product."""
    first, second = (draw(2, 5, 5, seed=seed) for seed in (2, 3))
    first, second = first + first.mH, second + second.mH
    parts = [hermitian_parts(each.unsqueeze(-1)).squeeze(-1) for each in (first, second)]
    torch.testing.assert_close(from_hermitian_parts(parts[0]), first)
    traces = (first @ second).diagonal(dim1=-2, dim2=-1).sum(dim=-1).real
    torch.testing.assert_close((parts[0] * parts[1]).sum(dim=-1), traces)


def two_directions(microphones: int) -> tuple[Tensor, Tensor]:
    """Give spectra (C, T, F) of two sparse sources with a little noise, and which is louder."""
    talks = torch.rand(2, 200, 9, generator=torch.Generator().manual_seed(5)) < 0.4
    speech = draw(2, 200, 9, seed=4) * talks
    images = draw(2, microphones, 1, 9, seed=6) * speech[:, None]
    noise = 0.01 * draw(microphones, 200, 9, seed=7)
    power = torch.cat([images[:, 0], noise[:1]]).abs().square()
    return images.sum(dim=0) + noise, power / power.sum(dim=0)


@pytest.mark.parametrize("microphones", [2, 7])
def test_poor_masks_become_good_ones(microphones: int) -> None:
    """Masks that are half noise are brought three times as near to the right ones."""
    spectra, right = two_directions(microphones)
    poor = 0.5 * right + 0.5 * draw_masks(3, 200, 9)
    found = spatial_masks(spectra, poor)
    assert (found - right).abs().mean() < (poor - right).abs().mean() / 3


def test_the_order_of_sources_is_that_of_the_masks() -> None:
    """In every bin: other masks of the same sound, other order."""
    spectra, right = two_directions(4)
    order = [1, 0, 2]
    found = spatial_masks(spectra, right[order])
    torch.testing.assert_close(found, spatial_masks(spectra, right)[order])


def test_masks_sum_to_one_whatever_is_heard() -> None:
    """Speech, whisper, silence, one sound at all microphones, and windows of a batch alike."""
    masks = draw_masks(3, 40, 9)
    same = draw(1, 40, 9).expand(3, -1, -1)
    for spectra in (draw(3, 40, 9), 1e-5 * draw(3, 40, 9), torch.zeros_like(same), same):
        found = spatial_masks(spectra, masks)
        torch.testing.assert_close(found.sum(dim=0), torch.ones(40, 9))
    twice = torch.stack([draw(3, 40, 9, seed=8), draw(3, 40, 9)])
    batch = spatial_masks(twice, torch.stack([masks, masks]))
    torch.testing.assert_close(batch[1], spatial_masks(twice[1], masks), atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(
        spatial_masks(1e-3 * twice[1], masks), batch[1], atol=1e-3, rtol=1e-3
    )


def test_nothing_is_decided_where_directions_say_nothing() -> None:
    """One sound at all microphones leaves the masks as they are."""
    masks = draw_masks(3, 40, 9)
    prior = (masks + LEAST) / (masks + LEAST).sum(dim=0)
    found = spatial_masks(draw(1, 40, 9).expand(3, -1, -1), masks)
    torch.testing.assert_close(found, prior, atol=1e-3, rtol=1e-3)
