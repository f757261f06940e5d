"""How a speaker model is trained; frozen, joint and large-margin training are settings of it.

B crops, N samples, D embedding size, E size of the teacher's embeddings.
"""

import math
from typing import NamedTuple, Self

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.optim import Optimizer

from wavlm_meeting.config import Settings
from wavlm_meeting.devices import in_bfloat16
from wavlm_meeting.errors import TrainingError
from wavlm_meeting.heads.speaker import WholeVoice
from wavlm_meeting.verification.loss import SpeakerClasses, margin_loss, pair_loss, teacher_loss
from wavlm_meeting.verification.model import SpeakerModel
from wavlm_meeting.wavlm.model import WavLM


class SpeakerBatch(NamedTuple):
    """Crops of one length and whose voices they are."""

    waveforms: Tensor
    """(B, N) float32 at 16 kHz."""
    classes: Tensor
    """(B,): number of a training speaker, or -1 where nobody knows."""
    teacher: Tensor
    """(B, E): the teacher's embedding, of any length; zeros where there is none."""


class TaskSettings(Settings):
    """Objective and optimiser.

    Defaults are those of WavLM's first stage, where its paper states them (arXiv 2110.13900). The
    second stage trains the encoder too (`freeze_encoder = false`); the third goes on with
    crops of 6 s, a margin of 0.5 from the first step on and no inter-top-k penalty.
    """

    steps: int = Field(100_000, ge=1)
    """Updates of the weights."""
    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of the steps over which the rate rises linearly; it then falls as a cosine."""
    last_rate: float = Field(0.0, ge=0, le=1)
    """What is left of the rate at the end, as a share of the highest."""
    weight_decay: float = Field(0.01, ge=0)
    """Of AdamW; matrices and convolutions alone decay."""
    gradient_clip: float = Field(3.0, gt=0)
    """Longest gradient."""
    freeze_encoder: bool = True
    """Whether the encoder stays as it is."""
    freeze_frontend: bool = False
    """Whether its convolutions stay as they are where the rest of it trains."""
    encoder_rate: float = Field(0.1, gt=0)
    """Learning rate of the encoder as a share of that of the head."""
    first_convolution: float = Field(1.0, ge=0)
    """Learning rate of its first convolution as a share of that of the encoder."""
    recompute: bool = False
    """Keep no activations inside of the encoder's layers and compute them again for gradients."""
    bfloat16: bool = False
    """Whether the encoder's products run in bfloat16, on devices that have such."""
    margin: float = Field(0.2, ge=0, lt=math.pi)
    """Angular margin of the right class (AAM-softmax)."""
    margin_rise: tuple[float, float] = (0.1, 0.1)
    """Shares of the steps at which the margin begins to rise from 0, and is whole; (0, 0) for a
    margin that is whole at once."""
    scale: float = Field(32.0, gt=0)
    """Scale of the cosines."""
    sub_centres: int = Field(3, ge=1)
    """Directions of each class, of which the nearest counts (of VoxCeleb systems, 3)."""
    top_k: int = Field(5, ge=0)
    """Nearest wrong classes that a further margin makes harder; 0 is none."""
    top_k_margin: float = Field(0.1, ge=0)
    """That margin."""
    class_weight: float = Field(1.0, ge=0)
    """Weight of the classes."""
    pair_weight: float = Field(0.0, ge=0)
    """Weight of finding each voice's speaker among the others of a batch: for speakers with few
    recordings. Takes two crops of a speaker."""
    pair_scale: float = Field(15.0, gt=0)
    """Scale of the cosines in it."""
    teacher_weight: float = Field(0.0, ge=0)
    """Weight of the distance to a teacher's embeddings through a linear map."""

    @model_validator(mode="after")
    def _check_margin_rise(self) -> Self:
        begin, end = self.margin_rise
        if not 0 <= begin <= end <= 1:
            message = f"margin_rise ({begin:g}, {end:g}) must be two shares of the steps, in order"
            raise ValueError(message)
        return self


