"""What speaker models are trained for.

V voices in a batch, C classes, K sub-centres of each, D embedding size, E size of the teacher's.
"""

import torch
from speechbrain.nnet.losses import AdditiveAngularMargin
from torch import Tensor, nn
from torch.nn import functional as F

LEAST_SINE = 1e-4
"""Below it a sine counts as this, whose square root has a gradient."""


class SpeakerClasses(nn.Module):
    """Directions that embeddings of each class should have.

    A class has several sub-centres, and an embedding is compared with the nearest: recordings that
    bear a wrong name, or of another channel, gather around one of their own (Deng et al.,
    "Sub-center ArcFace", ECCV 2020).
    """

    def __init__(self, classes: int, size: int, sub_centres: int = 1) -> None:
        super().__init__()
        self.centres = nn.Parameter(torch.randn(classes, sub_centres, size) / size**0.5)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Return the cosines (V, C) of embeddings (V, D) to the nearest sub-centre of each."""
        classes, sub_centres, _ = self.centres.shape
        centres = F.normalize(self.centres.flatten(0, 1), dim=-1)
        cosines = F.normalize(embeddings, dim=-1) @ centres.T
        return cosines.view(-1, classes, sub_centres).amax(dim=-1)


def margin_loss(
    cosines: Tensor,
    classes: Tensor,
    margin: float,
    scale: float,
    top_k: int = 0,
    top_k_margin: float = 0.0,
) -> Tensor:
    """Cross-entropy of scaled `cosines` (V, C) to `classes` (V,), made harder by margins.

    The angle to the right class counts as larger by `margin` (AAM-softmax, arXiv 1906.07317), the
    angles to the `top_k` nearest wrong classes as smaller by `top_k_margin` (inter-top-k penalty,
    Zhao et al., "Multi-query multi-head attention pooling and inter-topK penalty for speaker
    verification", arXiv 2110.05042). 0 without a voice.
    """
    if not len(classes):
        return cosines.sum()
    own = classes[:, None]
    right = cosines.gather(1, own)
    harder = AdditiveAngularMargin(margin, scale=1.0)(right, torch.ones_like(right))
    made = cosines.scatter(1, own, harder)
    if top_k:
        wrong = cosines.detach().scatter(1, own, -2.0)
        nearest = wrong.topk(min(top_k, cosines.shape[1] - 1), dim=1).indices
        angle = torch.tensor(top_k_margin, device=cosines.device)
        near = cosines.gather(1, nearest)
        sine = (1.0 - near.square()).clamp(min=LEAST_SINE**2).sqrt()
        made = made.scatter(1, nearest, near * angle.cos() + sine * angle.sin())
    return F.cross_entropy(scale * made, classes)


def pair_loss(embeddings: Tensor, classes: Tensor, scale: float) -> Tensor:
    """Cross-entropy of finding a voice's own speaker among all other voices of a batch.

    `embeddings` (V, D), `classes` (V,). Each voice asks all others by their scaled cosine; the mean
    is over its speaker's others, then over the voices that have any (supervised contrastive loss,
    arXiv 2004.11362, equation 2). It is what verification does, and needs no class to be seen
    twice. 0 without a pair.
    """
    unit = F.normalize(embeddings, dim=-1)
    itself = torch.eye(len(unit), dtype=torch.bool, device=unit.device)
    same = (classes[:, None] == classes) & ~itself
    asking = same.any(dim=1)
    if not asking.any():
        return unit.sum() * 0.0
    logits = (scale * unit @ unit.T).masked_fill(itself, -torch.inf)
    found = logits.log_softmax(dim=1).masked_fill(~same, 0.0).sum(dim=1)
    return -(found[asking] / same[asking].sum(dim=1)).mean()


def teacher_loss(mapped: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine between `mapped` and `teacher` (V, E) where a row of that is not 0."""
    known = teacher.any(dim=-1)
    distance = 1.0 - F.cosine_similarity(mapped, teacher, dim=-1)
    return (distance * known).sum() / known.sum().clamp(min=1)
