"""What the heads of diarization say of a batch of windows.

B batch, T frames, S local speakers, C channels, D embedding size.
"""

from typing import NamedTuple

from torch import Tensor


class Local(NamedTuple):
    """Local speakers of each window: the same from every form of the heads."""

    activity: Tensor
    """(B, T, S) probability that each is active."""
    embeddings: Tensor
    """(B, S, D) of unit length."""
    masks: Tensor
    """(B, S, T) of 0 and 1: the frames that each embedding rests on; none for who never speaks."""
    features: Tensor | None
    """(B, T, C) of each frame, from which it can be decided anew once the voices are known."""
