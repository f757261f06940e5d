"""How a student learns its teacher's hidden states, with gates or without.

B batch, N samples.
"""

from collections.abc import Sequence
from typing import Any, Protocol

import lightning
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor, nn

from wavlm_meeting.compression.distance import Distances, distances
from wavlm_meeting.compression.gated import gated_states
from wavlm_meeting.compression.gates import Gates
from wavlm_meeting.compression.groups import count_parameters, group_sizes
from wavlm_meeting.compression.settings import GateSettings, ObjectiveSettings, StageSettings
from wavlm_meeting.devices import in_bfloat16
from wavlm_meeting.errors import TrainingError
from wavlm_meeting.wavlm.model import WavLM


class Heard(Protocol):
    """What a batch has to have; any from `pretraining` will do."""

    waveforms: Tensor
    """(B, N) float32 at 16 kHz, zero after `lengths`."""
    lengths: Tensor
    """(B,) samples."""


class SizeConstraint(nn.Module):
    """An augmented Lagrangian for the share of parameters that goes (arXiv 1910.04732, section 3).

    Added to the loss is m1 (s - t) + m2 (s - t)^2, where s is the expected share, t the one to
    reach; the multipliers m1 and m2 rise by the gradient with which all else falls.
    """

    def __init__(self, whole: int, target: float) -> None:
        super().__init__()
        self.whole, self.target = whole, target
        self.multipliers = nn.Parameter(torch.zeros(2))

    def forward(self, expected: Tensor, progress: float) -> tuple[Tensor, Tensor]:
        """Return what is added to the loss, and s; t grows with `progress` from 0 to 1."""
        share = 1 - expected / self.whole
        missed = share - progress * self.target
        added = self.multipliers[0] * missed + self.multipliers[1] * missed.square()
        return added, share


class DistillationTask(lightning.LightningModule):
    """Hidden states of a teacher, learned by a student.

    Without `gates` the student is what it is; with them they learn which of its units to keep so
    that a share of `remaining` parameters is left. Neither of the two encoders drops anything out.
    """

    def __init__(
        self,
        teacher: WavLM,
        student: WavLM,
        settings: StageSettings,
        objective: ObjectiveSettings,
        *,
        bfloat16: bool = False,
        gates: Gates | None = None,
        remaining: float = 1.0,
        gate_settings: GateSettings | None = None,
    ) -> None:
        super().__init__()
        # Neither a checkpoint nor the optimiser has a place for the teacher.
        self._teacher = [teacher.eval().requires_grad_(requires_grad=False)]
        self.student = student.eval().requires_grad_(requires_grad=True)
        student.mask_embedding.requires_grad = False  # nothing is masked here
        student.recompute = False  # scaled weights are there for the forward pass alone
        self.settings, self.objective, self.halved = settings, objective, bfloat16
        self.gates, self.gate_settings = gates, gate_settings or GateSettings()
        self.constraint = None
        if gates is not None:
            config = student.config
            whole = count_parameters(config, group_sizes(config))
            self.constraint = SizeConstraint(whole, 1 - remaining)

    def on_fit_start(self) -> None:
        """Bring the teacher to where the student is."""
        self._teacher[0].to(self.device)

    def distances(self, batch: Heard) -> Distances:
        """Compare the chosen hidden states of teacher and student."""
        (teacher,) = self._teacher
        with in_bfloat16(batch.waveforms.device.type, wanted=self.halved):
            with torch.no_grad():
                target = teacher(batch.waveforms, batch.lengths)
            if self.gates is None:
                found = self.student(batch.waveforms, batch.lengths).hidden_states
            else:
                found = gated_states(self.student, self.gates(), batch.waveforms, batch.lengths)
        chosen = self.objective.states or range(len(target.hidden_states))
        return distances(
            [found[n] for n in chosen],
            [target.hidden_states[n] for n in chosen],
            target.frame_lengths,
        )

    def training_step(self, batch: Heard, _: int) -> Tensor:
        """Return the loss; raises TrainingError if it is not finite."""
        found = self.distances(batch)
        l1, cosine = found.l1.mean(), found.cosine.mean()
        loss = self.objective.l1_weight * l1 + self.objective.cosine_weight * (1 - cosine)
        logged = {"loss/distillation": loss, "loss/l1": l1, "cosine": cosine}
        if self.gates is not None and self.constraint is not None:
            rise = self.gate_settings.rise * self.settings.steps
            progress = min(1.0, self.global_step / rise)
            added, share = self.constraint(self.gates.expected_parameters(), progress)
            loss = loss + added
            logged["size"] = 1 - share
        self.log_dict(logged)
        if not loss.isfinite():
            raise TrainingError(
                f"the loss is {float(loss)} at step {self.global_step}: lower the learning rate."
            )
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """AdamW; gates and multipliers have one rate throughout, and multipliers rise."""
        settings = self.settings
        weights = [each for each in self.student.parameters() if each.requires_grad]
        groups: list[dict[str, Any]] = [{"params": weights}]
        if self.gates is not None and self.constraint is not None:
            own = {"lr": self.gate_settings.learning_rate, "weight_decay": 0.0}
            groups.append({"params": list(self.gates.parameters()), **own})
            rising = list(self.constraint.parameters())
            groups.append({"params": rising, "maximize": True, **own})
        optimizer = torch.optim.AdamW(
            groups, lr=settings.learning_rate, weight_decay=settings.weight_decay
        )
        rise = settings.warmup * settings.steps

        def share(step: int) -> float:
            if step < rise:
                return (step + 1) / (rise + 1)
            return max(0.0, (settings.steps - step) / max(1.0, settings.steps - rise))

        # With a rate that falls, a short run would never come to its target.
        rates = [share, *(lambda _: 1.0 for _ in groups[1:])]
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, rates)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


@torch.no_grad()
def mean_cosines(teacher: WavLM, student: WavLM, batches: Sequence[Heard]) -> list[float]:
    """Return the cosine between the two in each hidden state, over some batches."""
    total = torch.zeros(teacher.config.layers + 1)
    for batch in batches:
        target = teacher(batch.waveforms, batch.lengths)
        found = student(batch.waveforms, batch.lengths)
        own = distances(found.hidden_states, target.hidden_states, target.frame_lengths)
        total += own.cosine
    return [float(value) for value in total / len(batches)]
