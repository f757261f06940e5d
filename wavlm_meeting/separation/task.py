"""How the separation head is trained.

B batch, J talkers, N samples, T frames, F bins.
"""

from typing import Literal, NamedTuple

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from pydantic import Field
from torch import Tensor, nn

from wavlm_meeting.config import Settings
from wavlm_meeting.devices import in_bfloat16
from wavlm_meeting.optimizer import MuonAdamW
from wavlm_meeting.separation.loss import magnitude_losses, sdr_losses
from wavlm_meeting.separation.model import SeparationHead
from wavlm_meeting.separation.spectra import stft
from wavlm_meeting.wavlm.model import WavLM


class Batch(NamedTuple):
    """Windows, and what they are mixed from: the mixture is the sum of all images and the noise."""

    waveforms: Tensor
    """(B, N) float32 at 16 kHz."""
    images: Tensor
    """(B, J, N): each talker as the microphone hears them, zeros where there is none."""
    noise: Tensor
    """(B, N): what else it hears."""


class TaskSettings(Settings):
    """Objective and optimiser."""

    steps: int = Field(100_000, ge=1)
    """Updates of the weights."""
    objective: Literal["magnitude", "sdr"] = "magnitude"
    """Squared error of masked magnitudes, as in the paper; or signal to distortion in dB."""
    noise_weight: float = Field(1.0, ge=0)
    """Weight of the noise beside the talkers."""
    learning_rate: float = Field(1e-3, gt=0)
    """Highest learning rate of the head."""
    encoder_rate: float = Field(0.1, ge=0)
    """Learning rate of the encoder as a share of it, where the encoder is tuned."""
    frozen: bool = True
    """Whether the encoder stays as it is."""
    bfloat16: bool = False
    """Whether products run in bfloat16, on devices that have such."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the learning rate rises; it then falls as a cosine."""
    weight_decay: float = Field(0.01, ge=0)
    """Of matrices, each step as a share of the learning rate."""
    gradient_clip: float = Field(1.0, gt=0)
    """Longest gradient."""


class SeparationTask(lightning.LightningModule):
    """Masks that leave one talker each of a window; `encoder` is None for a head without one."""

    def __init__(self, encoder: WavLM | None, head: SeparationHead, settings: TaskSettings) -> None:
        super().__init__()
        self.encoder, self.head, self.settings = encoder, head, settings
        if encoder is not None:
            encoder.requires_grad_(not settings.frozen)
            encoder.mask_embedding.requires_grad = False  # nothing is masked here

    def on_train_start(self) -> None:
        """Keep a frozen encoder from dropping anything out."""
        if self.encoder is not None and self.settings.frozen:
            self.encoder.eval()

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Return the losses of talkers and noise."""
        fft, hop = self.head.fft, self.head.hop
        mixture = stft(batch.waveforms, fft, hop)  # (B, T, F)
        images, noise = stft(batch.images, fft, hop), stft(batch.noise, fft, hop)
        masks = self._masks(batch.waveforms, mixture)  # (B, J + 1, T, F)
        losses = sdr_losses if self.settings.objective == "sdr" else magnitude_losses
        found = losses(masks, mixture, images, noise)
        return dict(zip(("talkers", "noise"), found, strict=True))

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Return the weighted sum of the losses."""
        losses = self.losses(batch)
        self.log_dict(losses)
        return losses["talkers"] + self.settings.noise_weight * losses["noise"]

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Muon and AdamW with a linear rise and a cosine fall of the rate; vectors do not decay."""
        settings = self.settings
        groups: dict[tuple[float, bool], list[nn.Parameter]] = {}
        for name, parameter in self.named_parameters():
            if parameter.requires_grad:
                rate = settings.encoder_rate if name.startswith("encoder.") else 1.0
                key = (rate * settings.learning_rate, parameter.ndim == 2)
                groups.setdefault(key, []).append(parameter)
        matrices, others = (
            [
                {"params": own, "lr": rate, "weight_decay": settings.weight_decay * flat}
                for (rate, flat), own in groups.items()
                if flat is is_flat
            ]
            for is_flat in (True, False)
        )
        optimizer = MuonAdamW(matrices, others)
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

    def _masks(self, waveforms: Tensor, spectra: Tensor) -> Tensor:
        """Return the masks (B, J + 1, T, F), without gradients into a frozen encoder."""
        half = in_bfloat16(waveforms.device.type, wanted=self.settings.bfloat16)
        hidden_states: tuple[Tensor, ...] = ()
        if self.encoder is not None:
            learns = torch.is_grad_enabled() and not self.settings.frozen
            with torch.set_grad_enabled(learns), half:
                hidden_states = self.encoder(waveforms).hidden_states
        with half:
            masks: Tensor = self.head(spectra, hidden_states)
        return masks.float()
