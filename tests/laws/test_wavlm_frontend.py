"""The frontend and the positional convolution equal PyTorch's own convolutions and norms."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from wavlm_meeting.wavlm import convolution, moments, ops, tiling
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.fastconv import fast_conv3, fast_taps
from wavlm_meeting.wavlm.frontend import Frontend
from wavlm_meeting.wavlm.ops import gelu_linear
from wavlm_meeting.wavlm.position import PositionalConv
from wavlm_meeting.wavlm.tiling import tiled_frontend

CONV_LAYERS = ((32, 10, 5), *((32, 3, 2),) * 4, *((32, 2, 2),) * 2)


def obvious_frontend(frontend: Frontend, waveforms: Tensor) -> Tensor:
    """Run conv1d, group_norm or layer_norm, and gelu in float64 on (B, C, T)."""
    x = waveforms.double()[:, None]
    for layer in frontend.layers:
        x = F.conv1d(x, layer.conv.weight.double(), stride=layer.conv.stride)
        if layer.norm is not None:
            scale, shift = layer.norm.weight.double(), layer.norm.bias.double()
            if isinstance(layer.norm, torch.nn.LayerNorm):
                x = F.layer_norm(x.mT, scale.shape, scale, shift).mT
            else:
                x = F.group_norm(x, len(scale), scale, shift)
        x = F.gelu(x)
    return x.mT


@pytest.mark.parametrize("tile", [1, 6, 1000])
@pytest.mark.parametrize("offset", [0.0, 3.0])
@pytest.mark.parametrize("norm", ["group", "layer"])
def test_frontend_equals_float64_convolutions(
    norm: str, offset: float, tile: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whole or in tiles, and with a waveform whose mean hides its variance."""
    monkeypatch.setattr(tiling, "CPU_TILE", tile)
    monkeypatch.setattr(convolution, "ROWS", tile)
    monkeypatch.setattr(moments, "MOMENT_ROWS", 257)
    torch.manual_seed(0)
    frontend = Frontend(WavLMConfig(conv_layers=CONV_LAYERS, frontend_norm=norm))
    waveforms = torch.randn(2, 9_000) * 0.05 + offset
    with torch.no_grad():
        reference = obvious_frontend(frontend, waveforms)
        whole = frontend(waveforms, None)
        tiled = tiled_frontend(frontend, waveforms, None)
    tolerance = {"atol": 1e-4 if offset == 0 else 3e-3, "rtol": 1e-4}
    torch.testing.assert_close(whole.double(), reference, **tolerance)
    torch.testing.assert_close(tiled.double(), reference, **tolerance)


OVERLAPS = (
    CONV_LAYERS,
    ((32, 10, 5), (24, 5, 2), (16, 3, 4), (8, 2, 2)),  # more than two pieces, and gaps
    ((16, 400, 160), (8, 4, 4)),
)
"""Convolutions whose windows overlap, touch and leave gaps."""


