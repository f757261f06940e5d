"""How a head on filterbanks learns to say what the teacher says.

B batch, T frames, C numbers of a frame, D embedding size.
"""

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from wavlm_meeting.devices import in_bfloat16
from wavlm_meeting.errors import TrainingError
from wavlm_meeting.heads.speaker import SpeakerHead
from wavlm_meeting.optimizer import MuonAdamW
from wavlm_meeting.recipes.tiny.settings import VoiceSettings
from wavlm_meeting.recipes.tiny.voice_data import VoiceBatch


class VoiceTask(lightning.LightningModule):
    """One minus the cosine between what head and teacher say of each stretch."""

    def __init__(self, head: SpeakerHead, settings: VoiceSettings) -> None:
        super().__init__()
        self.head, self.settings = head, settings

    def on_fit_start(self) -> None:
        """Compile the head for each length that stretches have."""
        if self.settings.compile:
            self.head.compile(dynamic=False)

    def training_step(self, batch: VoiceBatch, _: int) -> Tensor:
        """Return the mean distance; raises TrainingError if it is not finite."""
        with in_bfloat16(batch.features.device.type, wanted=True):
            embeddings = self.head([batch.features])
        cosines = F.cosine_similarity(embeddings.float(), batch.targets, dim=1)
        known = batch.targets.any(dim=1).float()
        loss = ((1 - cosines) * known).sum() / known.sum().clamp(min=1)
        self.log("loss/voices", loss)
        if not loss.isfinite():
            raise TrainingError(
                f"the loss is {float(loss)} at step {self.global_step}: lower the learning rate."
            )
        return loss

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Muon for matrices and AdamW for the rest; the rate rises, then falls linearly to 0."""
        settings = self.settings
        matrices, others = (
            [each for each in self.head.parameters() if (each.ndim == 2) is flat]
            for flat in (True, False)
        )
        common = {"lr": settings.learning_rate, "weight_decay": 0.0}
        decaying = {**common, "weight_decay": settings.weight_decay}
        optimizer = MuonAdamW([{"params": matrices, **decaying}], [{"params": others, **common}])
        cycle = settings.steps / settings.cycles
        rise = max(1.0, settings.warmup * cycle)

        def share(step: int) -> float:
            done = step % cycle
            return min((done + 1) / rise, 1 - done / cycle)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }
