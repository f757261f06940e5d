"""Attention with the gated bias by PyTorch's FlexAttention: one compiled kernel, no bias tensor.

B batch, T frames, H heads, E head size.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention


@cache
def _compiled() -> Any:
    """Compile once; the shapes may vary."""
    return torch.compile(flex_attention, dynamic=True)


def flex_biased_attention(  # noqa: PLR0913 - the arguments of attention
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor,
    toeplitz: Tensor,
    lengths: Tensor | None = None,
) -> Tensor:
    """Attend as `blockwise_attention` does, without dropout; `lengths` is (B,) here.

    On CPU PyTorch compiles this for inference only.
    """
    last = query.shape[1] - 1
    gates = gate.transpose(1, 2).contiguous()  # (B, H, T)

    def biased(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        return score + gates[b, h, i] * toeplitz[h, j - i + last]

    def masked(score: Tensor, b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
        if lengths is None:
            raise AssertionError
        return torch.where(j < lengths[b], biased(score, b, h, i, j), -torch.inf)

    attended: Tensor = _compiled()(
        query.transpose(1, 2),
        key.transpose(1, 2),
        value.transpose(1, 2),
        score_mod=biased if lengths is None else masked,
    )
    return attended.transpose(1, 2)
