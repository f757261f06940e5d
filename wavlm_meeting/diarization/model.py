"""The small networks of diarization on one set of hidden states.

`SegmentationHead` says which of a window's local speakers are active in each frame;
`EmbeddingHead` says what the voice of each local speaker is like; `TargetSpeakerHead` says when
speakers speak whose voices are known by then. All read the same encoder pass, each through its own
LayerMix; `DiarizationHeads` holds them.
"""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor, nn

from wavlm_meeting.diarization.local import Local
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.diarization.target_speaker import TargetSpeakerHead
from wavlm_meeting.diarization.vector_clustering import VectorClusteringHeads
from wavlm_meeting.heads.embedding import EmbeddingHead
from wavlm_meeting.heads.frame_classes import FrameClasses

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


class SegmentationHead(FrameClasses):
    """Hidden states -> log-probabilities (B, T, K) over sets of active local speakers."""

    powerset: Tensor

    def __init__(
        self,
        layers: int,
        width: int,
        hidden: int = 128,
        speakers: int = 4,
        at_once: int = 2,
        *,
        conformer_layers: int = 0,
        ffn: int = 512,
    ) -> None:
        powerset = powerset_table(speakers, at_once)
        super().__init__(
            layers, width, hidden, len(powerset), conformer_layers=conformer_layers, ffn=ffn
        )
        self.register_buffer("powerset", powerset, persistent=False)

    def activities(self, log_probabilities: Tensor) -> Tensor:
        """Return the probability (B, T, S) that each local speaker is active."""
        return log_probabilities.exp() @ self.powerset


class DiarizationHeads(nn.Module):
    """All heads for an encoder of `layers` layers and `width` channels.

    `target` is None where `target_width` is 0.
    """

    def __init__(
        self,
        layers: int,
        width: int,
        *,
        local_speakers: int = 4,
        at_once: int = 2,
        segmentation_hidden: int = 128,
        segmentation_layers: int = 0,
        segmentation_ffn: int = 512,
        embedding_hidden: int = 384,
        embedding_size: int = 192,
        target_width: int = 0,
        target_layers: int = 2,
    ) -> None:
        super().__init__()
        self.segmentation = SegmentationHead(
            layers,
            width,
            segmentation_hidden,
            local_speakers,
            at_once,
            conformer_layers=segmentation_layers,
            ffn=segmentation_ffn,
        )
        self.embedding = EmbeddingHead(layers, width, embedding_hidden, embedding_size)
        self.target = (
            TargetSpeakerHead(layers, width, target_width, embedding_size, target_layers)
            if target_width
            else None
        )

    def local(self, hidden_states: Sequence[Tensor], frame_lengths: Tensor) -> Local:
        """Return what a pipeline needs of each window; `frame_lengths` (B,) says what is heard."""
        segmentation = self.segmentation
        log_probabilities = segmentation(hidden_states, frame_lengths)  # (B, T, K)
        frames = torch.arange(log_probabilities.shape[1], device=log_probabilities.device)
        heard = (frames < frame_lengths[:, None])[..., None]  # (B, T, 1)
        active = segmentation.powerset[log_probabilities.argmax(dim=-1)] * heard  # (B, T, S)
        alone = active * (active.sum(dim=-1, keepdim=True) == 1)
        # Who is never heard alone is described by the frames shared with others.
        masks = torch.where(alone.any(dim=1, keepdim=True), alone, active).transpose(1, 2)
        return Local(
            segmentation.activities(log_probabilities) * heard,
            self.embedding(hidden_states, masks),
            masks,
            None if self.target is None else self.target.features(hidden_states),
        )


Heads = DiarizationHeads | VectorClusteringHeads
"""Either form of the heads; `local` is the same."""


def build_heads(layers: int, width: int, settings: DiarizationSettings) -> Heads:
    """Return the heads that `settings` describe, for an encoder of `layers` and `width`."""
    form = VectorClusteringHeads if settings.form == "eend-vc" else DiarizationHeads
    return form(layers, width, **settings.head_sizes())
