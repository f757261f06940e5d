"""The convolutional frontend: from samples to frames.

Everything runs channels-last, (B, T, C): a convolution is then a matrix product over windows.

B batch, N samples, T frames, C channels, D width of the encoder.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.convolution import conv_gelu
from wavlm_meeting.wavlm.moments import window_moments
from wavlm_meeting.wavlm.ops import NORM_EPS, gelu_linear

Folded = tuple[Tensor, Tensor]
"""Convolution and norm as one map: matrix (B, C', K C) and shift (B, 1, C')."""


def normalize_waveforms(waveforms: Tensor, lengths: Tensor | None) -> Tensor:
    """Bring each waveform (B, N) to zero mean and unit variance over its own samples.

    Samples past `lengths` (B,) do not count and come out as zero.
    """
    if lengths is None:
        return F.layer_norm(waveforms, waveforms.shape[1:], eps=NORM_EPS)
    valid = valid_mask(lengths, waveforms.shape[1])
    count = lengths[:, None]
    mean = (waveforms * valid).sum(dim=1, keepdim=True) / count
    centered = (waveforms - mean) * valid
    variance = centered.square().sum(dim=1, keepdim=True) / count
    return centered * torch.rsqrt(variance + NORM_EPS)


def valid_mask(lengths: Tensor, size: int) -> Tensor:
    """Return (B, size), true where the position is before the length."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


class ConvWeight(nn.Module):
    """Weight of a convolution over time without padding or bias, run as one matrix product."""

    def __init__(self, in_channels: int, out_channels: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel))
        nn.init.kaiming_normal_(self.weight)

    def windows(self, x: Tensor) -> Tensor:
        """Copy the windows of (B, T, C) out: (B, T', K C)."""
        return x.unfold(1, self.kernel, self.stride).transpose(2, 3).flatten(2)

    def matrix(self) -> Tensor:
        """Return the weight for these windows, (C', K C)."""
        return self.weight.transpose(1, 2).flatten(1)


