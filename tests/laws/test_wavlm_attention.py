"""Every way to compute the gated attention equals the slow, obvious formula; so do gradients."""

import math
import shutil

import pytest
import torch
from torch import Tensor

from wavlm_meeting.wavlm import blockwise
from wavlm_meeting.wavlm.attention import dense_attention
from wavlm_meeting.wavlm.blockwise import blockwise_attention
from wavlm_meeting.wavlm.flex import flex_biased_attention
from wavlm_meeting.wavlm.position import relative_buckets, toeplitz_table

BATCH, FRAMES, HEADS, HEAD_SIZE = 3, 37, 4, 8
LENGTHS = [37, 20, 1]


def obvious_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor,
    toeplitz: Tensor,
    lengths: list[int],
) -> Tensor:
    """Loop over utterances and heads and write the whole bias out, entry by entry."""
    frames = query.shape[1]
    offsets = torch.arange(frames) - torch.arange(frames)[:, None]
    out = torch.zeros_like(query)
    for b, length in enumerate(lengths):
        for h in range(query.shape[2]):
            bias = gate[b, :, h, None] * toeplitz[h, offsets + frames - 1]
            scores = query[b, :, h] @ key[b, :, h].T / math.sqrt(query.shape[3]) + bias
            weights = torch.softmax(scores[:, :length], dim=1)
            out[b, :, h] = weights @ value[b, :length, h]
    return out


