"""The map from voices to the teacher's embeddings, and the classes, for a model without them.

A bundle holds what inference needs, which these are not. Begun at random beside a trained model,
they would pull the model's voices away until they have been learned again.

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
def fit_teacher_map(task: DiarizationTask, batches: Iterable[Batch], classes: Tensor) -> None:
    """Set the task's map to the teacher by least squares (ridge regression) on what it hears.

    The map back, fitted in the same way, leads from `classes` (K, 256), the teacher's embeddings of
    the training speakers, to their places among the voices. Windows with one voice are best: only
    voices that are heard alone count. Without any all stays as it is.
    """
    pairs = [_voices(task, batch) for batch in batches]
    embeddings, teacher = (torch.cat(column).double() for column in zip(*pairs, strict=True))
    log.info("train: map to the teacher from %d voices", len(embeddings))
    if not len(embeddings):
        return
    weight, bias = _ridge(embeddings, teacher)
    task.to_teacher.weight.copy_(weight)
    task.to_teacher.bias.copy_(bias)
    weight, bias = _ridge(teacher, embeddings)
    places = F.linear(F.normalize(classes, dim=-1).double(), weight, bias)
    task.voices.copy_(F.normalize(places, dim=-1))


def _ridge(given: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Return the matrix (E, D) and the offset (E,) from `given` (V, D) to `wanted` (V, E)."""
    centre, target = given.mean(dim=0), wanted.mean(dim=0)
    centred = given - centre
    covariance = centred.T @ centred  # (D, D)
    covariance.diagonal().add_(RIDGE * given.square().sum() / given.shape[1])
    weight = torch.linalg.solve(covariance, centred.T @ (wanted - target)).T  # (E, D)
    return weight, target - weight @ centre


def _voices(task: DiarizationTask, batch: Batch) -> tuple[Tensor, Tensor]:
    """Return the embeddings (V, D) of a batch, and the teacher's (V, 256), of unit length."""
    hidden_states = encode(task.encoder, batch.waveforms, task.settings)
    masks = alone(batch.activities)
    heard = (masks.sum(dim=-1) >= task.settings.least_speech) & batch.teacher.any(dim=-1)
    embeddings = task.heads.embedding(hidden_states, masks)[heard]
    return embeddings, F.normalize(batch.teacher[heard], dim=-1)
