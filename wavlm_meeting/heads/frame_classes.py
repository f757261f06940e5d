"""The head that says of each frame who is heard in it: nobody, one local speaker, or several.

Diarization asks it who; verification whether anybody is.

B batch, T frames, C channels, L layers, K classes.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.heads.conformer import Conformer
from wavlm_meeting.heads.layer_mix import LayerMix

NOBODY = 0
"""Class of the frames in which nobody speaks."""


class FrameClasses(nn.Module):
    """Hidden states -> log-probabilities (B, T, K) of the classes of each frame."""

    def __init__(
        self,
        layers: int,
        width: int,
        hidden: int,
        classes: int,
        *,
        conformer_layers: int = 0,
        ffn: int = 512,
    ) -> None:
        super().__init__()
        self.mix = LayerMix(layers + 1)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.conformer = Conformer(conformer_layers, hidden, ffn=ffn) if conformer_layers else None
        self.classes = nn.Linear(hidden, classes)

    def forward(
        self, hidden_states: Sequence[Tensor], frame_lengths: Tensor | None = None
    ) -> Tensor:
        """Return log-probabilities (B, T, K), looking no further than `frame_lengths` (B,)."""
        x = self.hidden(self.norm(self.mix(hidden_states)))
        x = F.gelu(x) if self.conformer is None else self.conformer(x, frame_lengths)
        return self.classes(x).float().log_softmax(dim=-1)

    def spoken(
        self, hidden_states: Sequence[Tensor], frame_lengths: Tensor | None = None
    ) -> Tensor:
        """Return the probability (B, T) that anybody speaks; parameters are those of `forward`."""
        others = self(hidden_states, frame_lengths)[..., NOBODY + 1 :]
        probability: Tensor = others.exp().sum(dim=-1)  # 1 - P(nobody) rounds to 0 in silence
        return probability
