"""Self-attention with WavLM's gated relative position bias.

    bias[b, h, i, j] = gate[b, i, h] * toeplitz[h, j - i + T - 1]
    gate[b, i, h] = a * (b * w_h - 1) + 2      a, b = sigmoid(sums of Linear(input of head h at i))

B batch, T frames, D width, H heads, E head size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavlm_meeting.wavlm.blockwise import blockwise_attention
from wavlm_meeting.wavlm.flex import flex_biased_attention

Method = Literal["dense", "blockwise", "flex"]
Attention = Literal["auto", "dense", "blockwise", "flex"]

DENSE_FRAMES = 1024
"""Up to here (20 s) a GPU takes the dense bias: by its size, not yet by a measurement."""


@dataclass(frozen=True)
class Context:
    """What the attention of all layers shares in one pass."""

    toeplitz: Tensor | None
    """(H, 2 T - 1): position bias of the offsets -(T - 1) .. T - 1, key minus query, if any."""
    lengths: Tensor
    """(B,): frames that may be attended."""
    length_list: list[int]
    """The same on the host."""
    padded: bool
    """Whether any frame may not."""
    method: Method


def choose_attention(attention: Attention, frames: int, device: torch.device) -> Method:
    """Resolve "auto".

    A CPU works blockwise at every length: measured, it beats both others there. A GPU takes the
    dense bias up to 20 s and FlexAttention beyond, or blocks where nothing can compile it.
    FlexAttention is for inference: it knows no dropout, its gradients into a captured bias are
    wrong under some compilations (PyTorch issue 162228), and on CPU it compiles none. With
    gradients "flex" works blockwise.
    """
    if attention != "auto":
        return attention
    if device.type != "cuda":
        return "blockwise"
    if frames <= DENSE_FRAMES:
        return "dense"
    return "flex" if find_spec("triton") else "blockwise"


def dense_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    gate: Tensor,
    toeplitz: Tensor,
    lengths: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Attend as `blockwise_attention` does, with the bias written out; `lengths` is (B,) here."""
    frames = query.shape[1]
    spread = toeplitz.unfold(1, frames, 1).flip(1)  # (H, T, T)
    bias = (gate.transpose(1, 2)[..., None] * spread).to(query.dtype)
    if lengths is not None:
        bias = bias.masked_fill(~_attendable(frames, lengths), -torch.inf)
    return _attend(query, key, value, bias, dropout)


def unbiased_attention(
    query: Tensor, key: Tensor, value: Tensor, lengths: Tensor | None = None, dropout: float = 0.0
) -> Tensor:
    """Attend within (B, T, H, E) without any bias, to the frames before `lengths` (B,)."""
    mask = None if lengths is None else _attendable(query.shape[1], lengths)
    return _attend(query, key, value, mask, dropout)


def _attendable(frames: int, lengths: Tensor) -> Tensor:
    """Return (B, 1, 1, T), true where a key is before its utterance's length."""
    return torch.arange(frames, device=lengths.device) < lengths[:, None, None, None]


def _attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, p: float) -> Tensor:
    attended = F.scaled_dot_product_attention(
        query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2), mask, p
    )
    return attended.transpose(1, 2)


class SelfAttention(nn.Module):
    """Multi-head self-attention whose bias, if any, may be gated by the layer's input.

    Of its `heads` those that are `kept` are there; the input and the bias are cut as for all.
    """

    kept: Tensor | None

    def __init__(
        self,
        width: int,
        heads: int,
        dropout: float,
        *,
        gated: bool = True,
        kept: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.head_width = heads, width // heads
        self.dropout, self.gated = dropout, gated
        count = heads if kept is None else len(kept)
        inner = count * self.head_width
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(width, inner)
        self.value = nn.Linear(width, inner)
        self.output = nn.Linear(inner, width)
        if gated:
            self.gate = nn.Linear(self.head_width, 8)
            self.gate_scale = nn.Parameter(torch.ones(count))
        places = None if count == heads or kept is None else torch.tensor(kept)
        self.register_buffer("kept", places, persistent=False)

    def forward(self, x: Tensor, context: Context) -> Tensor:
        """Attend within (B, T, D)."""
        query, key, value = (
            linear(x).unflatten(2, (-1, self.head_width))
            for linear in (self.query, self.key, self.value)
        )
        dropout = self.dropout if self.training else 0.0
        lengths = context.lengths if context.padded else None
        if context.toeplitz is None:
            attended = unbiased_attention(query, key, value, lengths, dropout)
            return self._project(attended)
        gate = self.gates(x) if self.gated else query.new_ones(query.shape[:3])
        toeplitz = context.toeplitz if self.kept is None else context.toeplitz[self.kept]
        arguments = (query, key, value, gate, toeplitz)
        if context.method == "dense":
            attended = dense_attention(*arguments, lengths, dropout)
        elif context.method == "flex" and not torch.is_grad_enabled():
            attended = flex_biased_attention(*arguments, context.lengths)
        else:
            attended = blockwise_attention(*arguments, context.length_list, dropout)
        return self._project(attended)

    def _project(self, attended: Tensor) -> Tensor:
        output: Tensor = self.output(attended.flatten(2))
        return output

    def gates(self, x: Tensor) -> Tensor:
        """Return the gates (B, T, H) that scale each query's position bias."""
        heads = x.view(*x.shape[:2], self.heads, -1)  # (B, T, H, E)
        if self.kept is not None:
            heads = heads[:, :, self.kept]
        # The 8 outputs are only used as two sums of 4: sum the weights instead.
        weight = self.gate.weight.view(2, 4, -1).sum(dim=1)
        bias = self.gate.bias.view(2, 4).sum(dim=1)
        a, b = torch.sigmoid(F.linear(heads, weight, bias)).unbind(3)
        return a * (b * self.gate_scale - 1) + 2
