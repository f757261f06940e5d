"""Masked speech denoising and prediction (arXiv 2110.13900, section IV; HuBERT's loss).

The encoder hears a mixture with spans of frames masked, and says for each masked frame which
pseudo-label the clean primary utterance has there.

B batch, N samples, T frames, C channels, D width, M masked frames of the batch, K classes of a
label set, E size of a label embedding.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.config import Settings
from wavlm_meeting.wavlm.frontend import valid_mask
from wavlm_meeting.wavlm.model import WavLM


class ObjectiveSettings(Settings):
    """What the encoder is trained for; defaults are those of Base."""

    size: int = Field(256, ge=1)
    """Size of a label embedding (256 for Base, 768 for Large)."""
    temperature: float = Field(0.1, gt=0)
    """What cosines are divided by."""
    feature_penalty: float = Field(10.0, ge=0)
    """Weight of the mean square of the frontend's output."""
    frontend_gradient: float = Field(0.1, ge=0, le=1)
    """What the gradient into the frontend is multiplied by (0.1 for Base, 1 for Large)."""
    contrastive_weight: float = Field(0.0, ge=0)
    """Weight of telling a masked frame's own features from those of other frames; 0 is off."""
    negatives: int = Field(100, ge=1)
    """Other masked frames of the batch that it is told from."""


Share = Callable[[Tensor], Tensor]
"""Averages a tensor over all processes; the identity in a single one."""


class Losses(NamedTuple):
    """The parts of the objective, each a mean, and what is worth watching.

    In several processes each is a sum over the own frames by the mean of all processes' counts: the
    mean over processes is what a single process finds for all their batches together.
    """

    total: Tensor
    prediction: Tensor
    feature_penalty: Tensor
    contrastive: Tensor
    accuracy: Tensor
    """Share of the masked frames whose label is the most probable one, over all label sets."""
    perplexity: Tensor
    """Exponential of the entropy of the predicted labels: how many are in use."""


class PredictionHead(nn.Module):
    """Cosines between projected frames and the embeddings of all labels.

    One label set is stored as the released code stores it; of several, each has its own projection
    (fairseq's `untie_final_proj`).
    """

    def __init__(self, width: int, size: int, classes: Sequence[int]) -> None:
        super().__init__()
        self.classes, self.size = tuple(classes), size
        self.projection = nn.Linear(width, size * len(self.classes))
        self.label_embeddings = nn.Parameter(torch.rand(sum(self.classes), size))

    def forward(self, x: Tensor, temperature: float) -> list[Tensor]:
        """Map frames (M, D) to the logits (M, K) of each label set."""
        projected = self.projection(x).float().chunk(len(self.classes), dim=-1)
        embeddings = self.label_embeddings.float().split(self.classes)
        return [
            F.linear(F.normalize(own, dim=-1), F.normalize(labels, dim=-1)) / temperature
            for own, labels in zip(projected, embeddings, strict=True)
        ]


