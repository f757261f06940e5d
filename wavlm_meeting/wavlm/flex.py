"""Attention with the gated bias by PyTorch's FlexAttention: one compiled kernel, no bias tensor.

B batch, T frames, H heads, E head size.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor


@cache
def _compiled(*, on_cpu: bool) -> Any:
    """Compile once for each shape on CPU; a GPU goes over to varying shapes by itself.

    On CPU, C++ made for varying shapes does not compile in torch 2.14 (undeclared split sizes).
    """
    # Importing it takes as long as the rest of PyTorch, and few inputs need it.
    from torch.nn.attention.flex_attention import flex_attention  # noqa: PLC0415

    return torch.compile(flex_attention, dynamic=False if on_cpu else None)


def flex_biased_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor,
    toeplitz: Tensor,
    lengths: Tensor,
) -> Tensor:
    """Attend as `blockwise_attention` does, without dropout; `lengths` is (B,) here.

    On CPU PyTorch compiles this for inference only.
    """
    last = query.shape[1] - 1
    gates = gate.transpose(1, 2).contiguous()  # (B, H, T)

    def biased(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        score = score + gates[b, h, i] * toeplitz[h, j - i + last]
        return torch.where(j < lengths[b], score, -torch.inf)

    attended: Tensor = _compiled(on_cpu=query.device.type == "cpu")(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        score_mod=biased,
    )
    return attended.transpose(1, 2)
