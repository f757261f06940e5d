"""Linear maps followed by GELU, where halves on a CPU need care.

On CPU PyTorch's GELU takes about three times as long in bfloat16 as in float32. oneDNN applies it
to the accumulators of the product instead; where it cannot, GELU runs in float32.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def gelu_linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Return GELU(x weight^T + bias), x (..., C), weight (C', C)."""
    if x.device.type == "cpu" and x.dtype in (torch.bfloat16, torch.float16):
        # Under autocast the weights are still float32, which oneDNN does not mix with halves.
        if onednn_computes(x) and weight.dtype == x.dtype:
            fused: Tensor = torch.ops.mkldnn._linear_pointwise(  # noqa: SLF001 - only way to fuse
                x, weight, bias, "gelu", [], "none"
            )
            return fused
        return F.gelu(F.linear(x, weight, bias).float()).to(x.dtype)
    return F.gelu(F.linear(x, weight, bias))


def onednn_computes(x: Tensor) -> bool:
    """Tell whether oneDNN has fast products of this half here; it is asked for inference alone."""
    kind = {torch.bfloat16: "bf16", torch.float16: "fp16"}.get(x.dtype)
    if kind is None or x.device.type != "cpu" or torch.is_grad_enabled():
        return False
    supported = getattr(torch.ops.mkldnn, f"_is_mkldnn_{kind}_supported", None)
    return (
        supported is not None
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and bool(supported())
    )