class MaskedPrediction(nn.Module):
    """An encoder with the head that it is pretrained through."""

    def __init__(self, encoder: WavLM, classes: Sequence[int], settings: ObjectiveSettings) -> None:
        super().__init__()
        self.encoder, self.settings = encoder, settings
        width = encoder.config.width
        self.head = PredictionHead(width, settings.size, classes)
        self.contrast = (
            nn.Linear(width, encoder.config.conv_layers[-1][0])
            if settings.contrastive_weight
            else None
        )

    def forward(
        self,
        waveforms: Tensor,
        lengths: Tensor,
        masks: Tensor,
        labels: Sequence[Tensor],
        share: Share | None = None,
        kept: Sequence[bool] | None = None,
    ) -> Losses:
        """Return the losses of a batch.

        `waveforms` (B, N) are what is heard, mixtures included; `masks` (B, T) say which frames are
        hidden; each of `labels` (B, T) holds the labels of the clean primary, -1 where there is
        none. Only masked frames with a label count. `share` averages counts over processes; `kept`
        says of each layer whether it is run at all.
        """
        settings, encoder = self.settings, self.encoder
        features, frame_lengths = encoder.extract(waveforms, lengths)  # (B, T, C)
        if features.requires_grad and settings.frontend_gradient != 1:
            features.register_hook(lambda gradient: gradient * settings.frontend_gradient)
        valid = valid_mask(frame_lengths, features.shape[1])
        squares = features.float().square().mean(dim=-1)[valid].sum()
        states = encoder.contextualize(
            encoder.projection(features), frame_lengths, padded=True, masked=masks, kept=kept
        )[-1]
        hidden = masks & valid  # (B, T)
        logits = self.head(states[hidden], settings.temperature)
        targets = [own[hidden] for own in labels]  # (M,)
        counted = _count(logits, targets, hidden.sum(), valid.sum(), share)
        prediction = torch.stack(
            [
                F.cross_entropy(scores, target, ignore_index=-1, reduction="sum") / known
                for scores, target, known in zip(logits, targets, counted.known, strict=True)
            ]
        ).mean()
        penalty = squares / counted.frames
        contrastive = prediction.new_zeros(())
        if self.contrast is not None:
            projected = self.contrast(states[hidden])
            contrastive = (
                contrastive_loss(
                    projected, features[hidden].detach(), settings.negatives, settings.temperature
                )
                / counted.hidden
            )
        total = (
            prediction
            + settings.feature_penalty * penalty
            + settings.contrastive_weight * contrastive
        )
        return Losses(total, prediction, penalty, contrastive, counted.accuracy, counted.perplexity)


def contrastive_loss(
    projected: Tensor, targets: Tensor, negatives: int, temperature: float
) -> Tensor:
    """Cross-entropy of finding each frame's own target among `negatives` other frames' targets.

    `projected` and `targets` are (M, C). Source: wav2vec 2.0 (arXiv 2006.11477, equation 3), with
    targets that are not quantised. A sum over frames; 0 if there is but one.
    """
    count = len(projected)
    if count < 2:
        return projected.sum() * 0.0
    shift = torch.randint(1, count, (count, negatives), device=projected.device)
    others = (torch.arange(count, device=projected.device)[:, None] + shift) % count
    index = torch.cat([torch.arange(count, device=projected.device)[:, None], others], dim=1)
    own = F.normalize(projected.float(), dim=-1)
    candidates = F.normalize(targets.float(), dim=-1)[index]  # (M, 1 + negatives, C)
    logits = torch.einsum("mc,mnc->mn", own, candidates) / temperature
    own_place = torch.zeros(count, dtype=torch.long, device=logits.device)
    return F.cross_entropy(logits, own_place, reduction="sum")


class _Counted(NamedTuple):
    """Counts averaged over processes, at least 1, and what they say of the predictions."""

    known: Tensor
    """(label sets,): masked frames with a label."""
    hidden: Tensor
    frames: Tensor
    accuracy: Tensor
    perplexity: Tensor


@torch.no_grad()
def _count(
    logits: Sequence[Tensor],
    targets: Sequence[Tensor],
    hidden: Tensor,
    frames: Tensor,
    share: Share | None,
) -> _Counted:
    """Count frames, right predictions and predicted labels, and share all counts at once."""
    counts = [hidden[None], frames[None]]
    for scores, target in zip(logits, targets, strict=True):
        known = target >= 0
        predicted = scores.argmax(dim=-1)[known]
        right = (predicted == target[known]).sum()
        used = torch.bincount(predicted, minlength=scores.shape[-1])
        counts += [known.sum()[None], right[None], used]
    own = torch.cat(counts).double()
    averaged = (own if share is None else share(own)).float()
    sizes = [size for scores in logits for size in (1, 1, scores.shape[-1])]
    every_hidden, every_frame, *rest = averaged.split([1, 1, *sizes])
    known = torch.cat(rest[0::3]).clamp(min=1e-9)
    # A process's own right predictions by the mean of all counts, as the losses are.
    right = torch.stack([count[0] for count in counts[3::3]]) / known
    perplexities = [
        torch.exp(torch.special.entr(used / number).sum())
        for used, number in zip(rest[2::3], known, strict=True)
    ]
    return _Counted(
        known,
        every_hidden[0].clamp(min=1),
        every_frame[0],
        right.mean(),
        torch.stack(perplexities).mean(),
    )
