"""What the diarization heads are trained for."""

from functools import lru_cache
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
    at_once = powerset.sum(dim=-1).max()
    # A product, since running sums of so few entries each are slow on a GPU.
    so_far = activities @ activities.new_ones(powerset.shape[1], powerset.shape[1]).triu()
    kept = activities * (so_far <= at_once)
    agreement = kept @ powerset.T - 0.5 * powerset.sum(dim=-1)  # largest for the equal set alone
    return agreement.argmax(dim=-1)


@lru_cache
def _orders(speakers: int, device: torch.device) -> Tensor:
    """Return all orders of so many speakers (P, S), kept where they are needed."""
    with torch.inference_mode(mode=False):
        return torch.tensor(list(permutations(range(speakers))), device=device)


def permutation_free_cross_entropy(
    log_probabilities: Tensor, activities: Tensor, powerset: Tensor
) -> tuple[Tensor, Tensor]:
    """Cross-entropy (B,) under each window's best order of speakers, and that order (B, S).

    `log_probabilities` (B, T, K), `activities` (B, T, S). Entry s of the order is the reference
    speaker that the model's local speaker s stands for. All S! orders are tried, which for four
    speakers costs less than one layer of the head.
    """
    orders = _orders(activities.shape[-1], activities.device)  # (P, S)
    targets = powerset_targets(activities[..., orders], powerset)  # (B, T, P)
    losses = -log_probabilities.gather(2, targets).mean(dim=1)  # (B, P)
    best, index = losses.min(dim=1)
    return best, orders[index]


def permutation_free_binary_cross_entropy(
    logits: Tensor, activities: Tensor
) -> tuple[Tensor, Tensor]:
    """Binary cross-entropy (B,) under each window's best order of speakers, and that order (B, S).

    `logits` and `activities` (B, T, S); the rest as in `permutation_free_cross_entropy`. Source:
    Fujita et al., "End-to-end neural speaker diarization with permutation-free objectives"
    (Interspeech 2019), equation 3.
    """
    orders = _orders(activities.shape[-1], activities.device)  # (P, S)
    losses = torch.stack(
        [
            F.binary_cross_entropy_with_logits(
                logits, activities[..., order], reduction="none"
            ).mean(dim=(1, 2))
            for order in orders
        ]
    )  # (P, B)
    best, index = losses.min(dim=0)
    return best, orders[index]


def vector_loss(
    vectors: Tensor, classes: Tensor, table: Tensor, scale: Tensor, offset: Tensor
) -> Tensor:
    """Cross-entropy of a training speaker's vector among all of them; 0 without any.

    `vectors` (V, D) have unit length, `classes` (V,) number their speakers, `table` (speakers, D)
    holds the learned vectors; the logits are -scale * squared distance + offset, scale above 0.
    Source: Kinoshita et al., "Integrating end-to-end neural and clustering-based diarization"
    (ICASSP 2021), equations 5 and 6.
    """
    distances = torch.cdist(vectors, F.normalize(table, dim=-1)).square()
    logits = -F.softplus(scale) * distances + offset
    return F.cross_entropy(logits, classes) if len(classes) else logits.sum()


def teacher_distance(embeddings: Tensor, teacher: Tensor, known: Tensor) -> Tensor:
    """Mean of 1 - cosine over the rows that are `known`; 0 if none is."""
    distance = 1.0 - F.cosine_similarity(embeddings, teacher, dim=-1)
    return (distance * known).sum() / known.sum().clamp(min=1)


def linking_loss(
    embeddings: Tensor,
    voices: Tensor,
    conversations: Tensor,
    heard: Tensor,
    scale: Tensor,
    offset: Tensor,
) -> Tensor:
    """Cross-entropy of saying which pairs of voices of a conversation are one speaker.

    `embeddings` (V, D) have unit length, `voices` and `conversations` (V,) number speakers and
    conversations; those that are not `heard` (V,) do not count. The log-odds are scale * (cosine -
    offset). Equal and different pairs weigh the same; 0 without either. It is what clustering does
    with the embeddings of a recording, whose speakers share a room and a microphone.
    """
    logits = scale * (embeddings @ embeddings.T - offset)  # (V, V)
    pair = (conversations[:, None] == conversations) & heard[:, None] & heard
    pair = pair.triu(diagonal=1)
    same = pair & (voices[:, None] == voices)
    total, kinds = logits.new_zeros(()), logits.new_zeros(())
    for sign, which in ((-1, same), (1, pair & ~same)):
        count = which.sum()
        total = total + (F.softplus(sign * logits) * which).sum() / count.clamp(min=1)
        kinds = kinds + (count > 0)
    return total / kinds.clamp(min=1)


def conversation_activities(
    activities: Tensor, voices: Tensor, windows: int, speakers: int
) -> Tensor:
    """Return who of a conversation's speakers is active: (B / windows, windows * T, speakers).

    `activities` (B, T, S) are of local speakers, `voices` (B, S) number them within their
    conversation, of which `windows` follow each other in the batch.
    """
    slots = voices[..., None] == torch.arange(speakers, device=voices.device)  # (B, S, speakers)
    active = activities @ slots.to(activities.dtype)  # (B, T, speakers)
    return active.clamp(max=1).reshape(-1, windows * active.shape[1], speakers)


def conversation_voices(
    embeddings: Tensor, weights: Tensor, voices: Tensor, windows: int, speakers: int
) -> tuple[Tensor, Tensor]:
    """Return each speaker's voice (B / windows, speakers, D) and whether it was heard.

    It is the unit-length mean of the local speakers' `embeddings` (B, S, D) by `weights` (B, S);
    `voices` and `windows` as in `conversation_activities`.
    """
    slots = voices[..., None] == torch.arange(speakers, device=voices.device)  # (B, S, speakers)
    shares = (slots * weights[..., None]).flatten(0, 1)  # (B * S, speakers)
    by_conversation = shares.reshape(len(voices) // windows, -1, speakers)
    sums = by_conversation.transpose(1, 2) @ embeddings.reshape(
        len(by_conversation), -1, embeddings.shape[-1]
    )
    return F.normalize(sums, dim=-1), by_conversation.sum(dim=1) > 0