class SpeakerTask(lightning.LightningModule):
    """Classes of speakers, pairs and a teacher, on the embeddings of one model.

    Everything random in a step is drawn from a seed made of `seed`, the step and the process, so
    that a run that goes on from a checkpoint does what it would have done.
    """

    def __init__(
        self,
        model: SpeakerModel,
        classes: int,
        settings: TaskSettings,
        teacher_size: int = 0,
        seed: int = 1,
    ) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.model, self.settings, self.seed = model, settings, seed
        self.classes = SpeakerClasses(classes, model.size, settings.sub_centres)
        self.to_teacher = nn.Linear(model.size, teacher_size) if teacher_size else None
        self._batches = 0  # of the update that is being made
        model.requires_grad_()  # a loaded one is frozen
        if (encoder := self._encoder()) is not None:
            encoder.requires_grad_(not settings.freeze_encoder)
            encoder.frontend.requires_grad_(
                not (settings.freeze_encoder or settings.freeze_frontend)
            )
            encoder.mask_embedding.requires_grad = False  # nothing is masked here
            encoder.recompute = settings.recompute and not settings.freeze_encoder
        if isinstance(model.pooling, WholeVoice) and model.pooling.speech is not None:
            model.pooling.speech.requires_grad_(requires_grad=False)
        self.train()

    def on_train_start(self) -> None:
        """Keep a frozen encoder from dropping anything out."""
        if self.settings.freeze_encoder and (encoder := self._encoder()) is not None:
            encoder.eval()

    def losses(self, batch: SpeakerBatch, margin: float) -> dict[str, Tensor]:
        """Return the parts of the objective that have a weight, and how many crops are right."""
        settings = self.settings
        embeddings = self.embed(batch.waveforms)
        known = batch.classes >= 0
        voices, classes = embeddings[known], batch.classes[known]
        found: dict[str, Tensor] = {}
        if settings.class_weight:
            cosines = self.classes(voices)
            found["classes"] = margin_loss(
                cosines, classes, margin, settings.scale, settings.top_k, settings.top_k_margin
            )
            found["accuracy"] = (cosines.argmax(dim=1) == classes).float().mean()
        if settings.pair_weight:
            found["pairs"] = pair_loss(voices, classes, settings.pair_scale)
        if self.to_teacher is not None:
            found["teacher"] = teacher_loss(self.to_teacher(embeddings), batch.teacher)
        return found

    def embed(self, waveforms: Tensor) -> Tensor:
        """Embed crops (B, N): (B, D). Whatever the encoder runs in, the head runs in float32."""
        encoder, half = self._encoder(), self.settings.bfloat16
        if encoder is None or not half:
            embeddings: Tensor = self.model(waveforms)
            return embeddings
        learns = torch.is_grad_enabled() and not self.settings.freeze_encoder
        with torch.set_grad_enabled(learns), in_bfloat16(waveforms.device.type, wanted=half):
            states = encoder(waveforms).hidden_states
        return self.model.pooling(tuple(state.float() for state in states), None)

    def weighted(self, losses: dict[str, Tensor]) -> Tensor:
        """Return the sum of the parts, each times its weight."""
        settings = self.settings
        weights = {
            "classes": settings.class_weight,
            "pairs": settings.pair_weight,
            "teacher": settings.teacher_weight,
        }
        parts = [weight * losses[name] for name, weight in weights.items() if name in losses]
        return torch.stack(parts).sum()

    def margin_at(self, step: int) -> float:
        """Return the margin of a step."""
        settings = self.settings
        begin, end = (share * settings.steps for share in settings.margin_rise)
        if step >= end:
            return settings.margin
        return settings.margin * (step - begin) / (end - begin) if step > begin else 0.0

    def rate_at(self, step: int) -> float:
        """Return the learning rate of a step, as a share of the highest."""
        settings = self.settings
        rise = settings.warmup * settings.steps
        if step < rise:
            return (step + 1) / (rise + 1)
        fallen = min(1.0, (step - rise) / max(1.0, settings.steps - rise))
        return settings.last_rate + (1.0 - settings.last_rate) * (
            0.5 + 0.5 * math.cos(math.pi * fallen)
        )

    def training_step(self, batch: SpeakerBatch, _: int) -> Tensor:
        """Return the weighted sum of the losses; raises TrainingError if it is not finite."""
        step = self.global_step
        torch.manual_seed(_seed_of(self.seed, step, self._batches, self.global_rank))
        self._batches += 1
        margin = self.margin_at(step)
        losses = self.losses(batch, margin)
        total = self.weighted(losses)
        if not total.isfinite():
            raise TrainingError(
                f"loss {total.item():g} at step {step}: lower learning_rate or gradient_clip, and "
                "go on from the last checkpoint."
            )
        self.log_dict({f"loss/{name}": value for name, value in losses.items()}, sync_dist=True)
        rate = self.settings.learning_rate * self.rate_at(step)
        self.log_dict({"margin": margin, "learning_rate": rate})
        return total

    def on_before_optimizer_step(self, _: Optimizer) -> None:
        """The update is whole."""
        self._batches = 0

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW with a linear rise and a cosine fall; the encoder has a rate of its own."""
        settings = self.settings
        shares: dict[int, float] = {}
        if (encoder := self._encoder()) is not None:
            shares = {id(parameter): settings.encoder_rate for parameter in encoder.parameters()}
            first = encoder.frontend.stack()[0].conv.weight
            shares[id(first)] *= settings.first_convolution
        groups: dict[tuple[float, float], list[nn.Parameter]] = {}
        for parameter in self.parameters():
            if parameter.requires_grad:
                decay = settings.weight_decay if parameter.ndim > 1 else 0.0
                groups.setdefault((shares.get(id(parameter), 1.0), decay), []).append(parameter)
        optimizer = torch.optim.AdamW(
            [
                {"params": own, "lr": share * settings.learning_rate, "weight_decay": decay}
                for (share, decay), own in groups.items()
            ],
            betas=(0.9, 0.98),
        )
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.rate_at)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _encoder(self) -> WavLM | None:
        """Return the encoder that the model listens with, if it has one."""
        features = self.model.features
        return features if isinstance(features, WavLM) else None


def _seed_of(*numbers: int) -> int:
    """Mix numbers into one seed, far from those of other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
