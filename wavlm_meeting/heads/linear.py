"""Linear maps by the faster of the two libraries that PyTorch brings.

On a CPU `F.linear` multiplies float32 with MKL, which leaves half of what AVX-512 can do unused on
processors that are not Intel's; oneDNN, behind PyTorch's convolutions, does not, and applies bias
and ReLU to its accumulators (docs/log.md). Without AVX-512 MKL is the faster one.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# B batch, T frames, C channels


class Linear(nn.Linear):
    """A linear map, with ReLU after it on request.

    Without gradients oneDNN keeps a copy of the weight in the order that it multiplies in.
    """

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        self._ordered: tuple[tuple[int, int], Tensor] | None = None

    def forward(self, x: Tensor, *, relu: bool = False) -> Tensor:
        """Map (..., C) to (..., C')."""
        if torch.is_grad_enabled() or self.weight.is_inference() or not onednn_is_faster(x):
            return linear(x, self.weight, self.bias, relu=relu)
        return _product(x, self._ordered_weight(), self.bias, "relu" if relu else "none")

    def _ordered_weight(self) -> Tensor:
        """Return the weight in oneDNN's order, made again where it has changed."""
        state = self.weight.data_ptr(), self.weight._version  # noqa: SLF001 - counts changes
        if self._ordered is None or self._ordered[0] != state:
            reorder = torch.ops.mkldnn._reorder_linear_weight  # noqa: SLF001 - nothing public does
            self._ordered = state, reorder(_dense(self.weight.detach()))
        return self._ordered[1]

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles make an order of their own."""
        return {**self.__dict__, "_ordered": None}


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None, *, relu: bool = False) -> Tensor:
    """Return x weight^T + bias, through ReLU if asked, for x (..., C) and weight (C', C)."""
    if onednn_is_faster(x):
        if not torch.is_grad_enabled():
            return _product(x, _dense(weight), bias, "relu" if relu else "none")
        mapped: Tensor = _Product.apply(x, weight, bias, relu)
        return mapped
    y = F.linear(x, weight, bias)
    return F.relu(y) if relu else y


def onednn_is_faster(x: Tensor) -> bool:
    """Tell whether oneDNN multiplies these numbers faster than what PyTorch takes by itself."""
    return (
        x.device.type == "cpu"
        and x.dtype == torch.float32
        and torch.backends.cpu.get_cpu_capability() == "AVX512"
        and torch.backends.mkldnn.is_available()
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and not torch.is_autocast_enabled("cpu")
    )


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, after: str = "none") -> Tensor:
    product: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - the only way to oneDNN
        _dense(x), weight, bias, after, [], ""
    )
    return product


def _dense(x: Tensor) -> Tensor:
    """Copy what is a part of something larger: oneDNN takes a thousand times as long for it."""
    return x if x.is_contiguous() or x.mT.is_contiguous() else x.contiguous()


class _Product(torch.autograd.Function):
    """`linear` by oneDNN, whose operation has no gradients of its own."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None, relu: bool) -> Tensor:
        y = _product(x, _dense(weight), bias, "relu" if relu else "none")
        ctx.save_for_backward(x, weight, y if relu else None)
        return y

    @staticmethod
    def backward(ctx: Any, d_y: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, active = ctx.saved_tensors
        if active is not None:
            d_y = torch.ops.aten.threshold_backward(d_y, active, 0)
        wanted = ctx.needs_input_grad
        d_x = _product(d_y, _dense(weight).t(), None) if wanted[0] else None
        rows = d_y.flatten(0, -2)
        d_weight = _product(rows.t(), _dense(x.flatten(0, -2)).t(), None) if wanted[1] else None
        return d_x, d_weight, rows.sum(dim=0) if wanted[2] else None, None
