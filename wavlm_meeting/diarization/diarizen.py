"""DiariZen's segmentation in our pipeline; the voices are heard by a model of ours beside it.

DiariZen has no speaker embeddings of its own: it takes another toolkit's. Here both encoders run
over the same windows.

B batch, N samples, T frames of DiariZen's encoder, S local speakers.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.checkpoints.bundle import Bundle
from wavlm_meeting.checkpoints.conformer_head import (
    CONFORMER_CLASSIFIER,
    build_diarizen,
    parse_classifier,
)
from wavlm_meeting.diarization.model import DiarizationHeads, powerset_table
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.heads.conformer_classifier import ConformerClassifier
from wavlm_meeting.heads.embedding import EmbeddingHead
from wavlm_meeting.wavlm.model import EncoderOutput, WavLM


class TwoEncoders(WavLM):
    """Two encoders over the same waveforms; the hidden states of the second follow the first's."""

    def __init__(self, first: WavLM, second: WavLM) -> None:
        nn.Module.__init__(self)
        self.config = first.config
        self.first, self.second = first, second
        self.mask_embedding = first.mask_embedding  # says on which device the encoder is

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> EncoderOutput:
        """Encode waveforms (B, N); frame lengths are the first encoder's."""
        first, second = self.first(waveforms, lengths), self.second(waveforms, lengths)
        return EncoderOutput(first.hidden_states + second.hidden_states, first.frame_lengths)


class FirstStates(nn.Module):
    """A segmentation head on the hidden states of the first encoder."""

    def __init__(self, head: ConformerClassifier, count: int) -> None:
        super().__init__()
        self.head, self.count = head, count

    @property
    def powerset(self) -> Tensor:
        """Its classes (K, S)."""
        return self.head.powerset

    def activities(self, log_probabilities: Tensor) -> Tensor:
        """Return the probability (B, T, S) that each local speaker is active."""
        return self.head.activities(log_probabilities)

    def forward(
        self, hidden_states: Sequence[Tensor], frame_lengths: Tensor | None = None
    ) -> Tensor:
        """Return log-probabilities (B, T, K)."""
        scores: Tensor = self.head(hidden_states[: self.count], frame_lengths)
        return scores


class SecondStates(nn.Module):
    """An embedding head on the hidden states of the second encoder, which has frames of its own."""

    def __init__(self, head: EmbeddingHead, count: int) -> None:
        super().__init__()
        self.head, self.count = head, count

    def forward(self, hidden_states: Sequence[Tensor], masks: Tensor) -> Tensor:
        """Return embeddings (B, S, D) of the frames in `masks` (B, S, T) of the first encoder."""
        own = hidden_states[self.count :]
        resampled = F.interpolate(masks, own[0].shape[1], mode="nearest-exact")
        embeddings: Tensor = self.head(own, resampled)
        return embeddings


class TwoHeads(DiarizationHeads):
    """DiariZen's segmentation, and the embeddings of the model beside it."""

    def __init__(self, segmentation: ConformerClassifier, embedding: EmbeddingHead) -> None:
        nn.Module.__init__(self)
        count = len(segmentation.layer_weights)
        self.add_module("segmentation", FirstStates(segmentation, count))
        self.add_module("embedding", SecondStates(embedding, count))
        self.target = None


def diarizen_pipeline(model: Bundle, voices: DiarizationPipeline) -> DiarizationPipeline:
    """Make a pipeline of a model of DiariZen's and one whose embeddings are used.

    Windows and their hop are those that the model was made for; how its local speakers are
    clustered and put together is set by `voices`. Raises CheckpointError if the parts of the model
    do not fit, or `voices` has no embedding head.
    """
    where = f"{model.card.name}: {CONFORMER_CLASSIFIER}"
    numbers = parse_classifier(model.card.heads[CONFORMER_CLASSIFIER], where)
    powerset = powerset_table(numbers.local_speakers, numbers.at_once)
    encoder, head = build_diarizen(model, numbers, powerset)
    if not isinstance(voices.heads, DiarizationHeads):
        raise CheckpointError(f"{voices.name}: has no embedding head beside its segmentation.")
    device = voices.encoder.mask_embedding.device
    heads = TwoHeads(head.to(device), voices.heads.embedding)
    settings = voices.settings.model_copy(
        update={
            "local_speakers": numbers.local_speakers,
            "at_once": numbers.at_once,
            "window_s": numbers.window_s,
            "hop_s": numbers.hop_s,
        }
    )
    both = TwoEncoders(encoder.to(device), voices.encoder)
    return DiarizationPipeline(both, heads, settings, model.card.name, voices.sha256)
