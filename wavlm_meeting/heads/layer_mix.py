"""The softmax-weighted sum of hidden states through which every task reads the encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# B batch, T frames, C channels, L layers


class LayerMix(nn.Module):
    """Mix L+1 hidden states (B, T, C) into one by a softmax over learned weights.

    Source: WavLM paper (arXiv 2110.13900), section V, after SUPERB (arXiv 2105.01051).
    """

    def __init__(self, count: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(count))

    def forward(self, hidden_states: Sequence[Tensor]) -> Tensor:
        """Return the mix (B, T, C)."""
        shares = self.weights.softmax(dim=0)
        mix = shares[0] * hidden_states[0]
        for share, hidden in zip(shares[1:], hidden_states[1:], strict=True):
            mix = torch.addcmul(mix, share.to(hidden.dtype), hidden)
        return mix
