"""The head that says what a voice is like from chosen frames.

Diarization asks it of each speaker's frames; verification of all, where a model has nothing better.

B batch, T frames, C channels, L layers, S speakers, D embedding size.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.heads.layer_mix import LayerMix


class EmbeddingHead(nn.Module):
    """Hidden states and frame weights of each speaker -> unit-length embeddings (B, S, D).

    Attentive statistics pooling (Okabe et al., Interspeech 2018, section 3) over the frames of each
    speaker alone: the frame features are computed once, the pooling once for each speaker.
    """

    def __init__(self, layers: int, width: int, hidden: int = 384, size: int = 192) -> None:
        super().__init__()
        self.mix = LayerMix(layers + 1)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.attention = nn.Linear(hidden, 1)
        self.pooled_norm = nn.LayerNorm(2 * hidden)
        self.output = nn.Linear(2 * hidden, size)

    def forward(self, hidden_states: Sequence[Tensor], masks: Tensor) -> Tensor:
        """Return embeddings (B, S, D) of unit length; parameters are those of `raw`."""
        return F.normalize(self.raw(hidden_states, masks), dim=-1)

    def raw(self, hidden_states: Sequence[Tensor], masks: Tensor) -> Tensor:
        """Return embeddings (B, S, D) as the last layer gives them.

        `masks` (B, S, T) are frame weights from 0 to 1. A speaker without any frame gets a finite
        vector that means nothing.
        """
        x = F.gelu(self.hidden(self.norm(self.mix(hidden_states))))  # (B, T, C)
        scores = self.attention(x).squeeze(-1)[:, None]  # (B, 1, T)
        weights = masks * (scores - scores.amax(dim=-1, keepdim=True)).exp()
        weights = weights / weights.sum(dim=-1, keepdim=True).clamp(min=1e-8)  # (B, S, T)
        mean = weights @ x
        variance = weights @ x.square() - mean.square()
        pooled = torch.cat([mean, variance.clamp(min=1e-6).sqrt()], dim=-1)
        embeddings: Tensor = self.output(self.pooled_norm(pooled))
        return embeddings
