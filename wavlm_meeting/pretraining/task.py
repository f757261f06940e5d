"""How an encoder is pretrained, a step at a time.

B batch, N samples, T frames, K noises.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from wavlm_meeting.errors import TrainingError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.pretraining.masking import draw_masks
from wavlm_meeting.pretraining.mixing import draw_mixing, mix
from wavlm_meeting.pretraining.objective import Losses, MaskedPrediction
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.encoder import EncoderLayer
from wavlm_meeting.wavlm.model import WavLM

RUNNING = 0.98
"""Share of the old value in the running mean of the loss, which spikes are told by."""
SETTLED = 100
"""Steps before a spike can be told from the falling loss of the beginning."""


class PretrainingBatch(NamedTuple):
    """Utterances with their labels, and noises to mix them with."""

    waveforms: Tensor
    """(B, N) float32 at 16 kHz, zero after `lengths`."""
    lengths: Tensor
    """(B,) samples."""
    labels: Sequence[Tensor]
    """(B, T) for each label set, -1 where there is none."""
    ids: Sequence[str]
    """Where each utterance comes from, for the report on a broken batch."""
    noises: Tensor | None = None
    """(K, M), zero after `noise_lengths`."""
    noise_lengths: Tensor | None = None
    """(K,) samples."""


class PretrainingTask(lightning.LightningModule):
    """Masked speech denoising and prediction.

    Everything random in a step (mixing, masks, dropout) is drawn from a seed made of the run's
    seed, the process and the step's number: a run that goes on from a checkpoint does what it would
    have done. `report` is the folder for the ids of a broken batch.
    """

    running_loss: Tensor

    def __init__(
        self, settings: PretrainingSettings, classes: Sequence[int], report: Path = Path()
    ) -> None:
        super().__init__()
        torch.manual_seed(settings.seed)
        self.settings, self.report = settings, report
        self.model = MaskedPrediction(WavLM(settings.encoder), classes, settings.objective)
        self.register_buffer("running_loss", torch.tensor(float("nan")))
        self.skipped = 0

    def losses(self, batch: PretrainingBatch) -> Losses:
        """Mix, mask and predict; what is drawn comes from the global generators."""
        settings, device = self.settings, batch.waveforms.device
        plan = draw_mixing(batch.lengths, settings.mixing, batch.noise_lengths, _generator(device))
        heard = mix(batch.waveforms, batch.lengths, plan, batch.noises, batch.noise_lengths)
        config = settings.encoder
        frame_lengths = (batch.lengths - config.receptive_field) // config.hop + 1
        frames = config.frame_count(batch.waveforms.shape[1])
        masks = draw_masks(frame_lengths, frames, settings.masks, _generator(device))
        with torch.autocast(device.type, torch.bfloat16, enabled=settings.optimizer.bfloat16):
            found: Losses = self.model(heard, batch.lengths, masks, batch.labels)
        return found

    def training_step(self, batch: PretrainingBatch, _: int) -> Tensor | None:
        """Return the loss, or None for a batch that is passed over.

        Raises TrainingError for a loss that is not finite or a spike, unless such are skipped.
        """
        torch.manual_seed(_step_seed(self.settings.seed, self.global_rank, self.global_step))
        losses = self.losses(batch)
        self.log_dict({name: value.detach() for name, value in losses._asdict().items()})
        self.log("gate", self._mean_gate_scale())
        self.log("seconds", batch.lengths.sum() / SAMPLE_RATE)
        if self._is_broken(losses.total.detach()):
            self._pass_over(batch, float(losses.total))
            return None
        return losses.total

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam (0.9, 0.98), eps 1e-6, decoupled decay; linear rise, linear fall."""
        settings = self.settings.optimizer
        optimizer = torch.optim.AdamW(
            self.parameters(),
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=settings.weight_decay,
        )
        rise = settings.warmup * settings.steps

        def share(step: int) -> float:
            if step < rise:
                return (step + 1) / (rise + 1)
            return max(0.0, (settings.steps - step) / max(1.0, settings.steps - rise))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }

    def _is_broken(self, loss: Tensor) -> bool:
        """Tell whether a loss is not finite or far above the running mean, and follow the mean."""
        if not loss.isfinite():
            return True
        mean = self.running_loss
        if self.global_step >= SETTLED and loss > self.settings.guard.spike * mean:
            return True
        self.running_loss = loss if mean.isnan() else RUNNING * mean + (1 - RUNNING) * loss
        return False

    def _pass_over(self, batch: PretrainingBatch, loss: float) -> None:
        """Write down what was in a broken batch, then stop or go on."""
        path = self.report / f"broken-step-{self.global_step}-rank-{self.global_rank}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"loss": repr(loss), "ids": list(batch.ids)}, indent=2)
        with atomic_write(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        if not self.settings.guard.skip or self.trainer.world_size > 1:
            raise TrainingError(
                f"loss {loss:g} at step {self.global_step}: the ids of the batch are in {path}; "
                "look at them, lower the learning rate, or, in a single process, set guard.skip = "
                "true."
            )
        self.skipped += 1

    def _mean_gate_scale(self) -> float:
        """Return the mean of the learned scales of the position bias's gate; 0 without a gate."""
        if self.settings.encoder.position_bias != "gated":
            return 0.0
        layers = [cast("EncoderLayer", layer) for layer in self.model.encoder.layers]
        scales = torch.stack([layer.attention.gate_scale for layer in layers])
        return float(scales.detach().mean())


def _generator(device: torch.device) -> torch.Generator:
    """Return a generator on `device`, seeded by the global one."""
    seed = int(torch.randint(1 << 62, ()))
    return torch.Generator(device).manual_seed(seed)


def _step_seed(seed: int, rank: int, step: int) -> int:
    """Mix three numbers into one seed, far from those of other steps and processes."""
    return int(np.random.SeedSequence((seed, rank, step)).generate_state(1, np.uint64)[0] >> 1)
