"""EEND with vector clustering: who is active and one speaker vector each, from one Transformer.

Source: Kinoshita, Delcroix and Tawara, "Integrating end-to-end neural and clustering-based
diarization" (ICASSP 2021), and the diarization system of the WavLM paper (arXiv 2110.13900).

B batch, T frames, S local speakers, C channels, D size of a speaker vector, L layers.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.diarization.local import Local
from wavlm_meeting.heads.layer_mix import LayerMix

SILENT = 0.05
"""Mean activity of a local speaker under which there is nobody (WavLM paper)."""


class VectorClusteringHeads(nn.Module):
    """Hidden states -> activity of each local speaker, and a unit-length vector for each.

    The Transformer reads means of `subsampling` frames: 2 makes WavLM's 20 ms the 40 ms of the
    paper.
    """

    target = None  # frames are not decided anew

    def __init__(
        self,
        layers: int,
        width: int,
        *,
        local_speakers: int = 3,
        hidden: int = 256,
        transformer_layers: int = 6,
        attention_heads: int = 8,
        ffn: int = 1024,
        embedding_size: int = 256,
        subsampling: int = 1,
    ) -> None:
        super().__init__()
        self.subsampling, self.embedding_size = subsampling, embedding_size
        self.mix = LayerMix(layers + 1)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        block = nn.TransformerEncoderLayer(hidden, attention_heads, ffn, 0.1, batch_first=True)
        self.transformer = nn.TransformerEncoder(
            block, transformer_layers, enable_nested_tensor=False
        )
        self.activity = nn.Linear(hidden, local_speakers)
        self.vectors = nn.Linear(hidden, local_speakers * embedding_size)

    def forward(
        self, hidden_states: Sequence[Tensor], frame_lengths: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return logits (B, T, S) of activity and unit-length vectors (B, S, D).

        A speaker's vector is the mean of their frames' vectors, weighted by their activity
        (section 3.2). Frames past `frame_lengths` (B,) are not looked at.
        """
        x = self.hidden(self.norm(self.mix(hidden_states)))
        frames = x.shape[1]
        there = torch.ones(x.shape[:2], dtype=torch.bool, device=x.device)
        if frame_lengths is not None:
            there = torch.arange(frames, device=x.device) < frame_lengths[:, None]
        x, counted = self._subsample(x, there)
        x = self.transformer(x, src_key_padding_mask=~counted)
        logits = self.activity(x).float()  # (B, T / subsampling, S)
        vectors = self.vectors(x).float().unflatten(-1, (-1, self.embedding_size))
        weights = logits.sigmoid() * counted[..., None]
        pooled = torch.einsum("bts,btsd->bsd", weights, vectors)
        logits = logits.repeat_interleave(self.subsampling, dim=1)[:, :frames]
        return logits, F.normalize(pooled, dim=-1)

    def local(self, hidden_states: Sequence[Tensor], frame_lengths: Tensor) -> Local:
        """Return what a pipeline needs of each window."""
        logits, vectors = self(hidden_states, frame_lengths)
        there = torch.arange(logits.shape[1], device=logits.device) < frame_lengths[:, None]
        activity = logits.sigmoid() * there[..., None]
        share = activity.sum(dim=1, keepdim=True) / frame_lengths[:, None, None].clamp(min=1)
        activity = activity * (share >= SILENT)
        alone = activity.gt(0.5) & (activity.gt(0.5).sum(dim=-1, keepdim=True) == 1)
        masks = torch.where(alone.any(dim=1, keepdim=True), alone, activity > 0.5)
        return Local(activity, vectors, masks.float().transpose(1, 2), None)

    def _subsample(self, x: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
        """Return the means (B, T / subsampling, C) of neighbours, and which of them there are."""
        if self.subsampling == 1:
            return x, there
        rest = -x.shape[1] % self.subsampling
        x = F.pad(x * there[..., None], (0, 0, 0, rest)).unflatten(1, (-1, self.subsampling))
        count = F.pad(there, (0, rest)).unflatten(1, (-1, self.subsampling)).sum(dim=2)
        return x.sum(dim=2) / count.clamp(min=1)[..., None], count > 0
