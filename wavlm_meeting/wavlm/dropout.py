"""Dropout from cheap random bits: PyTorch draws a whole random number for each entry on a CPU.

Here an entry takes 16 bits of a 64-bit number, which is a sixth of the time. Probabilities are
thus multiples of 2^-16, and what is kept is scaled by the very one that is used.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LEVELS = 1 << 16
"""Values of the bits that decide about an entry."""


def dropout(x: Tensor, probability: float, training: bool = True) -> Tensor:
    """Do what `torch.nn.functional.dropout` does, by cheap bits on a CPU."""
    if not training or probability == 0 or x.device.type != "cpu":
        return F.dropout(x, probability, training)
    kept = draw_kept(x.shape, probability, x.device)
    return x * kept.to(x.dtype).div_(kept_share(probability))


def draw_kept(
    shape: torch.Size,
    probability: float,
    device: torch.device,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw int16 entries of 0 with the probability, rounded to 2^-16, or else 1.

    Products with booleans take several times as long.
    """
    count = shape.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=device)
    words.random_(-(1 << 63), None, generator=generator)
    bits = words.view(torch.int16)[:count].view(shape)  # -LEVELS / 2 .. LEVELS / 2 - 1
    return bits.ge_(round(probability * LEVELS) - LEVELS // 2)


def kept_share(probability: float) -> float:
    """Return the share of ones that `draw_kept` aims at."""
    return 1 - round(probability * LEVELS) / LEVELS
