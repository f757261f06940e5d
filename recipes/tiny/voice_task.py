"""How a speaker head on an encoder that stays as it is learns to say what the teacher says.

B batch, K pieces of a recording, T frames, C channels, D embedding size.
"""

import lightning
import torch
import torch.nn.functional as F
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor

from wavlm_meeting.devices import in_bfloat16
from wavlm_meeting.errors import TrainingError
from wavlm_meeting.optimizer import MuonAdamW
from wavlm_meeting.recipes.tiny.settings import VoiceSettings
from wavlm_meeting.recipes.tiny.voice_data import VoiceBatch
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.model import SpeakerModel


class VoiceTask(lightning.LightningModule):
    """One minus the cosine between what head and teacher say of each piece."""

    def __init__(self, model: SpeakerModel, settings: VoiceSettings) -> None:
        super().__init__()
        # Neither a checkpoint nor the optimiser has a place for the encoder.
        self._encoder = [model.features.eval().requires_grad_(requires_grad=False)]
        self.head, self.settings = model.pooling, settings

    def on_fit_start(self) -> None:
        """Bring the encoder to where the head is."""
        self._encoder[0].to(self.device)

    def training_step(self, batch: VoiceBatch, _: int) -> Tensor:
        """Return the mean distance; raises TrainingError if it is not finite."""
        (encoder,), kind = self._encoder, batch.waveforms.device.type
        with in_bfloat16(kind, wanted=True):
            with torch.no_grad():
                states = encoder(batch.waveforms).hidden_states  # (B, T, C) each
            embeddings = self.head([pieces_of(state, batch) for state in states], None)
        cosines = F.cosine_similarity(embeddings.float(), batch.targets.flatten(0, 1), dim=1)
        known = batch.targets.flatten(0, 1).any(dim=1).float()
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
        rise = max(1.0, settings.warmup * settings.steps)

        def share(step: int) -> float:
            return min((step + 1) / rise, max(0.0, 1 - step / settings.steps))

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, share)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": "step"},
        }


def pieces_of(state: Tensor, batch: VoiceBatch) -> Tensor:
    """Cut the pieces of a batch out of a hidden state (B, T, C): (B K, T', C)."""
    rate = state.shape[1] * SAMPLE_RATE / batch.waveforms.shape[1]  # frames a second
    frames = min(state.shape[1], round(float(batch.length_s) * rate))
    starts = (batch.begins_s * rate).round().long().clamp(0, state.shape[1] - frames)
    within = torch.arange(frames, device=state.device)
    rows = torch.arange(len(state), device=state.device)[:, None, None]
    return state[rows, starts[..., None] + within].flatten(0, 1)
