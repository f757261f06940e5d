"""Log-mel filterbanks, as the fbank models of SpeechBrain were trained on.

Source: SpeechBrain's `lobes.features.Fbank` with its defaults and 80 bands, then
`InputNormalization` of each sentence's mean alone. Frames are 25 ms long, centred every 10 ms, with
silence beyond the recording's ends. A model of our own may read several frames as one, and keep
what the bands' means say of a voice.

B batch, N samples, T frames, M mel bands, K frames read as one.
"""

import math
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.frontend import valid_mask
from wavlm_meeting.wavlm.model import EncoderOutput

WINDOW, HOP = 400, 160
"""Samples of a frame, and from one to the next."""
LEAST_POWER = 1e-10
"""Power of a band below which it counts as silent."""
RANGE_DB = 80.0
"""Farthest that a band may lie below the loudest one of its utterance."""


Centred = Literal["bands", "level"]


class Fbank(nn.Module):
    """Waveforms -> log-mel energies in decibels, less their mean over the utterance."""

    window: Tensor
    filters: Tensor

    def __init__(self, mels: int = 80, stacked: int = 1, centred: Centred = "bands") -> None:
        super().__init__()
        self.stacked, self.centred = stacked, centred
        self.register_buffer("window", torch.hamming_window(WINDOW), persistent=False)
        self.register_buffer("filters", triangular_filters(mels), persistent=False)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> EncoderOutput:
        """Measure waveforms (B, N), of which the first `lengths` (B,) samples are valid.

        Without `lengths` all are. Gives one hidden state, (B, T, K M).
        """
        waveforms = waveforms.float()
        if lengths is None:
            lengths = torch.full(waveforms.shape[:1], waveforms.shape[1], device=waveforms.device)
        else:
            waveforms = waveforms * valid_mask(lengths, waveforms.shape[1])
        windows = F.pad(waveforms, (WINDOW // 2, WINDOW // 2)).unfold(1, WINDOW, HOP)
        spectrum = torch.fft.rfft(windows * self.window)
        power = spectrum.real.square() + spectrum.imag.square()
        frames = lengths // HOP + 1
        decibels = centred_decibels(power @ self.filters, frames, self.centred)
        return EncoderOutput((stack(decibels, self.stacked),), frames // self.stacked)


def centred_decibels(bands: Tensor, frames: Tensor, centred: Centred) -> Tensor:
    """Return powers (B, T, M) in decibels, around each band's mean or that of their mean power.

    The first `frames` (B,) of each utterance are valid, and the mean is over those.
    """
    decibels = 10 * bands.clamp(min=LEAST_POWER).log10()
    valid = valid_mask(frames, decibels.shape[1])[..., None]
    loudest = decibels.where(valid, -math.inf).amax(dim=(1, 2), keepdim=True)
    decibels = decibels.maximum(loudest - RANGE_DB)
    shares = valid / frames[:, None, None]
    if centred == "bands":
        return decibels - (decibels * shares).sum(dim=1, keepdim=True)
    power = (bands * shares).sum(dim=1, keepdim=True).mean(dim=2, keepdim=True)
    return decibels - 10 * power.clamp(min=LEAST_POWER).log10()


def stack(bands: Tensor, count: int) -> Tensor:
    """Make one frame of each `count` that follow each other: (B, T, M) to (B, T // K, K M).

    What is left at the end is cut off.
    """
    batch, frames, mels = bands.shape
    whole = frames // count * count
    return bands[:, :whole].reshape(batch, whole // count, count * mels)


def triangular_filters(mels: int) -> Tensor:
    """Return the share (bins, M) of each bin of the spectrum in each band.

    Bands are triangles over frequency, equally far apart in mel, both of whose sides are as wide as
    the left one would have to be to reach the centre before.
    """
    highest = 2595 * math.log10(1 + SAMPLE_RATE / 2 / 700)
    edges = 700 * (10 ** (torch.linspace(0, highest, mels + 2) / 2595) - 1)
    centres, widths = edges[1:-1], edges[1:-1] - edges[:-2]
    frequencies = torch.linspace(0, SAMPLE_RATE // 2, WINDOW // 2 + 1)[:, None]
    slopes = (frequencies - centres) / widths
    return (1 - slopes.abs()).clamp(min=0)
