"""A first convolution that starts as a filterbank, so that training need not find one."""

import math

import torch
from torch import Tensor

from wavlm_meeting.units import SAMPLE_RATE


def filterbank(filters: int, kernel: int) -> Tensor:
    """Return weights (filters, 1, kernel): windowed cosines in four phases, evenly on the mel scale.

    After GroupNorm and GELU, the four phases of one frequency sum to roughly its magnitude.
    """
    mel = torch.linspace(_mel(40.0), _mel(7700.0), filters // 4)
    frequency = 700.0 * ((mel / 1127.0).exp() - 1.0)
    time = (torch.arange(kernel) - (kernel - 1) / 2) / SAMPLE_RATE
    phase = torch.arange(4) * math.pi / 2
    angle = 2 * math.pi * frequency[:, None, None] * time + phase[None, :, None]
    bank = angle.cos() * torch.hann_window(kernel, periodic=False)
    return (bank / bank.norm(dim=-1, keepdim=True)).reshape(filters, 1, kernel)


def _mel(hertz: float) -> float:
    return 1127.0 * math.log1p(hertz / 700.0)