@pytest.mark.parametrize("rows", [3, 1000])
@pytest.mark.parametrize("norm", ["group", "layer"])
@pytest.mark.parametrize("layers", OVERLAPS, ids=range(len(OVERLAPS)))
def test_frontend_gradients_are_those_of_float64_convolutions(
    layers: tuple[tuple[int, int, int], ...],
    norm: str,
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Of the waveform and every parameter, whatever the tiles and however windows overlap."""
    monkeypatch.setattr(convolution, "ROWS", rows)
    torch.manual_seed(0)
    frontend = Frontend(WavLMConfig(conv_layers=layers, frontend_norm=norm))
    for name, parameter in frontend.named_parameters():
        if "norm" in name:
            torch.nn.init.normal_(parameter, mean=0.5, std=0.3)
    waveforms = (torch.randn(2, 4_001) * 0.5 + 0.1).requires_grad_()
    inputs = [waveforms, *frontend.parameters()]
    ours = frontend(waveforms, None)
    reference = obvious_frontend(frontend, waveforms)
    direction = torch.randn(ours.shape)
    found = torch.autograd.grad(ours, inputs, direction)
    expected = torch.autograd.grad(reference, inputs, direction.double())
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-3 * float(theirs.std()), rtol=1e-3)


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_frontend_gradients_under_autocast(norm: str) -> None:
    """In bfloat16 every gradient points where float32's does."""
    torch.manual_seed(0)
    frontend = Frontend(WavLMConfig(conv_layers=CONV_LAYERS, frontend_norm=norm))
    waveforms = torch.randn(2, 9_000)
    exact = frontend(waveforms, None)
    with torch.autocast("cpu", torch.bfloat16):
        rough = frontend(waveforms, None)
    assert rough.dtype == torch.bfloat16
    direction = torch.randn(exact.shape)
    inputs = list(frontend.parameters())
    found = torch.autograd.grad(rough, inputs, direction.bfloat16())
    for mine, theirs in zip(found, torch.autograd.grad(exact, inputs, direction), strict=True):
        assert mine.dtype == theirs.dtype
        assert torch.cosine_similarity(mine.flatten(), theirs.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("frames", [3, 4, 5, 6, 7, 8, 9, 100])
def test_fast_convolution_equals_conv1d(frames: int) -> None:
    """Five products do what six do, for odd and even numbers of frames."""
    torch.manual_seed(0)
    x, weight = torch.randn(frames, 8).double(), torch.randn(6, 8, 3).double()
    ours = fast_conv3(x, fast_taps(weight))
    torch.testing.assert_close(ours, F.conv1d(x.T[None], weight, stride=2)[0].T)


@pytest.mark.parametrize("kernel", [128, 16, 7])
@pytest.mark.parametrize("frames", [1, 5, 130, 400])
def test_position_equals_grouped_convolution(kernel: int, frames: int) -> None:
    """By FFT as by weight-normed conv1d, output and weight gradients, for even and odd kernels."""
    torch.manual_seed(0)
    ours = PositionalConv(24, kernel, 4)
    torch.nn.init.normal_(ours.bias)
    theirs = torch.nn.Conv1d(24, 24, kernel, padding=kernel // 2, groups=4)
    torch.nn.utils.parametrizations.weight_norm(theirs, dim=2)
    theirs.load_state_dict(
        {
            "bias": ours.bias,
            "parametrizations.weight.original0": ours.weight_g,
            "parametrizations.weight.original1": ours.weight_v,
        }
    )
    x = torch.randn(2, frames, 24)
    expected = F.gelu(theirs(x.mT)[..., :frames]).mT
    result = ours(x)
    torch.testing.assert_close(result, expected, atol=1e-5, rtol=1e-4)
    result.square().sum().backward()
    expected.square().sum().backward()
    other = theirs.parametrizations.weight.original1.grad
    torch.testing.assert_close(ours.weight_v.grad, other, atol=1e-3, rtol=1e-3)


def test_position_follows_its_weights() -> None:
    """The kept spectrum is dropped when a weight changes in place or is replaced."""
    torch.manual_seed(0)
    position = PositionalConv(8, 4, 2)
    x = torch.randn(1, 20, 8)
    with torch.no_grad():
        before = position(x)
        position.weight_g.mul_(2)
        doubled = position(x)
        assert not torch.allclose(before, doubled)
        position.load_state_dict(PositionalConv(8, 4, 2).state_dict())
        loaded = position(x)
    torch.testing.assert_close(loaded, position(x).detach())


def test_position_trains_after_inference() -> None:
    """What is kept from a pass in inference mode serves a later one with gradients."""
    torch.manual_seed(0)
    position = PositionalConv(8, 5, 2)
    x = torch.randn(1, 20, 8)
    with torch.inference_mode():
        before = position(x)
    after = position(x)
    after.sum().backward()
    torch.testing.assert_close(after, before.clone())
    assert position.weight_v.grad.abs().max() > 0


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_gelu_gradient_in_halves(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Computed in parts, it is float32's gradient rounded once."""
    monkeypatch.setattr(ops, "PART", 10)
    torch.manual_seed(0)
    x = torch.randn(3, 16).to(dtype).requires_grad_()
    direction = torch.randn(3, 16).to(dtype)
    weight = torch.eye(16, dtype=dtype)
    (found,) = torch.autograd.grad(gelu_linear(x, weight), x, direction)
    wide = x.detach().float().requires_grad_()
    (expected,) = torch.autograd.grad(F.gelu(wide), wide, direction.float())
    torch.testing.assert_close(found, expected.to(dtype))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_gelu_linear_in_every_dtype(dtype: torch.dtype) -> None:
    """Fused or not, the result is GELU of the linear map within the dtype's precision."""
    torch.manual_seed(0)
    x, weight, bias = torch.randn(5, 7, 16), torch.randn(9, 16), torch.randn(9)
    with torch.no_grad():
        ours = gelu_linear(x.to(dtype), weight.to(dtype), bias.to(dtype))
    assert ours.dtype == dtype
    tolerance = 16 * torch.finfo(dtype).eps
    expected = F.gelu(F.linear(x, weight, bias))
    torch.testing.assert_close(ours.float(), expected, atol=tolerance, rtol=4 * tolerance)
