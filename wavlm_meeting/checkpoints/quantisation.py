"""Weights in eight bits: whole numbers from -127 to 127, and a scale for each output row.

    weight[r, ...] = scale[r] * numbers[r, ...]        scale[r] = max |weight[r, ...]| / 127

R rows.
"""

import torch
from torch import Tensor

LIMIT = 127
"""Largest number; -128 is left out, so that a weight and its negative are alike."""
LEAST_SAVED = 1024
"""Bytes that a tensor has to save against 16 bits; another entry of the file takes some hundred."""
SCALE_BITS = 16
"""Significant bits of a scale: its products with 7 bits are exact in float32 then, and so is
quantising again what was quantised before."""
SMALLEST = 2.0**-100
"""Least scale, which a row of zeros has: its products are far from what float32 cannot hold."""


def saves(tensor: Tensor) -> bool:
    """Tell whether a tensor is a weight whose rows are worth scales of their own.

    Filters of a single channel are not: they are few, and those on samples, whose rounding is white
    noise where speech is far from white, moved hidden states more than all others together.
    """
    if not tensor.is_floating_point() or tensor.ndim < 2:
        return False
    if tensor.ndim > 2 and tensor.shape[1] == 1:
        return False
    return tensor.numel() - 4 * len(tensor) >= LEAST_SAVED


def quantise(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Return numbers (int8, in the shape of `weight`) and scales (R,), float32.

    No weight moves by more than half a scale, and what `dequantise` gives is quantised to the same
    again. Scales of weights that are not finite are not finite times 127.
    """
    rows = weight.detach().float().flatten(1)  # (R, C)
    scales = _short(rows.abs().amax(dim=1) / LIMIT).clamp(min=SMALLEST)
    numbers = (rows / scales[:, None]).round().clamp(-LIMIT, LIMIT)
    return numbers.to(torch.int8).view(weight.shape), scales


def dequantise(numbers: Tensor, scales: Tensor) -> Tensor:
    """Return the weight, float32."""
    return (numbers.float().flatten(1) * scales[:, None]).view(numbers.shape)


def _short(scales: Tensor) -> Tensor:
    """Round to SCALE_BITS significant bits."""
    mantissa, exponent = torch.frexp(scales)
    return torch.ldexp((mantissa * 2**SCALE_BITS).round() / 2**SCALE_BITS, exponent)
