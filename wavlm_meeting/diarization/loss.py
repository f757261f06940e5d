"""What the diarization heads are trained for."""

from itertools import permutations

import torch
from torch import Tensor
from torch.nn import functional as F

# B batch, T frames, S local speakers, K powerset classes, P permutations of S, D embedding size,
# V voices heard in the windows of a batch


def powerset_targets(activities: Tensor, powerset: Tensor) -> Tensor:
    """Return the powerset class (B, T) of each frame of `activities` (B, T, S) of 0 and 1.

    Where more speakers are active than a class can hold, the first ones in order count.
    """
    at_once = int(powerset.sum(dim=-1).max())
    kept = activities * (activities.cumsum(dim=-1) <= at_once)
    agreement = kept @ powerset.T - 0.5 * powerset.sum(dim=-1)  # largest for the equal set alone
    return agreement.argmax(dim=-1)


def permutation_free_cross_entropy(
    log_probabilities: Tensor, activities: Tensor, powerset: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy (B,) under each window's best order of speakers, and that order (B, S).

    `log_probabilities` (B, T, K), `activities` (B, T, S). Entry s of the order is the reference
    speaker that the model's local speaker s stands for. All S! orders are tried, which for four
    speakers costs less than one layer of the head.
    """
    speakers = activities.shape[-1]
    orders = torch.tensor(list(permutations(range(speakers))), device=activities.device)  # (P, S)
    losses = torch.stack(
        [
            F.nll_loss(
                log_probabilities.transpose(1, 2),
                powerset_targets(activities[..., order], powerset),
                reduction="none",
            ).mean(dim=-1)
            for order in orders
        ]
    )  # (P, B)
    best, index = losses.min(dim=0)
    return best, orders[index]


def teacher_distance(embeddings: Tensor, teacher: Tensor, known: Tensor) -> Tensor:
    """Mean of 1 - cosine over the rows that are `known`; 0 if none is."""
    distance = 1.0 - F.cosine_similarity(embeddings, teacher, dim=-1)
    return (distance * known).sum() / known.sum().clamp(min=1)


def linking_loss(
    embeddings: Tensor, voices: Tensor, conversations: Tensor, scale: Tensor, offset: Tensor
) -> Tensor:
    """Cross-entropy of saying which pairs of voices of a conversation are one speaker.

    `embeddings` (V, D) have unit length, `voices` and `conversations` (V,) number speakers and
    conversations. The log-odds are scale * (cosine - offset). Equal and different pairs weigh the
    same; 0 without either. It is what clustering does with the embeddings of a recording, whose
    speakers share a room and a microphone.
    """
    logits = scale * (embeddings @ embeddings.T - offset)  # (V, V)
    pair = (conversations[:, None] == conversations).triu(diagonal=1)
    same = pair & (voices[:, None] == voices)
    parts = [
        F.softplus(sign * logits[which]).mean()
        for sign, which in ((-1, same), (1, pair & ~same))
        if which.any()
    ]
    return torch.stack(parts).mean() if parts else logits.sum() * 0.0
