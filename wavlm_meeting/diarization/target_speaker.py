"""When known speakers speak: target-speaker voice activity detection.

The voices come from clustering the local speakers of a whole recording; each frame is then decided
anew by who of them it sounds like, over a context longer than a window. Source: Medennikov et al.,
"Target-speaker voice activity detection" (Interspeech 2020); here on the hidden states of the same
encoder pass, for any number of speakers.

B batch, T frames, S speakers, C channels, D embedding size, L layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.heads.conformer import ConformerBlock
from wavlm_meeting.heads.layer_mix import LayerMix


class TargetSpeakerHead(nn.Module):
    """Frame features and voices -> logits (B, T, S) that each speaker is active."""

    def __init__(
        self, layers: int, width: int, hidden: int, embedding_size: int, blocks: int = 2
    ) -> None:
        super().__init__()
        self.mix = LayerMix(layers + 1)
        self.norm = nn.LayerNorm(width)
        self.reduce = nn.Linear(width, hidden)
        self.gain = nn.Linear(embedding_size, hidden)
        self.shift = nn.Linear(embedding_size, hidden)
        self.joined_norm = nn.LayerNorm(hidden)
        self.joined = nn.Linear(hidden, hidden)
        self.over_time = nn.ModuleList(
            ConformerBlock(hidden, 4, 2 * hidden, 15) for _ in range(blocks)
        )
        self.over_speakers = nn.ModuleList(AmongSpeakers(hidden) for _ in range(blocks))
        self.output = nn.Linear(hidden, 1)

    def features(self, hidden_states: Sequence[Tensor]) -> Tensor:
        """Return what has to be kept of each frame (B, T, C) until the voices are known."""
        features: Tensor = self.reduce(self.norm(self.mix(hidden_states)))
        return features

    def forward(self, features: Tensor, voices: Tensor, known: Tensor | None = None) -> Tensor:
        """Return logits (B, T, S) of activity.

        `features` (B, T, C) are those of consecutive frames, `voices` (B, S, D) unit-length
        embeddings; `known` (B, S) says which of them there are, None all.
        """
        if known is None:
            known = torch.ones(voices.shape[:2], dtype=torch.bool, device=voices.device)
        scaled = voices * voices.shape[-1] ** 0.5
        gain, shift = 1.0 + self.gain(scaled), self.shift(scaled)
        x = features[:, None] * gain[:, :, None] + shift[:, :, None]  # (B, S, T, C)
        x = self.joined(F.gelu(self.joined_norm(x)))
        rows, places = rows_of(known.flatten(), fixed=x.is_cuda)
        there = known[..., None, None]
        for block, mixing in zip(self.over_time, self.over_speakers, strict=True):
            inner = block(x.flatten(0, 1).index_select(0, rows)).index_select(0, places)
            x = mixing(inner.unflatten(0, known.shape).masked_fill(~there, 0.0), known)
        logits: Tensor = self.output(x)[..., 0].transpose(1, 2).float()
        return logits


def rows_of(known: Tensor, *, fixed: bool) -> tuple[Tensor, Tensor]:
    """Return the rows of those that are `known` (R,), and where each of R is among them.

    Who is nobody costs nothing that way, and moves no mean of a batch norm; their place is
    anyone's. Where the number of rows is `fixed` they are R, the known ones over and over: a GPU
    would have to be waited for to tell how many they are, and plans attention anew for each number.
    """
    so_far = known.cumsum(0)
    places = (so_far - 1).clamp(min=0)
    if not fixed:
        rows = known.nonzero()[:, 0]
        return rows if len(rows) else places[:1], places
    number = torch.arange(len(known), device=known.device) % so_far[-1:].clamp(min=1)
    return torch.searchsorted(so_far, number + 1).clamp(max=len(known) - 1), places


class AmongSpeakers(nn.Module):
    """Lets each speaker of a frame know what the frame is to the others."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, width)
        self.output = nn.Linear(3 * width, width)

    def forward(self, x: Tensor, known: Tensor) -> Tensor:
        """Return `x` (B, S, T, C) with a step on it; `known` (B, S) says who counts."""
        h = F.gelu(self.hidden(self.norm(x)))
        there = known[..., None, None]
        mean = (h * there).sum(dim=1, keepdim=True) / there.sum(dim=1, keepdim=True).clamp(min=1)
        highest = h.masked_fill(~there, -1.0).amax(dim=1, keepdim=True)
        step = self.output(torch.cat([h, mean.expand_as(h), highest.expand_as(h)], dim=-1))
        return x + step
