"""Which frames are masked (arXiv 2110.13900, section IV-B; fairseq's `mask_prob` 0.80).

B batch, T frames.
"""

import torch
from pydantic import Field
from torch import Tensor

from wavlm_meeting.config import Settings


class MaskSettings(Settings):
    """How spans of frames are drawn."""

    start_probability: float = Field(0.08, gt=0, lt=1)
    """Spans that start at a frame, on average; fairseq's `mask_prob` is this times `span`."""
    span: int = Field(10, ge=1)
    """Frames of a span; spans may overlap."""
    least_spans: int = Field(2, ge=1)
    """Spans of an utterance at least."""


def draw_masks(
    frame_lengths: Tensor,
    frames: int,
    settings: MaskSettings,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw masks (B, T), true where a frame is hidden from the encoder.

    An utterance of t frames gets start_probability * t spans, rounded up or down at random so that
    the mean is exact, at different places. They lie within its `frame_lengths` (B,); one that is
    shorter than a span is masked whole.
    """
    device = frame_lengths.device
    places = (frame_lengths - settings.span + 1).clamp(min=1)  # (B,)
    uniform = torch.rand(len(frame_lengths), generator=generator, device=device)
    wanted = (settings.start_probability * frame_lengths + uniform).floor().long()
    wanted = torch.minimum(wanted.clamp(min=settings.least_spans), places)
    position = torch.arange(frames, device=device)
    order = torch.rand(len(frame_lengths), frames, generator=generator, device=device)
    order = order.masked_fill(position >= places[:, None], 2.0)
    starts = order.argsort(dim=1).argsort(dim=1) < wanted[:, None]  # (B, T)
    begun = starts.long().cumsum(dim=1)
    ended = torch.nn.functional.pad(begun, (settings.span, 0))[:, :frames]
    return (begun > ended) & (position < frame_lengths[:, None])
