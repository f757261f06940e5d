"""A frontend that starts as a filterbank, so that training need not find one."""

import math

import torch
from torch import Tensor, nn

from wavlm_meeting.units import SAMPLE_RATE

GAINS = (3.0, 10.0, 30.0, 100.0)


@torch.no_grad()
def start_as_filterbank(frontend: nn.Module) -> None:
    """Set a frontend of two convolutions to magnitudes of a mel filterbank.

    Large gains after the first norm make GELU rectify quiet frames too (at gain 1 they pass nearly
    linearly, and their phase drowns their magnitude); a bias of 1 and gains that alternate from
    frequency to frequency keep the level of a frame visible through the LayerNorm that follows.
    Half of the second convolution sums the four phases of each frequency over three frames.
    """
    first = frontend.get_parameter("layers.0.conv.weight")
    second = frontend.get_parameter("layers.1.conv.weight")
    filters, _, kernel = first.shape
    first.copy_(filterbank(filters, kernel))
    gains = torch.tensor(GAINS).repeat_interleave(4)
    frontend.get_parameter("layers.0.norm.weight").copy_(
        gains.repeat(filters // len(gains) + 1)[:filters]
    )
    frontend.get_parameter("layers.0.norm.bias").fill_(1.0)
    sums = torch.zeros_like(second[: filters // 4])
    for frequency in range(len(sums)):
        sums[frequency, 4 * frequency : 4 * frequency + 4] = 1.0
    sums *= second.norm(dim=(1, 2)).mean() / sums.norm(dim=(1, 2), keepdim=True)
    second[: len(sums)] = sums


def filterbank(filters: int, kernel: int) -> Tensor:
    """Return weights (filters, 1, kernel): windowed cosines in four phases, evenly spaced in mel.

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
