"""The map from voices to the teacher's embeddings, for a model that comes without it.

A bundle holds what inference needs, which this map is not. Begun at random beside a trained model,
it would pull the model's voices away until it has been learned again.

V voices, D embedding size.
"""

import logging
from collections.abc import Iterable

import torch
from torch import Tensor
from torch.nn import functional as F

from wavlm_meeting.diarization.task import Batch, DiarizationTask, alone, encode

log = logging.getLogger(__name__)

RIDGE = 0.01
"""Weight of the ridge, as a share of the embeddings' mean square."""


@torch.no_grad()
def fit_teacher_map(task: DiarizationTask, batches: Iterable[Batch]) -> None:
    """Set the task's map to the teacher by least squares (ridge regression) on what it hears.

    Windows with one voice are best: only voices that are heard alone count. Without any the map
    stays as it is.
    """
    pairs = [_voices(task, batch) for batch in batches]
    embeddings, teacher = (torch.cat(column).double() for column in zip(*pairs, strict=True))
    log.info("train: map to the teacher from %d voices", len(embeddings))
    if not len(embeddings):
        return
    centre, target = embeddings.mean(dim=0), teacher.mean(dim=0)
    centred = embeddings - centre
    covariance = centred.T @ centred  # (D, D)
    covariance.diagonal().add_(RIDGE * embeddings.square().sum() / embeddings.shape[1])
    weight = torch.linalg.solve(covariance, centred.T @ (teacher - target)).T  # (256, D)
    task.to_teacher.weight.copy_(weight)
    task.to_teacher.bias.copy_(target - weight @ centre)


def _voices(task: DiarizationTask, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the embeddings (V, D) of a batch, and the teacher's (V, 256), of unit length."""
    hidden_states = encode(task.encoder, batch.waveforms, task.settings)
    masks = alone(batch.activities)
    heard = (masks.sum(dim=-1) >= task.settings.least_speech) & batch.teacher.any(dim=-1)
    embeddings = task.heads.embedding(hidden_states, masks)[heard]
    return embeddings, F.normalize(batch.teacher[heard], dim=-1)
