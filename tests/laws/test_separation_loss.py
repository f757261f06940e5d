"""Laws of separation's objective: order, level and silence."""

from collections.abc import Callable

import pytest
import torch

pytest.importorskip("asteroid", reason="training needs the extra 'train'")

from wavlm_meeting.separation.loss import magnitude_losses, sdr_losses

Losses = Callable[..., tuple[torch.Tensor, torch.Tensor]]
BOTH = pytest.mark.parametrize("losses", [magnitude_losses, sdr_losses])


def spectra(seed: int = 0) -> tuple[torch.Tensor, ...]:
    """Give masks and spectra of mixture, talkers and noise."""
    torch.manual_seed(seed)
    images = torch.randn(4, 2, 6, 5, dtype=torch.complex128)
    noise = 0.1 * torch.randn(4, 6, 5, dtype=torch.complex128)
    masks = torch.rand(4, 3, 6, 5, dtype=torch.float64)
    return masks, images.sum(dim=1) + noise, images, noise


@BOTH
def test_the_order_of_talkers_is_free(losses: Losses) -> None:
    """Exchanging masks, or references, of some windows changes nothing."""
    masks, mixture, images, noise = spectra()
    found = losses(masks, mixture, images, noise)
    images[1:3] = images[1:3].flip(1)
    masks[2:] = masks[2:][:, [1, 0, 2]]
    for one, other in zip(found, losses(masks, mixture, images, noise), strict=True):
        torch.testing.assert_close(one, other)


@BOTH
def test_the_level_of_a_window_is_free(losses: Losses) -> None:
    """Every window counts the same, however loud it is."""
    masks, mixture, images, noise = spectra()
    found = losses(masks, mixture, images, noise)
    level = torch.tensor([1.0, 1e-3, 30.0, 0.2], dtype=torch.float64)[:, None, None]
    louder = losses(masks, level * mixture, level[:, None] * images, level * noise)
    for one, other in zip(found, louder, strict=True):
        torch.testing.assert_close(one, other)


@BOTH
def test_the_truth_is_the_least(losses: Losses) -> None:
    """Where talkers share no frame, their places are the best masks: no others are better."""
    _, mixture, images, noise = spectra()
    own = (torch.arange(6) < 3).double()[:, None].expand(6, 5)
    images = images * torch.stack([own, 1 - own])
    mixture, noise = images.sum(dim=1), torch.zeros_like(noise)
    masks = torch.stack([own, 1 - own, torch.zeros_like(own)]).expand(4, 3, 6, 5)
    best = losses(masks, mixture, images, noise)
    for seed in range(5):
        torch.manual_seed(seed)
        near = (masks + 0.1 * torch.randn_like(masks)).clamp(0, 1)
        for least, other in zip(best, losses(near, mixture, images, noise), strict=True):
            assert least < other


@BOTH
def test_gradients_are_those_of_differences(losses: Losses) -> None:
    """Masks learn what the formula says, with a silent talker among the references too."""
    masks, mixture, images, noise = spectra()
    images[0, 1] = 0
    masks = (0.2 + 0.6 * masks).requires_grad_()
    assert torch.autograd.gradcheck(lambda m: sum(losses(m, mixture, images, noise)), masks)


@BOTH
def test_silence_is_finite(losses: Losses) -> None:
    """A window in which nothing sounds has a loss and gradients that are numbers."""
    masks, mixture, images, noise = (each.to(torch.complex64) for each in spectra())
    masks = masks.real.clone().requires_grad_()
    talkers, of_noise = losses(masks, 0 * mixture, 0 * images, 0 * noise)
    (talkers + of_noise).backward()
    assert talkers.isfinite()
    assert masks.grad is not None
    assert masks.grad.isfinite().all()
