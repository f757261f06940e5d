"""The frontend without gradients: tile by tile over time, so that it stays in the cache.

Its first layers are a hundred times as large as its output. GroupNorm would need all frames of
layer 0 at once, but is folded into the convolution beforehand.

B batch, N samples, T frames, C channels.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from wavlm_meeting.wavlm.fastconv import Taps, fast_conv3, fast_taps
from wavlm_meeting.wavlm.frontend import ConvLayer, Folded, Frontend

CPU_TILE = 128
"""Frames of a tile on a CPU: layer 0 then takes 17 MB in the released models."""
CUDA_TILE = 16_384
"""Frames of a tile on a GPU, all utterances together."""


def tiling_pays(frontend: Frontend) -> bool:
    """Tell whether layer 0 needs no statistics over time, or such as come cheaper beforehand."""
    return frontend.folds()


def tiled_frontend(frontend: Frontend, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    """Compute what `frontend` does: samples (B, N) to frames (B, T, C).

    Frames that reach past `lengths` (B,) samples are zero, or garbage.
    """
    layers = frontend.stack()
    weights = [
        fast_taps(layer.conv.weight) if _fast_conv_fits(layer) else layer.conv.matrix()
        for layer in layers
    ]
    batch, samples = waveforms.shape
    on_gpu = waveforms.is_cuda
    frames = _frames(layers, samples)
    out = waveforms.new_zeros(batch, frames, layers[-1].conv.weight.shape[0], dtype=frontend.dtype)
    counts = [samples] * batch if lengths is None or on_gpu else lengths.tolist()
    size = batch if on_gpu else 1
    tile = max(1, CUDA_TILE // batch) if on_gpu else CPU_TILE
    for first in range(0, batch, size):
        some = slice(first, first + size)
        part = waveforms[some, : counts[first]]
        folded = layers[0].fold(part, None if lengths is None else lengths[some])
        frames = _frames(layers, part.shape[1])
        for start in range(0, frames, tile):
            stop = min(start + tile, frames)
            out[some, start:stop] = _one_tile(layers, weights, folded, part, start, stop)
    return out


def _fast_conv_fits(layer: ConvLayer) -> bool:
    """Tell whether `fast_conv3` can stand in for the layer's convolution; it is for CPUs."""
    conv = layer.conv
    return (
        (conv.kernel, conv.stride) == (3, 2)
        and layer.norm is None
        and conv.weight.dtype == torch.float32
        and conv.weight.device.type == "cpu"
    )


def _one_tile(
    layers: list[ConvLayer],
    weights: list[Tensor | Taps],
    folded: Folded | None,
    waveforms: Tensor,
    start: int,
    stop: int,
) -> Tensor:
    """Compute the frames start .. stop - 1 of (B, N)."""
    first, last = start, stop - 1  # of the frames, then of what they need below
    for layer in reversed(layers):
        first, last = first * layer.conv.stride, last * layer.conv.stride + layer.conv.kernel - 1
    x = waveforms[:, first : last + 1, None]
    if folded is None:
        x = layers[0](x)
    else:
        matrix, shift = folded
        x = F.gelu(torch.baddbmm(shift, layers[0].conv.windows(x), matrix.mT))
    x = x.to(layers[0].conv.weight.dtype)
    for layer, weight in zip(layers[1:], weights[1:], strict=True):
        if isinstance(weight, Tensor):
            x = layer(x, matrix=weight)
        else:
            x = F.gelu(fast_conv3(x[0], weight))[None]
    return x


def _frames(layers: list[ConvLayer], samples: int) -> int:
    """Count the frames of so many samples."""
    for layer in layers:
        samples = (samples - layer.conv.kernel) // layer.conv.stride + 1
    return samples
