"""A voice of two models: what filterbanks say of it, and beside that what an encoder says.

The one hears finer differences between voices, the other is taken in less by microphones.

B batch, N samples, D embedding size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavlm_meeting.verification.model import SpeakerModel


class JoinedModel(SpeakerModel):
    """A model with a second one beside it, whose voices `projection` centres and shortens.

    The cosine of two of its embeddings is the mean of both models' cosines, the second one counted
    `weight` squared times.
    """

    def __init__(
        self, first: SpeakerModel, second: SpeakerModel, projection: nn.Linear, weight: float
    ) -> None:
        size = first.size + projection.out_features
        super().__init__(first.features, first.pooling, size, config=first.config)
        self.second, self.projection, self.weight = second, projection, weight

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Embed waveforms as the base class does: (B, D), as long as what the second one says."""
        first = F.normalize(super().forward(waveforms, lengths), dim=1)
        heard = self.second(waveforms, lengths)
        second = F.normalize(self.projection(F.normalize(heard, dim=1)), dim=1)
        joined = torch.cat([first, self.weight * second], dim=1)
        return joined * heard.norm(dim=1, keepdim=True)
