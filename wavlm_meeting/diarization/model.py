"""The two small networks of diarization on one set of hidden states.

`SegmentationHead` says which of a window's local speakers are active in each frame;
`EmbeddingHead` says what the voice of each local speaker is like. Both read the same encoder pass,
each through its own LayerMix; `DiarizationHeads` holds the two.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.heads.embedding import EmbeddingHead
from wavlm_meeting.heads.layer_mix import LayerMix

# B batch, T frames, L layers, S local speakers, K powerset classes


def powerset_table(speakers: int, at_once: int) -> Tensor:
    """Return the classes of the powerset as a table (K, S) of 0 and 1.

    One class for every set of at most `at_once` active speakers: nobody first, then single
    speakers, then pairs. Source: Plaquet and Bredin, "Powerset multi-class cross entropy loss for
    neural speaker diarization" (Interspeech 2023), section 2.
    """
    sets = [subset for size in range(at_once + 1) for subset in combinations(range(speakers), size)]
    table = torch.zeros(len(sets), speakers)
    for row, subset in enumerate(sets):
        table[row, list(subset)] = 1.0
    return table


class SegmentationHead(nn.Module):
    """Hidden states -> log-probabilities (B, T, K) over sets of active local speakers."""

    powerset: Tensor

    def __init__(
        self, layers: int, width: int, hidden: int = 128, speakers: int = 4, at_once: int = 2
    ) -> None:
        super().__init__()
        self.register_buffer("powerset", powerset_table(speakers, at_once), persistent=False)
        self.mix = LayerMix(layers + 1)
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, hidden)
        self.classes = nn.Linear(hidden, len(self.powerset))

    def forward(self, hidden_states: Sequence[Tensor]) -> Tensor:
        """Return log-probabilities (B, T, K)."""
        x = F.gelu(self.hidden(self.norm(self.mix(hidden_states))))
        return self.classes(x).log_softmax(dim=-1)

    def activities(self, log_probabilities: Tensor) -> Tensor:
        """Return the probability (B, T, S) that each local speaker is active."""
        return log_probabilities.exp() @ self.powerset


class DiarizationHeads(nn.Module):
    """Both heads for an encoder of `layers` layers and `width` channels."""

    def __init__(
        self,
        layers: int,
        width: int,
        *,
        local_speakers: int = 4,
        at_once: int = 2,
        segmentation_hidden: int = 128,
        embedding_hidden: int = 384,
        embedding_size: int = 192,
    ) -> None:
        super().__init__()
        self.segmentation = SegmentationHead(
            layers, width, segmentation_hidden, local_speakers, at_once
        )
        self.embedding = EmbeddingHead(layers, width, embedding_hidden, embedding_size)
