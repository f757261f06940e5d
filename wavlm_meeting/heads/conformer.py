"""The Conformer encoder (Gulati et al., Interspeech 2020): attention and convolution over time.

B batch, T frames, C channels, H heads.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Conformer(nn.Module):
    """A stack of Conformer blocks without positions (B, T, C) -> (B, T, C).

    What reads a WavLM knows from its hidden states where a frame lies; the convolutions of
    `kernel` frames see its neighbours.
    """

    def __init__(
        self, layers: int, width: int, *, heads: int = 4, ffn: int = 1024, kernel: int = 31
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ConformerBlock(width, heads, ffn, kernel) for _ in range(layers)
        )

    def forward(self, x: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Encode `x` (B, T, C); what lies past `frame_lengths` (B,) is not looked at."""
        heard = None
        if frame_lengths is not None:
            frames = torch.arange(x.shape[1], device=x.device)
            heard = frames < frame_lengths[:, None]  # (B, T)
        for block in self.blocks:
            x = block(x, heard)
        return x


class ConformerBlock(nn.Module):
    """Half a feed-forward step, attention, convolution, half a step, norm (section 2.4)."""

    def __init__(self, width: int, heads: int, ffn: int, kernel: int) -> None:
        super().__init__()
        self.first = FeedForward(width, ffn)
        self.attention = SelfAttention(width, heads)
        self.convolution = Convolution(width, kernel)
        self.second = FeedForward(width, ffn)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, heard: Tensor | None = None) -> Tensor:
        """Encode `x` (B, T, C); `heard` (B, T) says which frames there are, None all."""
        x = x + 0.5 * self.first(x)
        x = x + self.attention(x, heard)
        x = x + self.convolution(x, heard)
        x = x + 0.5 * self.second(x)
        normed: Tensor = self.norm(x)
        return normed


class FeedForward(nn.Module):
    """Two linear layers with Swish in between (figure 4)."""

    def __init__(self, width: int, ffn: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, ffn)
        self.output = nn.Linear(ffn, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the step (B, T, C)."""
        step: Tensor = self.output(F.silu(self.hidden(self.norm(x))))
        return step


class SelfAttention(nn.Module):
    """Scaled dot-product attention over time, normalised before (figure 3)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, heard: Tensor | None = None) -> Tensor:
        """Return the step (B, T, C)."""
        x = self.norm(x)
        query, key, value = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, H, T, C / H)
            for layer in (self.query, self.key, self.value)
        )
        mask = None if heard is None else heard[:, None, None]
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        step: Tensor = self.output(mixed.transpose(1, 2).flatten(2))
        return step


class Convolution(nn.Module):
    """A gated pointwise, a depthwise and another pointwise convolution (figure 2)."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.gated = nn.Linear(width, 2 * width)
        self.depthwise = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width)
        self.batch_norm = nn.BatchNorm1d(width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor, heard: Tensor | None = None) -> Tensor:
        """Return the step (B, T, C)."""
        x = F.glu(self.gated(self.norm(x)), dim=-1)
        if heard is not None:
            x = x.masked_fill(~heard[..., None], 0.0)
        x = self.batch_norm(self.depthwise(x.transpose(1, 2))).transpose(1, 2)
        step: Tensor = self.output(F.silu(x))
        return step
