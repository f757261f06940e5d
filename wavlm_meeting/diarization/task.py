"""How encoder and diarization heads are trained together.

B batch, N samples, T frames, S local speakers, D embedding size.
"""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from pydantic import Field
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.config import Settings
from wavlm_meeting.devices import in_bfloat16
from wavlm_meeting.diarization.loss import (
    conversation_activities,
    conversation_voices,
    linking_loss,
    permutation_free_binary_cross_entropy,
    permutation_free_cross_entropy,
    teacher_distance,
    vector_loss,
)
from wavlm_meeting.diarization.model import DiarizationHeads, Heads
from wavlm_meeting.diarization.vector_clustering import VectorClusteringHeads
from wavlm_meeting.optimizer import BETAS, MuonAdamW
from wavlm_meeting.wavlm.model import WavLM

DISTANCE = (2.0, 0.0)
"""Scale (before its softplus) and offset of the squared distances between vectors, at the start."""
LINKING = (10.0, 0.4)
"""Scale and offset, at the start, that turn a cosine into the log-odds of one speaker."""


class Batch(NamedTuple):
    """Windows of conversations and who speaks in them."""

    waveforms: Tensor
    """(B, N) float32 at 16 kHz."""
    activities: Tensor
    """(B, T, S): 1 where a speaker is active."""
    classes: Tensor
    """(B, S): number of a labelled training speaker, or -1."""
    teacher: Tensor
    """(B, S, 256): the teacher's embedding of the voice, any length; zeros where unknown."""
    voices: Tensor
    """(B, S): number of a speaker within the window's conversation, or -1."""
    conversations: Tensor
    """(B,): number of the conversation that a window is cut from."""


class TaskSettings(Settings):
    """Objective and optimiser."""

    steps: int = Field(1500, ge=1)
    """Updates of the weights."""
    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate."""
    first_convolution: float = Field(1.0, ge=0)
    """Learning rate of the encoder's first convolution as a share of that of all else."""
    bfloat16: bool = False
    """Whether the encoder's products run in bfloat16, on devices that have such."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; it then falls as a cosine."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW for all, or Muon for the matrices."""
    weight_decay: float = Field(0.01, ge=0)
    """Of matrices, each step as a share of the learning rate."""
    gradient_clip: float = Field(1.0, gt=0)
    """Longest gradient."""
    margin: float = Field(0.2, ge=0)
    """Angular margin (AAM-softmax) of the speaker classes, risen to over the first half."""
    scale: float = Field(30.0, gt=0)
    """Scale of the cosines (AAM-softmax)."""
    class_weight: float = Field(0.1, ge=0)
    """Weight of the speaker classes beside the segmentation."""
    teacher_weight: float = Field(2.0, ge=0)
    """Weight of the distance to the teacher's embeddings."""
    linking_weight: float = Field(0.0, ge=0)
    """Weight of telling whether two voices of a conversation are one speaker; 0 is off."""
    target_weight: float = Field(1.0, ge=0)
    """Weight of the target-speaker head, where there is one."""
    target_missing: float = Field(0.4, ge=0, lt=1)
    """Probability that a window is left out of the voices that the target-speaker head is given: at
    inference most of what they rest on is elsewhere, too."""
    target_noise: float = Field(0.5, ge=0)
    """Length of the noise that is added to these unit-length voices, at most."""
    target_blend: float = Field(0.4, ge=0)
    """Share of another's voice that is blended into each, at most: clusters are not pure."""
    target_unknown: float = Field(0.15, ge=0, lt=1)
    """Probability that a speaker is kept from it: what they say is then nobody's."""
    target_windows: int = Field(3, ge=1)
    """Windows in a row that the target-speaker head decides at a time."""
    frozen: bool = False
    """Whether the encoder stays as it is."""
    least_speech: int = Field(25, ge=1)
    """Frames that a speaker must be heard alone for their embedding to be trained."""


def encode(encoder: WavLM, waveforms: Tensor, settings: TaskSettings) -> tuple[Tensor, ...]:
    """Return the hidden states (B, T, C) in float32, without gradients if the encoder is frozen."""
    with (
        torch.set_grad_enabled(torch.is_grad_enabled() and not settings.frozen),
        in_bfloat16(waveforms.device.type, wanted=settings.bfloat16),
    ):
        hidden_states = encoder(waveforms).hidden_states
    return tuple(states.float() for states in hidden_states)


def alone(activities: Tensor) -> Tensor:
    """Return where each speaker is heard alone (B, S, T), of activities (B, T, S)."""
    return (activities * (activities.sum(dim=-1, keepdim=True) == 1)).transpose(1, 2)


