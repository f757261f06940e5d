"""Convolution with kernel 3 and stride 2 in five products instead of six (Winograd's F(2, 2)).

Even samples e and odd ones o: out[t] = e[t] w0 + o[t] w1 + e[t+1] w2. The even part is a filter of
two taps, of which two outputs share a product:

    out[0] = (e[0] - e[1]) w0 + e[1] (w0 + w2) + o[0] w1
    out[1] = (e[2] - e[1]) w2 + e[1] (w0 + w2) + o[1] w1

T frames, C channels.
"""

import torch
from torch import Tensor

Taps = tuple[Tensor, Tensor, Tensor, Tensor]


def fast_taps(weight: Tensor) -> Taps:
    """Split the weight (C', C, 3) into w0, w1, w2, each (C, C'), and w0 + w2."""
    first, middle, last = weight.permute(2, 1, 0).contiguous()
    return first, middle, last, first + last


def fast_conv3(x: Tensor, taps: Taps) -> Tensor:
    """Convolve (T, C) at stride 2: ((T - 1) // 2, C')."""
    first, middle, last, both = taps
    frames = (x.shape[0] - 1) // 2
    even = x[: 2 * frames + 1 : 2]
    out = torch.mm(x[1 : 2 * frames : 2], middle)
    pairs = frames // 2
    left, centre, right = (even[start:][: 2 * pairs : 2] for start in (0, 1, 2))
    shared = torch.mm(centre, both)
    for row, outer, tap in ((0, left, first), (1, right, last)):
        out[row : 2 * pairs : 2].add_(shared).addmm_(outer - centre, tap)
    if frames % 2:
        out[-1:].addmm_(even[-2:-1], first).addmm_(even[-1:], last)
    return out
