"""A frontend that starts as a filterbank, so that training need not find one.

K taps of a filter, C channels.
"""

import math

import torch
from torch import Tensor, nn

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.frontend import Frontend

PHASES = 4
FEWEST = 3 * PHASES
"""Filters: two bands alone would be wider than there is between them and zero."""
LOWEST_HZ, HIGHEST_HZ = 60.0, 7600.0
TILT = 0.7
"""Power of the frequency that filters grow by, against the fall of speech towards high ones."""
LEVEL = 0.05
"""Scale of all filters: the LayerNorm that follows adds 1e-5 to the variance, which at this scale
is what a frame 20 dB below the window has. What is quieter stays quiet instead of being raised to
the level of speech."""
RECTIFYING_GAIN = 20.0
SHAPES = ((1.0, 0.0), (3.0, 1.0), (10.0, 6.0), (-2.0, 1.0))
"""Gain and offset of the copies of each band: where a band is weak, strong, or not there."""


@torch.no_grad()
def start_as_filterbank(frontend: Frontend) -> None:
    """Set a frontend of two convolutions with LayerNorm to magnitudes of a mel filterbank.

    A large gain after the first norm makes GELU rectify quiet bands too. The second convolution
    sums the four phases of neighbouring frequencies over its frames; each sum appears with several
    gains and offsets, which together tell weak bands from weaker ones as a logarithm would. Raises
    SettingsError for another frontend.
    """
    layers = frontend.stack()
    if len(layers) != 2 or not isinstance(layers[0].norm, nn.LayerNorm):
        raise SettingsError(
            "a start as a filterbank needs a frontend of two convolutions with frontend_norm = "
            '"layer".'
        )
    first = frontend.get_parameter("layers.0.conv.weight")
    second = frontend.get_parameter("layers.1.conv.weight")
    filters, _, kernel = first.shape
    if filters < FEWEST:
        raise SettingsError(
            f"{filters} filters are too few to start as a filterbank: give {FEWEST} or more."
        )
    first.copy_(filterbank(filters, kernel) * LEVEL)
    frontend.get_parameter("layers.0.norm.weight").fill_(RECTIFYING_GAIN)

    bands = len(second) // len(SHAPES)
    wide = filters // bands
    sums = torch.zeros_like(second)
    for channel in range(bands * len(SHAPES)):
        low = channel % bands * wide
        sums[channel, low : low + wide] = 1.0
    second.mul_(0.05).add_(sums / sums.norm(dim=(1, 2), keepdim=True).clamp(min=1.0))
    for shape, (gain, offset) in enumerate(SHAPES):
        copies = slice(shape * bands, (shape + 1) * bands)
        frontend.get_parameter("layers.1.norm.weight")[copies] = gain
        frontend.get_parameter("layers.1.norm.bias")[copies] = offset


def filterbank(filters: int, kernel: int) -> Tensor:
    """Return weights (C, 1, K): windowed cosines in four phases, evenly spaced in mel.

    Each is as long as its band is narrow, at most `kernel`. The four phases of one frequency,
    rectified, sum to roughly its magnitude.
    """
    mel = torch.linspace(_mel(LOWEST_HZ), _mel(HIGHEST_HZ), filters // PHASES)
    frequency = 700.0 * ((mel / 1127.0).exp() - 1.0)
    spacing = (700.0 + frequency) / 1127.0 * (mel[1] - mel[0])
    length_s = (2.0 / (3.0 * spacing)).clamp(max=kernel / SAMPLE_RATE)[:, None]
    time = (torch.arange(kernel) - (kernel - 1) / 2) / SAMPLE_RATE
    window = (math.pi * time / length_s).cos().square() * (time.abs() < length_s / 2)
    phase = torch.arange(PHASES) * math.pi / 2
    angle = 2 * math.pi * frequency[:, None, None] * time + phase[:, None]
    bank = angle.cos() * window[:, None]
    bank /= bank.norm(dim=-1, keepdim=True)
    bank *= (frequency / 1000.0).clamp(min=0.3).pow(TILT)[:, None, None]
    return bank.reshape(filters, 1, kernel)


def _mel(hertz: float) -> float:
    return 1127.0 * math.log1p(hertz / 700.0)