def optimizer_of(task: nn.Module, encoder: WavLM, settings: TaskSettings) -> OptimizerLRScheduler:
    """AdamW, or Muon and AdamW, with a linear rise and a cosine fall of the learning rate.

    Vectors do not decay. The table of the position bias is no matrix to Muon: of its rows, which
    stand for distances, most have no gradient.
    """
    first = encoder.frontend.stack()[0].conv.weight
    table = getattr(encoder, "bias_table", None)
    groups: dict[tuple[bool, float, float], list[nn.Parameter]] = {}
    for parameter in task.parameters():
        flat = parameter.ndim == 2 and (table is None or parameter is not table.weight)
        rate = settings.learning_rate * (settings.first_convolution if parameter is first else 1.0)
        decay = settings.weight_decay if parameter.ndim > 1 else 0.0
        muon = flat and settings.optimizer == "muon"
        groups.setdefault((muon, rate, decay), []).append(parameter)
    matrices, others = (
        [
            {"params": own, "lr": rate, "weight_decay": decay}
            for (muon, rate, decay), own in groups.items()
            if muon is is_muon
        ]
        for is_muon in (True, False)
    )
    optimizer: torch.optim.Optimizer = (
        MuonAdamW(matrices, others) if matrices else torch.optim.AdamW(others, betas=BETAS)
    )
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=settings.steps + 1,
        pct_start=settings.warmup,
        cycle_momentum=False,
    )
    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
    }


class Sizes(NamedTuple):
    """What the conversations of all batches have in common."""

    windows: int
    """Windows of each conversation."""
    speakers: int
    """Speakers that a conversation has at most."""


