"""How encoder and diarization heads are trained together.

B batch, N samples, T frames, S local speakers, D embedding size.
"""

from typing import NamedTuple

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from pydantic import Field
from speechbrain.nnet.losses import AdditiveAngularMargin, LogSoftmaxWrapper
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.config import Settings
from wavlm_meeting.diarization.loss import (
    linking_loss,
    permutation_free_cross_entropy,
    teacher_distance,
)
from wavlm_meeting.diarization.model import DiarizationHeads
from wavlm_meeting.wavlm.model import WavLM

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
    """Whether the encoder's products run in bfloat16; worth it where the hardware has them."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; it then falls as a cosine."""
    weight_decay: float = Field(0.01, ge=0)
    """Of AdamW."""
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
    least_speech: int = Field(25, ge=1)
    """Frames that a speaker must be heard alone for their embedding to be trained."""


class DiarizationTask(lightning.LightningModule):
    """Joint training: who is active when, and whose voice it is."""

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
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.settings.bfloat16):
            hidden_states = self.encoder(batch.waveforms).hidden_states
        hidden_states = tuple(states.float() for states in hidden_states)
        log_probabilities = self.heads.segmentation(hidden_states)
        cross_entropy, order = permutation_free_cross_entropy(
            log_probabilities, batch.activities, self.heads.segmentation.powerset
        )
        reference = batch.activities.gather(2, order[:, None].expand_as(batch.activities))
        predicted = self.heads.segmentation.powerset[log_probabilities.argmax(dim=-1)]
        wrong = (predicted - reference).abs().sum() / reference.sum()

        alone = batch.activities * (batch.activities.sum(dim=-1, keepdim=True) == 1)
        masks = alone.transpose(1, 2)  # (B, S, T)
        heard = masks.sum(dim=-1) >= self.settings.least_speech  # (B, S)
        embeddings = self.heads.embedding(hidden_states, masks)[heard]  # (heard, D)
        teacher = batch.teacher[heard]
        distance = teacher_distance(self.to_teacher(embeddings), teacher, teacher.any(dim=-1))
        classes = batch.classes[heard]
        known = classes >= 0
        cosines = F.linear(embeddings[known], F.normalize(self.voices, dim=-1))
        return {
            "segmentation": cross_entropy.mean(),
            "teacher": distance,
            "classes": self._class_loss(cosines, classes[known]),
            "linking": linking_loss(
                embeddings,
                batch.voices[heard],
                batch.conversations[:, None].expand_as(heard)[heard],
                *self.linking,
            ),
            "frame_error": wrong,
        }

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the weighted sum of the losses."""
        settings = self.settings
        losses = self.losses(batch)
        self.log_dict(losses)
        return (
            losses["segmentation"]
            + settings.teacher_weight * losses["teacher"]
            + settings.class_weight * losses["classes"]
            + settings.linking_weight * losses["linking"]
        )

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a linear rise and a cosine fall of the learning rate; no decay on vectors."""
        settings = self.settings
        first = self.encoder.frontend.stack()[0].conv.weight
        matrices = [p for p in self.parameters() if p.ndim > 1 and p is not first]
        vectors = [p for p in self.parameters() if p.ndim <= 1]
        optimizer = torch.optim.AdamW(
            [
                {"params": [first], "weight_decay": settings.weight_decay},
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
        )
        scheduler = torch.optim.lr_scheduler.OneCycleLR(
            optimizer,
            max_lr=[
                settings.learning_rate * settings.first_convolution,
                settings.learning_rate,
                settings.learning_rate,
            ],
            total_steps=settings.steps + 1,
            pct_start=settings.warmup,
            cycle_momentum=False,
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _class_loss(self, cosines: Tensor, classes: Tensor) -> Tensor:
        """AAM-softmax over the training speakers (arXiv 1906.07317); 0 without any speaker."""
        if not len(classes):
            return cosines.sum()
        share = min(1.0, 2.0 * self.global_step / self.settings.steps)
        margin = AdditiveAngularMargin(self.settings.margin * share, self.settings.scale)
        loss: Tensor = LogSoftmaxWrapper(margin)(cosines[:, None], classes[:, None])
        return loss
