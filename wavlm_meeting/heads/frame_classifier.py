"""The frame classifier: one linear layer that labels every frame.

Source: SUPERB's diarization head (arXiv 2105.01051) as in transformers'
`WavLMForAudioFrameClassification`, where the classes are speakers that may be active at once.

B batch, T frames, D width, K classes.
"""

from collections.abc import Sequence

from pydantic import Field
from torch import Tensor, nn

from wavlm_meeting.config import Settings
from wavlm_meeting.heads.layer_mix import LayerMix


class FrameClassifierConfig(Settings):
    """Sizes of a frame classifier."""

    weighted: bool = False
    """Whether it reads a weighted sum of all hidden states, or the last one alone."""
    classes: int = Field(2, ge=1)
    """Classes, or speakers, that a frame is scored for."""


class FrameClassifier(nn.Module):
    """Hidden states -> a score of each class in each frame."""

    def __init__(self, layers: int, width: int, *, weighted: bool, classes: int) -> None:
        super().__init__()
        self.mix = LayerMix(layers + 1) if weighted else None
        self.classifier = nn.Linear(width, classes)

    def forward(self, hidden_states: Sequence[Tensor]) -> Tensor:
        """Score L + 1 tensors (B, T, D): returns logits (B, T, K)."""
        x = self.mix(hidden_states) if self.mix is not None else hidden_states[-1]
        logits: Tensor = self.classifier(x)
        return logits