class DiarizationTask(lightning.LightningModule):
    """Joint training: who is active when, and whose voice it is.

    Nothing of a batch has to be known on the host where `sizes` are given and `class_weight` is 0:
    a GPU is then never waited for.
    """

    sizes: Sizes | None = None

    def __init__(
        self,
        encoder: WavLM,
        heads: DiarizationHeads,
        classes: int,
        settings: TaskSettings,
    ) -> None:
        super().__init__()
        self.encoder, self.heads, self.settings = encoder, heads, settings
        size = heads.embedding.output.out_features
        self.voices = nn.Parameter(torch.randn(classes, size) / size**0.5)
        self.to_teacher = nn.Linear(size, 256)
        self.linking = nn.Parameter(torch.tensor(LINKING))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return each part of the objective, and how many frames are right."""
        hidden_states = encode(self.encoder, batch.waveforms, self.settings)
        log_probabilities = self.heads.segmentation(hidden_states)
        cross_entropy, order = permutation_free_cross_entropy(
            log_probabilities, batch.activities, self.heads.segmentation.powerset
        )
        reference = batch.activities.gather(2, order[:, None].expand_as(batch.activities))
        predicted = self.heads.segmentation.powerset[log_probabilities.argmax(dim=-1)]
        wrong = (predicted - reference).abs().sum() / reference.sum()

        masks = alone(batch.activities)
        heard = masks.sum(dim=-1) >= self.settings.least_speech  # (B, S)
        of_all = self.heads.embedding(hidden_states, masks)  # (B, S, D)
        target = self._target_loss(hidden_states, of_all, masks.sum(dim=-1), batch)
        described = heard & batch.teacher.any(dim=-1)
        return {
            "segmentation": cross_entropy.mean(),
            "teacher": teacher_distance(self.to_teacher(of_all), batch.teacher, described),
            "classes": self._class_loss(of_all, torch.where(heard, batch.classes, -1)),
            "linking": linking_loss(
                of_all.flatten(0, 1),
                batch.voices.flatten(),
                batch.conversations.repeat_interleave(heard.shape[1]),
                heard.flatten(),
                *self.linking,
            ),
            **target,
            "frame_error": wrong,
        }

    def _target_loss(
        self, hidden_states: Sequence[Tensor], embeddings: Tensor, weights: Tensor, batch: Batch
    ) -> dict[str, Tensor]:
        """Return the cross-entropy of the target-speaker head, given disturbed voices.

        `embeddings` (B, S, D) and their `weights` (B, S) are those of all local speakers. A voice
        of another conversation comes in addition: it is never active.
        """
        head, settings = self.heads.target, self.settings
        if head is None:
            return {}
        windows, speakers = self.sizes or _sizes_of(batch)
        kept = torch.rand(len(weights), 1, device=weights.device) >= settings.target_missing
        all_of = conversation_voices(embeddings, weights, batch.voices, windows, speakers)
        some_of = conversation_voices(embeddings, weights * kept, batch.voices, windows, speakers)
        voices = torch.where(some_of[1][..., None], some_of[0], all_of[0])
        blend = settings.target_blend * torch.rand_like(voices[..., :1])
        voices = F.normalize(voices + blend * voices.roll(1, dims=1), dim=-1)
        strange = voices.roll(1, dims=0)[:, :1]
        drawn = torch.rand(all_of[1].shape, device=voices.device)
        known = F.pad(all_of[1] & (drawn >= settings.target_unknown), (0, 1), value=True)
        voices = torch.cat([voices, strange], dim=1)  # (conversations, speakers + 1, D)
        noise = torch.randn_like(voices) * voices.shape[-1] ** -0.5
        length = settings.target_noise * torch.rand_like(voices[..., :1])
        voices = F.normalize(voices + length * noise, dim=-1)
        active = conversation_activities(batch.activities, batch.voices, windows, speakers)
        active = F.pad(active, (0, 1))
        with in_bfloat16(self.device.type, wanted=settings.bfloat16):
            features = head.features(hidden_states)
            stretches = max(windows // settings.target_windows, 1)
            stretches = stretches if windows % stretches == 0 else 1
            features = features.reshape(len(voices) * stretches, -1, features.shape[-1])
            logits = head(
                features,
                voices.repeat_interleave(stretches, dim=0),
                known.repeat_interleave(stretches, dim=0),
            )  # (conversations * stretches, windows * T / stretches, speakers + 1)
            logits = logits.reshape(active.shape)
        counted = known[:, None].expand_as(active)
        each = F.binary_cross_entropy_with_logits(logits, active, reduction="none")
        loss = (each * counted).sum() / counted.sum()
        wrong = ((logits > 0) != (active > 0.5)) & counted
        return {"target": loss, "target_error": wrong.sum() / (active * counted).sum().clamp(min=1)}

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the weighted sum of the losses."""
        losses = self.losses(batch)
        self.log_dict(losses)
        return self.weighted(losses)

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the sum of the losses by the weights of the settings."""
        settings = self.settings
        return (
            losses["segmentation"]
            + settings.teacher_weight * losses["teacher"]
            + settings.class_weight * losses["classes"]
            + settings.linking_weight * losses["linking"]
            + settings.target_weight * losses.get("target", losses["linking"].detach() * 0.0)
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """As `optimizer_of` says."""
        return optimizer_of(self, self.encoder, self.settings)

    def _class_loss(self, embeddings: Tensor, classes: Tensor) -> Tensor:
        """AAM-softmax over the training speakers (arXiv 1906.07317); 0 without any speaker.

        `embeddings` (B, S, D), `classes` (B, S) are -1 where they do not count.
        """
        known = classes >= 0
        if not self.settings.class_weight or not known.any():
            return self.voices.sum() * 0.0
        classes = classes[known]
        cosines = F.linear(embeddings[known], F.normalize(self.voices, dim=-1))
        share = min(1.0, 2.0 * self.global_step / self.settings.steps)
        margin = AdditiveAngularMargin(self.settings.margin * share, self.settings.scale)
        loss: Tensor = LogSoftmaxWrapper(margin)(cosines[:, None], classes[:, None])
        return loss


def _sizes_of(batch: Batch) -> Sizes:
    """Return the sizes of this one batch."""
    windows = int((batch.conversations == batch.conversations[0]).sum())
    return Sizes(windows, max(int(batch.voices.max()) + 1, 1))


class VectorClusteringTask(lightning.LightningModule):
    """Training of EEND with vector clustering: activities, and vectors that tell speakers apart."""

    def __init__(
        self,
        encoder: WavLM,
        heads: VectorClusteringHeads,
        classes: int,
        settings: TaskSettings,
    ) -> None:
        super().__init__()
        self.encoder, self.heads, self.settings = encoder, heads, settings
        size = heads.embedding_size
        self.voices = nn.Parameter(torch.randn(classes, size) / size**0.5)
        self.distance = nn.Parameter(torch.tensor(DISTANCE))

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return each part of the objective, and how many frames are right."""
        hidden_states = encode(self.encoder, batch.waveforms, self.settings)
        logits, vectors = self.heads(hidden_states)
        cross_entropy, order = permutation_free_binary_cross_entropy(logits, batch.activities)
        reference = batch.activities.gather(2, order[:, None].expand_as(batch.activities))
        classes = batch.classes.gather(1, order)  # (B, S)
        known = (classes >= 0) & (reference.sum(dim=1) >= self.settings.least_speech)
        wrong = ((logits > 0) != (reference > 0.5)).sum() / reference.sum().clamp(min=1)
        return {
            "segmentation": cross_entropy.mean(),
            "classes": vector_loss(vectors[known], classes[known], self.voices, *self.distance),
            "frame_error": wrong,
        }

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the weighted sum of the losses: 0.03 of vectors in the paper, 0.01 later."""
        losses = self.losses(batch)
        self.log_dict(losses)
        weight = self.settings.class_weight
        return (1.0 - weight) * losses["segmentation"] + weight * losses["classes"]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """As `optimizer_of` says."""
        return optimizer_of(self, self.encoder, self.settings)


Task = DiarizationTask | VectorClusteringTask
"""How either form of the heads is trained."""


def build_task(encoder: WavLM, heads: Heads, classes: int, settings: TaskSettings) -> Task:
    """Return the task for the form of the heads, for `classes` training speakers."""
    if isinstance(heads, VectorClusteringHeads):
        return VectorClusteringTask(encoder, heads, classes, settings)
    return DiarizationTask(encoder, heads, classes, settings)