def draw_inputs(frames: int = FRAMES, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Draw query, key, value, gate and Toeplitz table."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(BATCH, frames, HEADS, HEAD_SIZE)] * 3
    shapes += [(BATCH, frames, HEADS), (HEADS, 2 * frames - 1)]
    return [
        torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes
    ]


def valid_frames(out: Tensor, lengths: list[int]) -> Tensor:
    """Put the valid frames of all utterances one after the other."""
    return torch.cat([out[b, :length] for b, length in enumerate(lengths)])


@pytest.fixture(params=[1, 5, 64])
def rows(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Force blocks of some size, among them ones that do not divide the frames."""
    monkeypatch.setattr(blockwise, "MAX_ROWS", request.param)
    return int(request.param)


@pytest.mark.usefixtures("rows")
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_blockwise_equals_the_formula(lengths: list[int] | None) -> None:
    """Outputs and the gradients of all five inputs, with and without padding."""
    inputs = draw_inputs()
    ours = valid_frames(blockwise_attention(*inputs, lengths), lengths or [FRAMES] * BATCH)
    slow = obvious_attention(*inputs, lengths or [FRAMES] * BATCH)
    slow = valid_frames(slow, lengths or [FRAMES] * BATCH)
    torch.testing.assert_close(ours, slow)
    direction = torch.randn(ours.shape, dtype=ours.dtype)
    for mine, theirs in zip(
        torch.autograd.grad(ours, inputs, direction),
        torch.autograd.grad(slow, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_dense_equals_the_formula(lengths: list[int] | None) -> None:
    """Outputs and the gradients of all five inputs, with and without padding."""
    inputs = draw_inputs()
    valid = lengths or [FRAMES] * BATCH
    counts = None if lengths is None else torch.tensor(lengths)
    ours = valid_frames(dense_attention(*inputs, counts), valid)
    slow = valid_frames(obvious_attention(*inputs, valid), valid)
    torch.testing.assert_close(ours, slow)
    direction = torch.randn(ours.shape, dtype=ours.dtype)
    for mine, theirs in zip(
        torch.autograd.grad(ours, inputs, direction),
        torch.autograd.grad(slow, inputs, direction),
        strict=True,
    ):
        torch.testing.assert_close(mine, theirs)


@pytest.mark.skipif(shutil.which("g++") is None, reason="FlexAttention needs a C++ compiler")
def test_flex_equals_the_formula() -> None:
    """Compiled for the CPU, with padding."""
    inputs = [tensor.detach() for tensor in draw_inputs(dtype=torch.float32)]
    with torch.no_grad():
        ours = flex_biased_attention(*inputs, torch.tensor(LENGTHS))
    slow = obvious_attention(*inputs, LENGTHS)
    torch.testing.assert_close(valid_frames(ours, LENGTHS), valid_frames(slow, LENGTHS))


def test_blockwise_dropout_is_the_same_in_both_passes() -> None:
    """The gradient under dropout is that of the very function that ran forward."""
    inputs = [tensor[:1, :6].detach().requires_grad_() for tensor in draw_inputs(6)[:4]]
    inputs.append(draw_inputs(6)[4])

    def dropped(*tensors: Tensor) -> Tensor:
        torch.manual_seed(5)
        return blockwise_attention(*tensors, dropout=0.3)

    assert torch.autograd.gradcheck(dropped, inputs, fast_mode=True)


def test_bfloat16_gradients_follow_the_formula() -> None:
    """With products in halves all five gradients point where float64's do."""
    inputs = draw_inputs()
    halves = [tensor.detach().bfloat16().requires_grad_() for tensor in inputs]
    direction = torch.randn(inputs[0].shape, dtype=torch.float64)
    found = torch.autograd.grad(blockwise_attention(*halves), halves, direction.bfloat16())
    slow = obvious_attention(*inputs, [FRAMES] * BATCH)
    for mine, theirs in zip(found, torch.autograd.grad(slow, inputs, direction), strict=True):
        cosine = torch.cosine_similarity(mine.double().flatten(), theirs.flatten(), dim=0)
        assert cosine > 0.999


def test_dropout_keeps_the_mean() -> None:
    """Averaged over many draws, attention with dropout is attention."""
    inputs = [tensor.detach() for tensor in draw_inputs()]
    torch.manual_seed(0)
    mean = sum(blockwise_attention(*inputs, dropout=0.2) for _ in range(100)) / 100
    error = (mean - blockwise_attention(*inputs)).abs().mean()
    assert error < 0.1 * inputs[2].abs().mean()


def test_far_offsets_share_a_bucket_on_each_side() -> None:
    """From the maximum distance on the bias is flat, and the two sides differ."""
    table = torch.randn(320, HEADS)
    toeplitz = toeplitz_table(table, 1001, 800)
    assert torch.equal(toeplitz[:, :201], table[159][:, None].expand(-1, 201))
    assert torch.equal(toeplitz[:, -201:], table[319][:, None].expand(-1, 201))
    assert torch.equal(toeplitz[:, 1000], table[0])


def test_buckets_follow_the_definition() -> None:
    """Small offsets have a bucket each; the others follow the logarithm, never stepping back."""
    offsets = torch.arange(-900, 901)
    buckets = relative_buckets(offsets, 320, 800)
    near = offsets.abs() < 80
    expected = offsets.abs() + 160 * (offsets > 0)
    assert torch.equal(buckets[near], expected[near])
    for distance in (100, 150, 300, 700):
        exact = 80 + int(math.log(distance / 80) / math.log(800 / 80) * 80)
        assert buckets[900 - distance] == exact
        assert buckets[900 + distance] == exact + 160
    assert (buckets[901:].diff() >= 0).all()
    assert buckets.max() == 319


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("method", [blockwise_attention, dense_attention])
def test_huge_logits_stay_finite_in_halves(dtype: torch.dtype, method: object) -> None:
    """Scores of 1e6, beyond float16, give finite outputs and gradients."""
    inputs = [
        (tensor.detach() * scale).to(dtype).requires_grad_()
        for tensor, scale in zip(draw_inputs(), (500, 500, 1, 30, 30), strict=True)
    ]
    out = method(*inputs)
    with torch.no_grad():
        assert method(*inputs).isfinite().all()
    assert out.dtype == dtype
    assert out.isfinite().all()
    for gradient in torch.autograd.grad(out.float().square().sum(), inputs):
        assert gradient.isfinite().all()