class TimeNorm(nn.Module):
    """GroupNorm with a group for each channel: statistics over the frames of one utterance."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Normalise (B, T, C) over time; only frames before `lengths` (B,) count, if given."""
        x = x.float()
        if lengths is None:
            variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        else:
            valid = valid_mask(lengths, x.shape[1])[..., None]
            count = lengths[:, None, None]
            mean = (x * valid).sum(dim=1, keepdim=True) / count
            variance = ((x - mean) * valid).square().sum(dim=1, keepdim=True) / count
        scale, shift = self.affine(mean, variance)
        return torch.addcmul(shift, x, scale)

    def affine(self, mean: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scale and shift (..., C) that the norm comes to for these statistics."""
        scale = self.weight * torch.rsqrt(variance + NORM_EPS)
        return scale, self.bias - mean * scale


class ConvLayer(nn.Module):
    """One convolution of the frontend with its norm, if it has one, and GELU."""

    def __init__(self, conv: ConvWeight, norm: TimeNorm | nn.LayerNorm | None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm

    def forward(
        self, x: Tensor, lengths: Tensor | None = None, matrix: Tensor | None = None
    ) -> Tensor:
        """Map (B, T, C) to (B, T', C'); `lengths` (B,) counts the valid frames of the output.

        Computes in the dtype of `x`, whatever that of the weights. Who calls often can give the
        convolution's `matrix`.
        """
        windows = self.conv.windows(x)
        matrix = (self.conv.matrix() if matrix is None else matrix).to(x.dtype)
        if self.norm is None:
            return gelu_linear(windows, matrix)
        x = F.linear(windows, matrix)
        if isinstance(self.norm, TimeNorm):
            x = self.norm(x, lengths).to(x.dtype)
        else:
            scale, shift = self.norm.weight.to(x.dtype), self.norm.bias.to(x.dtype)
            x = F.layer_norm(x, scale.shape, scale, shift, NORM_EPS)
        return F.gelu(x)

    def fold(self, waveforms: Tensor, lengths: Tensor | None) -> Folded | None:
        """Put convolution and time norm into one map for each of (B, N); None without such a norm.

        Only windows within `lengths` (B,) samples count, if given.
        """
        if not isinstance(self.norm, TimeNorm):
            return None
        kernel, stride = self.conv.kernel, self.conv.stride
        counts = None if lengths is None else (lengths - kernel) // stride + 1
        mean, covariance = window_moments(waveforms, kernel, stride, counts)
        matrix = self.conv.matrix().double()  # (C', K)
        means = (mean @ matrix.T)[:, None]  # (B, 1, C')
        variances = ((matrix @ covariance) * matrix).sum(dim=2)[:, None]
        scale, shift = self.norm.affine(means, variances)
        return (matrix * scale.mT).float(), shift.float()

    def fused(self, x: Tensor, folded: Folded | None, dtype: torch.dtype) -> Tensor:
        """Do what `forward` does, in tiles with gradients of their own; the result has `dtype`."""
        conv = self.conv
        if folded is not None:
            matrix, shift = folded
            return conv_gelu(x, matrix, conv.kernel, conv.stride, dtype, shift=shift)
        matrix = conv.matrix()[None].to(x.dtype)
        if isinstance(self.norm, nn.LayerNorm):
            norm = (self.norm.weight, self.norm.bias)
            return conv_gelu(x, matrix, conv.kernel, conv.stride, dtype, norm=norm)
        return conv_gelu(x, matrix, conv.kernel, conv.stride, dtype)


class Frontend(nn.Module):
    """The stack of convolutions."""

    def __init__(self, config: WavLMConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        in_channels = 1
        for index, (channels, kernel, stride) in enumerate(config.conv_layers):
            norm: TimeNorm | nn.LayerNorm | None = None
            if config.frontend_norm == "layer":
                norm = nn.LayerNorm(channels, eps=NORM_EPS)
            elif index == 0:
                norm = TimeNorm(channels)
            conv = ConvWeight(in_channels, channels, kernel, stride)
            self.layers.append(ConvLayer(conv, norm))
            in_channels = channels

    def forward(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """Turn samples (B, N) into frames (B, T, C).

        With `lengths` (B,) in samples the time norm counts only frames made of valid samples. The
        first layer computes in the waveform's float32, since samples span more than a half holds.
        """
        if waveforms.device.type == "cpu" and self.folds():
            return self._fused(waveforms, lengths)
        x = waveforms[..., None]
        for layer in self.stack():
            if lengths is not None:
                lengths = (lengths - layer.conv.kernel) // layer.conv.stride + 1
            x = layer(x, lengths).to(self.dtype)
        return x

    def _fused(self, waveforms: Tensor, lengths: Tensor | None) -> Tensor:
        """Do what `forward` does, by fused layers; under autocast all but a folded one halve."""
        autocast = torch.is_autocast_enabled("cpu")
        dtype = torch.get_autocast_dtype("cpu") if autocast else self.dtype
        first, *rest = self.stack()
        x = waveforms[..., None]
        with torch.autocast("cpu", enabled=False):
            folded = first.fold(waveforms, lengths)
            x = first.fused(x.to(dtype) if autocast and folded is None else x, folded, dtype)
            for layer in rest:
                x = layer.fused(x, None, dtype)
        return x

    def folds(self) -> bool:
        """Tell whether the first layer has no time norm, or one that is best folded into it.

        It is where covariances cost less than the layer itself (float64 counted double).
        """
        first = self.stack()[0]
        channels, _, kernel = first.conv.weight.shape
        return not isinstance(first.norm, TimeNorm) or 2 * kernel < channels

    @property
    def dtype(self) -> torch.dtype:
        """What all layers but the first compute in."""
        return self.stack()[0].conv.weight.dtype

    def stack(self) -> list[ConvLayer]:
        """Return the layers, first to last."""
        return [cast("ConvLayer", layer) for layer in self.layers]


class Projection(nn.Module):
    """LayerNorm and Linear from the frontend's channels to the encoder's width."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels, eps=NORM_EPS)
        self.linear = nn.Linear(channels, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, D)."""
        projected: Tensor = self.linear(self.norm(x))
        return projected
