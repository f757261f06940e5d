"""Linear maps and GELU, where halves on a CPU need care.

On CPU PyTorch's GELU takes about three times as long in bfloat16 as in float32. Without gradients
oneDNN applies it to the accumulators of the product instead; else GELU runs in float32, over a part
at a time that stays in a core's cache.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

NORM_EPS = 1e-5
"""Added to every variance of a norm; the released code's value."""
PART = 1 << 17
"""Entries whose GELU is computed at a time: half a megabyte in float32."""


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return GELU(x weight^T + bias), x (..., C), weight (C', C)."""
    # Under autocast the weights are still float32, which oneDNN does not mix with halves.
    if onednn_multiplies(x) and weight.dtype == x.dtype and not torch.is_grad_enabled():
        fused: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - only way to fuse
            x, weight, bias, "gelu", [], "none"
        )
        return fused
    y = F.linear(x, weight, bias)
    if y.device.type == "cpu" and y.dtype in (torch.bfloat16, torch.float16):
        activated: Tensor = _HalfGelu.apply(y)
        return activated
    return F.gelu(y)


class _HalfGelu(torch.autograd.Function):
    """GELU of halves in float32, both ways; only the halves are kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        out = torch.empty_like(x)
        for entries, result in _parts(x, out):
            result.copy_(F.gelu(entries.float()))
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        d_x = torch.empty_like(x)
        for entries, gradient, result in _parts(x, d_out.contiguous(), d_x):
            result.copy_(torch.ops.aten.gelu_backward(gradient.float(), entries.float()))
        return d_x


def _parts(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Cut tensors of one shape, all contiguous, into views of a part each."""
    return zip(*(tensor.view(-1).split(PART) for tensor in tensors), strict=True)


def onednn_multiplies(x: Tensor) -> bool:
    """Tell whether oneDNN has fast products of this half here."""
    kind = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(x.dtype)
    if kind is None or x.device.type != "cpu":
        return False
    supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{kind}_supported", None)
    return (
        supported is not None
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and bool(supported())
    )
