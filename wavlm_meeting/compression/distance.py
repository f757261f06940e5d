"""How far a student's hidden states are from its teacher's.

B batch, T frames, D width.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from wavlm_meeting.wavlm.frontend import valid_mask


class Distances(NamedTuple):
    """Distances of each compared hidden state, means over all valid frames."""

    l1: Tensor
    """(states,): mean absolute difference, as a share of the teacher's mean absolute value."""
    cosine: Tensor
    """(states,): cosine between the two, 1 where they have one direction."""


def distances(
    student: Sequence[Tensor], teacher: Sequence[Tensor], frame_lengths: Tensor
) -> Distances:
    """Compare hidden states (B, T, D), of which `frame_lengths` (B,) frames are valid.

    Source of the two measures: DPHuBERT (arXiv 2305.17651, section 2.2). There the difference is
    not divided: in an encoder with its norms before each part, the last layers would drown the
    others.
    """
    valid = valid_mask(frame_lengths, teacher[0].shape[1])
    l1, cosine = [], []
    for ours, theirs in zip(student, teacher, strict=True):
        own, target = ours[valid].float(), theirs[valid].float()
        l1.append((own - target).abs().mean() / target.abs().mean())
        cosine.append(F.cosine_similarity(own, target, dim=1).mean())
    return Distances(torch.stack(l1), torch.stack(cosine))
