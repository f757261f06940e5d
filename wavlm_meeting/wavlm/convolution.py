"""Convolution over time, norm and GELU as one step with gradients of its own, for a CPU.

A window of K frames at stride S is cut into pieces of S frames: piece j of window t is row t + j of
the frames taken S at a time. The convolution is then one product for each piece, over views of what
is there: neither the windows nor their gradients are ever written out. Norm and GELU, forward and
backward, go over a few rows at a time, which stay in a core's cache. Kept for the gradients are the
input and what the product gives.

B batch, T frames, C channels, K kernel, S stride, J pieces.
"""

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from wavlm_meeting.wavlm.ops import NORM_EPS

ROWS = 256
"""Frames of a tile: half a megabyte of 512 channels in float32."""


def conv_gelu(
    x: Tensor,
    matrix: Tensor,
    kernel: int,
    stride: int,
    dtype: torch.dtype,
    *,
    shift: Tensor | None = None,
    norm: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Map (B, T, C) to GELU(norm(conv(x) + shift)), (B, T', C') in `dtype`.

    `matrix` is (B or 1, C', K C) in the dtype of `x`, the one that products are in; `shift` is
    (B, 1, C'), `norm` the scale and shift (C') of a LayerNorm.
    """
    wide = (None, None) if norm is None else tuple(part.to(_wide(x)) for part in norm)
    result: Tensor = _ConvGelu.apply(x.contiguous(), matrix, shift, *wide, kernel, stride, dtype)
    return result


class _ConvGelu(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        matrix: Tensor,
        shift: Tensor | None,
        scale: Tensor | None,
        offset: Tensor | None,
        kernel: int,
        stride: int,
        dtype: torch.dtype,
    ) -> Tensor:
        frames = (x.shape[1] - kernel) // stride + 1
        convolved = x.new_empty(x.shape[0], frames, matrix.shape[1], dtype=dtype)
        out = torch.empty_like(convolved)
        for index, utterance in enumerate(x):
            own = matrix[index % len(matrix)]
            for rows in _tiles(frames):
                tile = utterance[rows.start * stride : (rows.stop - 1) * stride + kernel]
                y = _convolve(tile, own, kernel, stride)
                if shift is not None:
                    y.add_(shift[index])
                convolved[index, rows] = y
                z = y.to(_wide(y))
                if scale is not None:
                    z = F.layer_norm(z, scale.shape, scale, offset, NORM_EPS)
                out[index, rows] = F.gelu(z)
        ctx.save_for_backward(x, matrix, convolved, scale, offset)
        ctx.rest = (kernel, stride, None if shift is None else shift.dtype)
        return out

    @staticmethod
    def backward(ctx: Any, d_out: Tensor) -> tuple[Tensor | None, ...]:
        x, matrix, convolved, scale, offset = ctx.saved_tensors
        kernel, stride, shift_dtype = ctx.rest
        # Transposed, since a product is slow where its result is long and thin.
        d_matrix = torch.zeros_like(matrix.mT, dtype=_wide(matrix))  # (B or 1, K C, C')
        d_x = torch.zeros_like(x) if ctx.needs_input_grad[0] else None
        d_norm = [] if scale is None else [torch.zeros_like(scale), torch.zeros_like(offset)]
        d_shift = x.new_zeros(len(x), 1, matrix.shape[1], dtype=shift_dtype or _wide(x))
        d_y = torch.empty_like(convolved[0], dtype=x.dtype)
        for index, utterance in enumerate(x):
            own = index % len(matrix)
            for rows in _tiles(convolved.shape[1]):
                y, d_tile = (t[index, rows].to(_wide(t)) for t in (convolved, d_out))
                if scale is None:
                    d_tile = torch.ops.aten.gelu_backward(d_tile, y)
                else:
                    d_tile, *parts = _norm_gelu_backward(d_tile, y, scale, offset)
                    for total, part in zip(d_norm, parts, strict=True):
                        total += part  # noqa: PLW2901 - in place
                if shift_dtype is not None:
                    d_shift[index] += d_tile.sum(dim=0)
                d_y[rows] = d_tile
            for columns, piece in _pieces(utterance, kernel, stride):
                d_matrix[own, columns] += piece.T @ d_y
            if d_x is not None:
                for columns, piece in _pieces(d_x[index], kernel, stride):
                    piece.addmm_(d_y, matrix[own, :, columns])
        shift_gradient = None if shift_dtype is None else d_shift
        gradients = (d_x, d_matrix.mT.to(matrix.dtype), shift_gradient, *(d_norm or (None, None)))
        return *gradients, None, None, None


def _convolve(x: Tensor, matrix: Tensor, kernel: int, stride: int) -> Tensor:
    """Convolve (T, C) with a matrix (C', K C): (T', C')."""
    (first, piece), *rest = _pieces(x, kernel, stride)
    y = piece @ matrix[:, first].T
    for columns, piece in rest:
        y.addmm_(piece, matrix[:, columns].T)
    return y


def _pieces(x: Tensor, kernel: int, stride: int) -> Iterator[tuple[slice, Tensor]]:
    """Give the columns of each piece in a window's row, and a view (T', columns) of (T, C)."""
    frames, channels = (x.shape[0] - kernel) // stride + 1, x.shape[1]
    for start in range(0, kernel, stride):
        columns = slice(start * channels, min(start + stride, kernel) * channels)
        size = (frames, columns.stop - columns.start)
        offset = x.storage_offset() + columns.start
        yield columns, x.as_strided(size, (stride * channels, 1), offset)


def _norm_gelu_backward(
    d_out: Tensor, y: Tensor, scale: Tensor, offset: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of GELU(LayerNorm(y)) for y (T, C), scale and offset."""
    shape = list(scale.shape)
    z, mean, deviation = torch.native_layer_norm(y, shape, scale, offset, NORM_EPS)
    d_z = torch.ops.aten.gelu_backward(d_out, z)
    gradients: tuple[Tensor, Tensor, Tensor] = torch.ops.aten.native_layer_norm_backward(
        d_z, y, shape, mean, deviation, scale, offset, [True, True, True]
    )
    return gradients


def _tiles(frames: int) -> Iterator[slice]:
    for start in range(0, frames, ROWS):
        yield slice(start, min(start + ROWS, frames))


def _wide(tensor: Tensor) -> torch.dtype:
    """Return float32 for halves, else the tensor's own dtype."""
    return torch.promote_types(tensor.dtype, torch.float32)
