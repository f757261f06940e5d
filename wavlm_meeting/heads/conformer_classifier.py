"""DiariZen's segmentation head: a mix of all layers, a Conformer and a classifier of speaker sets.

Source: Han et al., "Leveraging self-supervised learning for speaker diarization" (arXiv
2409.09408), section II, and github.com/BUTSpeechFIT/DiariZen, `models/eend`.

B batch, T frames, C channels, L layers, S local speakers, K powerset classes.
"""

from collections.abc import Sequence

import torch
from pydantic import Field
from torch import Tensor, nn

from wavlm_meeting.config import Settings
from wavlm_meeting.heads.conformer import Conformer


class ConformerClassifierConfig(Settings):
    """Sizes of such a head, and the windows that it is made for."""

    local_speakers: int = Field(4, ge=1)
    """Speakers that can be told apart within one window."""
    at_once: int = Field(2, ge=1)
    """Speakers that can be active in the same frame of a window."""
    hidden: int = Field(256, ge=1)
    """Width of the Conformer."""
    blocks: int = Field(4, ge=1)
    """Its blocks."""
    heads: int = Field(4, ge=1)
    """Attention heads of each block."""
    ffn: int = Field(1024, ge=1)
    """Width of the feed-forward parts."""
    kernel: int = Field(31, ge=1)
    """Frames that a block's convolution sees."""
    features: int = Field(512, ge=1)
    """Channels that the encoder's frontend gives."""
    window_s: float = Field(8.0, gt=0)
    """Length of a window."""
    hop_s: float = Field(0.8, gt=0)
    """From the start of one window to the start of the next."""


class ConformerClassifier(nn.Module):
    """Hidden states -> log-probabilities (B, T, K) over sets of active local speakers.

    Unlike in a LayerMix the layers' weights are free: they may be negative, and need not sum to 1.
    `feature_scale` (features,) multiplies what the encoder's frontend gives, before its LayerNorm:
    pruning leaves such factors behind.
    """

    powerset: Tensor

    def __init__(
        self,
        layers: int,
        width: int,
        powerset: Tensor,
        *,
        hidden: int,
        blocks: int,
        heads: int,
        ffn: int,
        kernel: int,
        features: int,
    ) -> None:
        super().__init__()
        self.register_buffer("powerset", powerset, persistent=False)
        self.feature_scale = nn.Parameter(torch.ones(features), requires_grad=False)
        self.layer_weights = nn.Parameter(torch.full((layers + 1,), 1.0 / (layers + 1)))
        self.projection = nn.Linear(width, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.conformer = Conformer(blocks, hidden, heads=heads, ffn=ffn, kernel=kernel)
        self.classes = nn.Linear(hidden, len(powerset))

    def forward(
        self, hidden_states: Sequence[Tensor], frame_lengths: Tensor | None = None
    ) -> Tensor:
        """Return log-probabilities (B, T, K); frames past `frame_lengths` (B,) are not heard."""
        mix = self.layer_weights[0] * hidden_states[0]
        for weight, hidden in zip(self.layer_weights[1:], hidden_states[1:], strict=True):
            mix = torch.addcmul(mix, weight, hidden)
        x = self.conformer(self.norm(self.projection(mix)), frame_lengths)
        return self.classes(x).float().log_softmax(dim=-1)

    def activities(self, log_probabilities: Tensor) -> Tensor:
        """Return the probability (B, T, S) that each local speaker is active."""
        return log_probabilities.exp() @ self.powerset
