"""The x-vector head: one embedding for a whole utterance.

Frame features pass through a time-delay network (dilated convolutions); the mean and deviation of
its output over time become the embedding. Source: Snyder et al., "X-vectors: robust DNN embeddings
for speaker recognition" (ICASSP 2018), on hidden states as in SUPERB (arXiv 2105.01051) and
transformers' `WavLMForXVector`.

B batch, T frames, D width, C channels, E embedding size.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import AudioError
from wavlm_meeting.heads.layer_mix import LayerMix


class XVectorConfig(Settings):
    """Sizes of an x-vector head."""

    weighted: bool = False
    """Whether it reads a weighted sum of all hidden states, or the last one alone."""
    tdnn: tuple[tuple[int, int, int], ...] = Field(
        ((512, 5, 1), (512, 3, 2), (512, 3, 3), (512, 1, 1), (1500, 1, 1)), min_length=1
    )
    """Channels, kernel and dilation of each layer of the time-delay network."""
    embedding: int = Field(512, ge=1)
    """Size of the embedding."""
    speakers: int = Field(2, ge=1)
    """Speakers that it was trained to tell apart."""


@dataclass(frozen=True)
class XVectorOutput:
    """What the head gives for a batch."""

    embeddings: Tensor
    """(B, E): compare them by their cosine."""
    logits: Tensor
    """(B, E): the embeddings after one more layer, as the training loss reads them."""


class XVector(nn.Module):
    """Hidden states -> one embedding for each utterance."""

    def __init__(
        self,
        layers: int,
        width: int,
        *,
        weighted: bool,
        tdnn: Sequence[tuple[int, int, int]],
        embedding: int,
        speakers: int,
    ) -> None:
        super().__init__()
        self.mix = LayerMix(layers + 1) if weighted else None
        self.projection = nn.Linear(width, tdnn[0][0])
        inputs = [tdnn[0][0], *(channels for channels, _, _ in tdnn)]
        self.tdnn = nn.ModuleList(
            nn.Conv1d(size, channels, kernel, dilation=dilation)
            for size, (channels, kernel, dilation) in zip(inputs, tdnn, strict=False)
        )
        self.lost_frames = sum((kernel - 1) * dilation for _, kernel, dilation in tdnn)
        self.embedding = nn.Linear(2 * tdnn[-1][0], embedding)
        self.classifier = nn.Linear(embedding, embedding)
        # Read by the training loss alone (additive-margin softmax, arXiv 1801.05599).
        self.speakers = nn.Parameter(torch.randn(embedding, speakers))

    def forward(self, hidden_states: Sequence[Tensor], frame_lengths: Tensor) -> XVectorOutput:
        """Embed L + 1 tensors (B, T, D) whose first `frame_lengths` (B,) frames are valid.

        Padding has no influence. Raises AudioError if an utterance has too few frames for a
        deviation over time.
        """
        lengths = frame_lengths - self.lost_frames
        if int(lengths.min()) < 2:
            raise AudioError(
                f"an utterance of {int(frame_lengths.min())} frames is too short for an x-vector: "
                f"give at least {self.lost_frames + 2}."
            )
        x = self.mix(hidden_states) if self.mix is not None else hidden_states[-1]
        x = self.projection(x).transpose(1, 2)
        for layer in self.tdnn:
            x = F.relu(layer(x))  # (B, C, T')
        valid = torch.arange(x.shape[2], device=x.device) < lengths[:, None]
        embeddings = self.embedding(_mean_and_deviation(x, valid[:, None], lengths[:, None]))
        return XVectorOutput(embeddings, self.classifier(embeddings))


def _mean_and_deviation(x: Tensor, valid: Tensor, count: Tensor) -> Tensor:
    """Pool (B, C, T) over the valid frames (B, 1, T), `count` (B, 1) of them, to (B, 2 C)."""
    mean = (x * valid).sum(dim=2) / count
    squares = ((x - mean[..., None]) * valid).square().sum(dim=2)
    return torch.cat([mean, (squares / (count - 1)).sqrt()], dim=1)
