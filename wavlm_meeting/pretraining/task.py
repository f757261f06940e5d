"""How an encoder is pretrained, a step at a time.

B batch, N samples, T frames, K noises.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import lightning
import numpy as np
import torch
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.strategies import ModelParallelStrategy
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import Optimizer

from wavlm_meeting.devices import has_bfloat16, in_bfloat16
from wavlm_meeting.errors import TrainingError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.pretraining.masking import draw_masks
from wavlm_meeting.pretraining.mixing import draw_mixing, mix
from wavlm_meeting.pretraining.objective import Losses, MaskedPrediction, Share
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.wavlm.encoder import EncoderLayer
from wavlm_meeting.wavlm.filterbank import start_as_filterbank
from wavlm_meeting.wavlm.model import WavLM
from wavlm_meeting.wavlm.sharding import shard_layers

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
    seed, the process and the batch's number: a run that goes on from a checkpoint does what it
    would have done. Which layers are dropped is the same in all processes, which must not wait for
    each other. `report` is the folder for the ids of a broken batch.
    """

    running_loss: Tensor

    def __init__(
        self, settings: PretrainingSettings, classes: Sequence[int], report: Path = Path()
    ) -> None:
        super().__init__()
        torch.manual_seed(settings.seed)
        self.settings, self.report = settings, report
        # Compiled layers take the dense bias: a loop over blocks cannot be compiled as one graph.
        encoder = WavLM(settings.encoder, attention="dense" if settings.trainer.compile else "auto")
        encoder.recompute = settings.trainer.recompute
        if settings.start == "filterbank":
            start_as_filterbank(encoder.frontend)
        self.model = MaskedPrediction(encoder, classes, settings.objective)
        self.register_buffer("running_loss", torch.tensor(float("nan")))
        self.skipped = 0
        self._batches = 0  # of the update that is being made
        self._broken = False

    def configure_model(self) -> None:
        """Shard the model over processes where the strategy says so, and compile its layers."""
        layers = self.model.encoder.layers
        strategy = self.trainer.strategy
        if isinstance(strategy, ModelParallelStrategy):
            wanted = self.settings.optimizer.bfloat16
            half = torch.bfloat16 if wanted and has_bfloat16(self.device.type) else None
            shard_layers(self.model, layers, strategy.device_mesh["data_parallel"], half)
        if self.settings.trainer.compile:
            self.compile_layers()

    def compile_layers(self) -> None:
        """Compile each layer by itself: they are alike, and what is between them is cheap."""
        for layer in self.model.encoder.layers:
            layer.compile()

    def losses(
        self, batch: PretrainingBatch, share: Share | None = None, kept: list[bool] | None = None
    ) -> Losses:
        """Mix, mask and predict; what is drawn comes from the global generators."""
        settings, device = self.settings, batch.waveforms.device
        plan = draw_mixing(batch.lengths, settings.mixing, batch.noise_lengths, _generator(device))
        heard = mix(batch.waveforms, batch.lengths, plan, batch.noises, batch.noise_lengths)
        config = settings.encoder
        frame_lengths = (batch.lengths - config.receptive_field) // config.hop + 1
        frames = config.frame_count(batch.waveforms.shape[1])
        masks = draw_masks(frame_lengths, frames, settings.masks, _generator(device))
        with in_bfloat16(device.type, wanted=settings.optimizer.bfloat16):
            found: Losses = self.model(heard, batch.lengths, masks, batch.labels, share, kept)
        return found

    def training_step(self, batch: PretrainingBatch, _: int) -> Tensor:
        """Return the loss.

        Raises TrainingError for a loss that is not finite or a spike, unless such are skipped.
        """
        number = self.global_step * self.settings.trainer.accumulate + self._batches
        self._batches += 1
        alike = torch.Generator().manual_seed(_seed_of(self.settings.seed, number))
        kept = self.model.encoder.draw_kept(alike)
        torch.manual_seed(_seed_of(self.settings.seed, number, self.global_rank))
        losses = self.losses(batch, self._mean_over_processes, kept)
        shared = self._mean_over_processes(torch.stack(losses).detach().double())
        found = dict(zip(Losses._fields, shared.float(), strict=True))
        self.log_dict({f"loss/{name}": value for name, value in found.items()} | self._watched())
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"])
        if self._is_broken(found["total"]):
            self._report(batch, float(found["total"]))
        return losses.total

    def optimizer_step(
        self,
        epoch: int,  # noqa: ARG002 - Lightning gives it
        batch_idx: int,  # noqa: ARG002 - and this
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Move the weights, unless one of the update's batches was broken."""
        if optimizer_closure is not None:
            optimizer_closure()
        if not self._broken:
            optimizer.step()
        self.skipped += self._broken
        self._batches, self._broken = 0, False

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Adam (0.9, 0.98), eps 1e-6, decoupled decay; linear rise, linear fall."""
        settings = self.settings.optimizer
        first = self.model.encoder.frontend.stack()[0].conv.weight
        rest = [parameter for parameter in self.parameters() if parameter is not first]
        slowly = settings.first_convolution * settings.learning_rate
        groups: list[dict[str, Any]] = [{"params": rest}, {"params": [first], "lr": slowly}]
        optimizer = torch.optim.AdamW(
            groups,
            lr=settings.learning_rate,
            betas=(0.9, 0.98),
            eps=1e-6,
            weight_decay=settings.weight_decay,
            fused=True,
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

    def _mean_over_processes(self, value: Tensor) -> Tensor:
        """Average over all processes, so that each of them finds the same."""
        if self.trainer.world_size == 1:
            return value
        mean: Tensor = self.trainer.strategy.reduce(value, reduce_op="mean")
        return mean

    def _is_broken(self, loss: Tensor) -> bool:
        """Tell whether a loss is not finite or far above the running mean, and follow the mean."""
        if not loss.isfinite():
            return True
        mean = self.running_loss
        if self.global_step >= SETTLED and loss > self.settings.guard.spike * mean:
            return True
        self.running_loss = loss if mean.isnan() else RUNNING * mean + (1 - RUNNING) * loss
        return False

    def _report(self, batch: PretrainingBatch, loss: float) -> None:
        """Write down what was in a broken batch, then stop or have the update left out."""
        path = self.report / f"broken-step-{self.global_step}-rank-{self.global_rank}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        text = json.dumps({"loss": repr(loss), "ids": list(batch.ids)}, indent=2)
        with atomic_write(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")
        if not self.settings.guard.skip:
            raise TrainingError(
                f"loss {loss:g} at step {self.global_step}: the ids of the batch are in {path}; "
                "look at them, lower the learning rate, or set guard.skip = true."
            )
        self._broken = True

    @torch.no_grad()
    def _watched(self) -> dict[str, Tensor]:
        """Return how far the position bias has grown, and how its gates have moved apart."""
        encoder = self.model.encoder
        if encoder.config.position_bias != "gated":
            return {}
        layers = [cast("EncoderLayer", layer).attention for layer in encoder.layers]
        scales = torch.stack([_whole(layer.gate_scale) for layer in layers])  # (L, H)
        # A gate for an input of zeros: what is left when nothing is known about the frame.
        biases = torch.stack([_whole(layer.gate.bias) for layer in layers])  # (L, 8)
        a, b = biases.view(len(layers), 2, 4).sum(dim=2).sigmoid().unbind(1)
        gates = a[:, None] * (b[:, None] * scales - 1) + 2
        table = _whole(encoder.bias_table.weight)
        return {
            "gate/scale_mean": scales.mean(),
            "gate/scale_deviation": scales.std(correction=0),
            "gate/at_rest_mean": gates.mean(),
            "gate/at_rest_least": gates.min(),
            "gate/at_rest_most": gates.max(),
            "gate/bias_rms": table.square().mean().sqrt(),
        }


def _whole(parameter: Tensor) -> Tensor:
    """Return a parameter in one piece, wherever its shards lie."""
    gather = getattr(parameter, "full_tensor", None)
    return parameter if gather is None else cast("Tensor", gather())


def _generator(device: torch.device) -> torch.Generator:
    """Return a generator on `device`, seeded by the global one."""
    seed = int(torch.randint(1 << 62, ()))
    return torch.Generator(device).manual_seed(seed)


def _seed_of(*numbers: int) -> int:
    """Mix numbers into one seed, far from those of other numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)
