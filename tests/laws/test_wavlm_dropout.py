"""Dropout by cheap bits does what dropout does."""

import math

import pytest
import torch

from wavlm_meeting.wavlm.dropout import draw_kept, dropout, kept_share

DRAWN = 200_001


@pytest.mark.parametrize("probability", [0.05, 0.1, 0.5, 0.9])
def test_share_of_zeros_is_the_probability(probability: float) -> None:
    """Within five standard deviations, also of neighbours, which share a drawn number."""
    torch.manual_seed(0)
    kept = draw_kept(torch.Size((DRAWN,)), probability, torch.device("cpu"))
    assert set(kept.unique().tolist()) == {0, 1}
    dropped = 1 - kept
    pairs = dropped.unfold(0, 2, 1).prod(dim=1)
    for zeros, expected in ((dropped, probability), (pairs, probability**2)):
        spread = 5 * math.sqrt(2 * expected / len(zeros))
        assert abs(float(zeros.double().mean()) - expected) < spread


def test_a_generator_repeats() -> None:
    """The same seed draws the same entries, another one others."""
    drawn = [
        draw_kept(torch.Size((3, 101)), 0.5, torch.device("cpu"), torch.Generator().manual_seed(n))
        for n in (1, 1, 2)
    ]
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_what_is_kept_is_scaled_and_so_is_its_gradient(dtype: torch.dtype) -> None:
    """An entry is 0 or itself over the share that is kept, and its gradient 0 or 1 over it."""
    torch.manual_seed(0)
    x = (torch.rand(1_000, dtype=dtype) + 1).requires_grad_()
    out = dropout(x, 0.3)
    assert out.dtype == dtype
    (gradient,) = torch.autograd.grad(out.sum(), x)
    kept = out != 0
    scale = torch.tensor(1 / kept_share(0.3), dtype=dtype)
    assert torch.equal(gradient, kept * scale)
    torch.testing.assert_close(out, x * kept * scale)


def test_nothing_is_dropped_outside_of_training() -> None:
    """Nor with a probability of 0: the very tensor comes back."""
    x = torch.randn(5)
    assert torch.equal(dropout(x, 0.5, training=False), x)
    assert torch.equal(dropout(x, 0.0), x)
