"""ECAPA-TDNN: one embedding for a whole utterance (Desplanques et al., arXiv 2005.07143).

Frame features pass through convolutions over time in which channels are chained in chunks (Res2)
and weighed by what the whole utterance is like (squeeze and excitation); attention says how much
each frame counts, for each channel, in the mean and deviation that become the embedding.

Two released families differ in little, and one network carries both: Microsoft's
(github.com/microsoft/UniSpeech, `downstreams/speaker_verification/models/ecapa_tdnn.py`) sees zeros
beyond an utterance's ends; SpeechBrain's (`speechbrain.lobes.models.ECAPA_TDNN`) sees the
utterance's reflection, and its attention reads the utterance's mean and deviation too. The latter
chains other chunks: that is a matter of the order of channels, which loading takes care of.

A convolution is a linear map of windows, channels last: the fastest form on a CPU (docs/log.md).

B batch, T frames, C channels, K kernel, S scale, D embedding size.
"""

from collections.abc import Iterable
from typing import Literal, Self

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from wavlm_meeting.config import Settings
from wavlm_meeting.heads.linear import Linear, linear

Padding = Literal["zeros", "reflect"]

PART = 256
"""Channels that are pooled at a time: several seconds of them stay in a core's cache."""
BLOCK_KERNEL = 3
"""Frames that each convolution of a chain sees."""


class EcapaConfig(Settings):
    """Sizes of an ECAPA-TDNN; the defaults are those of the WavLM paper (section V-B)."""

    channels: int = Field(512, ge=1)
    """Channels of the first layer and of the blocks: 512 or 1024 in released models."""
    aggregated: int = Field(1536, ge=1)
    """Channels that all blocks' outputs are brought to before they are pooled."""
    kernel: int = Field(5, ge=1)
    """Frames that the first convolution sees; an odd number."""
    dilations: tuple[int, ...] = Field((2, 3, 4), min_length=1)
    """From one seen frame to the next in the convolutions of each block: one block for each."""
    scale: int = Field(8, ge=2)
    """Chunks that a block's channels are cut into; all but the last are convolved in a chain."""
    squeezed: int = Field(128, ge=1)
    """Inner width of the squeeze and excitation."""
    attention: int = Field(128, ge=1)
    """Inner width of the attention."""
    embedding: int = Field(256, ge=1)
    """Size of the embedding."""
    padding: Padding = "zeros"
    """What convolutions see beyond an utterance's ends: zeros, or the utterance mirrored."""
    context: bool = False
    """Whether attention reads the utterance's mean and deviation beside each frame; what is pooled
    then passes a BatchNorm first, and the attention's inside ReLU and BatchNorm."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.channels % self.scale:
            message = f"channels {self.channels} is not a multiple of scale {self.scale}"
            raise ValueError(message)
        if self.kernel % 2 == 0:
            message = f"kernel {self.kernel} must be odd, so that each frame has as many before it"
            raise ValueError(message)
        return self


class Ecapa(nn.Module):
    """Frame features -> one embedding for each utterance.

    In training BatchNorm's statistics count all frames of a batch, padding included: train on
    utterances of one length.
    """

    def __init__(
        self,
        inputs: int,
        *,
        channels: int,
        aggregated: int,
        kernel: int,
        dilations: tuple[int, ...],
        scale: int,
        squeezed: int,
        attention: int,
        embedding: int,
        padding: Padding,
        context: bool,
    ) -> None:
        super().__init__()
        self.first = TimeDelay(inputs, channels, kernel, 1, padding)
        self.blocks = nn.ModuleList(
            SqueezedRes2(channels, scale, dilation, squeezed, padding) for dilation in dilations
        )
        self.aggregate = Linear(len(dilations) * channels, aggregated)
        self.aggregate_norm = nn.BatchNorm1d(aggregated) if context else None
        self.pooling = AttentivePooling(aggregated, attention, context=context)
        self.pooled_norm = nn.BatchNorm1d(2 * aggregated)
        self.output = Linear(2 * aggregated, embedding)

    def forward(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Embed features (B, C, T), of which the first `frame_lengths` (B,) frames are valid.

        Without `frame_lengths` all are. In eval mode padding has no influence. Returns (B, D), not
        of unit length.
        """
        x = self.first(features.mT, frame_lengths)  # (B, T, C)
        outputs = []
        for block in self.blocks:
            x = block(x, frame_lengths)
            outputs.append(x)
        x = self.aggregate(torch.cat(outputs, dim=2), relu=True)
        if self.aggregate_norm is not None:
            x = _normalize(self.aggregate_norm, x)
        embeddings: Tensor = self.output(self.pooled_norm(self.pooling(x, frame_lengths)))
        return embeddings


class TimeDelay(nn.Module):
    """A convolution over time that keeps the number of frames, then ReLU and BatchNorm."""

    def __init__(
        self, inputs: int, outputs: int, kernel: int, dilation: int, padding: Padding
    ) -> None:
        super().__init__()
        self.kernel, self.dilation, self.padding = kernel, dilation, padding
        self.linear = Linear(kernel * inputs, outputs)  # columns: (K, C)
        self.norm = nn.BatchNorm1d(outputs)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Map (B, T, C) to (B, T, C'); frames from `lengths` (B,) on are padding, if given."""
        if self.kernel > 1:
            frames, reach = x.shape[1], self.dilation * (self.kernel // 2)
            around = surround(x, reach, lengths, self.padding)
            starts = range(0, 2 * reach + 1, self.dilation)
            x = torch.cat([around[:, start : start + frames] for start in starts], dim=2)
        return _normalize(self.norm, self.linear(x, relu=True))


class SqueezedRes2(nn.Module):
    """A block: chained convolutions of chunks between two layers, and squeeze and excitation."""

    def __init__(
        self, channels: int, scale: int, dilation: int, squeezed: int, padding: Padding
    ) -> None:
        super().__init__()
        self.enter = TimeDelay(channels, channels, 1, 1, padding)
        chunk = channels // scale
        self.chain = nn.ModuleList(
            TimeDelay(chunk, chunk, BLOCK_KERNEL, dilation, padding) for _ in range(scale - 1)
        )
        self.leave = TimeDelay(channels, channels, 1, 1, padding)
        self.squeeze = Linear(channels, squeezed)
        self.excite = Linear(squeezed, channels)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Map (B, T, C) to the same shape; frames from `lengths` (B,) on are padding, if given.

        Each convolution reads its chunk plus the output of the one before; the last chunk passes.
        """
        *chunks, last = self.enter(x, lengths).chunk(len(self.chain) + 1, dim=2)
        outputs: list[Tensor] = []
        for convolution, chunk in zip(self.chain, chunks, strict=True):
            read = chunk + outputs[-1] if outputs else chunk
            outputs.append(convolution(read, lengths))
        y = self.leave(torch.cat([*outputs, last], dim=2), lengths)
        mean = (y * frame_shares(y, lengths)).sum(dim=1, keepdim=True)
        weights = self.excite(self.squeeze(mean, relu=True)).sigmoid()  # (B, 1, C)
        return torch.addcmul(x, y, weights)


class AttentivePooling(nn.Module):
    """Mean and deviation over time, each channel with weights of its own for the frames."""

    def __init__(self, channels: int, hidden: int, *, context: bool) -> None:
        super().__init__()
        self.context = context
        # The least variance, as in the two families.
        self.floor = 1e-12 if context else 1e-9
        self.hidden = Linear((3 if context else 1) * channels, hidden)
        self.norm = nn.BatchNorm1d(hidden) if context else None
        self.scores = Linear(hidden, channels)

    def forward(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Pool (B, T, C) over its first `lengths` (B,) frames, or all of them: (B, 2 C)."""
        hidden = self._hidden(x, lengths)
        if self.norm is not None:
            hidden = _normalize(self.norm, F.relu(hidden))
        scores = self.scores(hidden.tanh())
        if lengths is not None:
            scores = scores.masked_fill(~_valid(x, lengths), float("-inf"))
        parts = zip(x.split(PART, dim=2), scores.split(PART, dim=2), strict=True)
        return self._statistics((part, each.softmax(dim=1)) for part, each in parts)

    def _hidden(self, x: Tensor, lengths: Tensor | None) -> Tensor:
        """Map (B, T, C) to (B, T, A); what all frames have in common is mapped once."""
        if not self.context:
            hidden: Tensor = self.hidden(x)
            return hidden
        own, common = self.hidden.weight.tensor_split([x.shape[2]], dim=1)
        shares = frame_shares(x, lengths)
        statistics = self._statistics((part, shares) for part in x.split(PART, dim=2))
        shift = linear(statistics, common, self.hidden.bias)
        return linear(x, own) + shift[:, None]

    def _statistics(self, parts: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
        """Return means and deviations, (B, 2 C), of parts of the channels and their weights."""
        moments = [weighted_moments(x, weights) for x, weights in parts]
        means, variances = (torch.cat(each, dim=1) for each in zip(*moments, strict=True))
        return torch.cat([means, variances.clamp(min=self.floor).sqrt()], dim=1)


def weighted_moments(x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and variance (B, C) of (B, T, C) under weights that sum to 1 over time."""
    mean = (weights * x).sum(dim=1)
    variance = (weights * (x - mean[:, None]).square()).sum(dim=1)
    return mean, variance


def surround(x: Tensor, reach: int, lengths: Tensor | None, padding: Padding) -> Tensor:
    """Put what lies beyond its ends around each utterance of (B, T, C): (B, T + 2 reach, C).

    Utterances end after `lengths` (B,) frames, if given: what follows is replaced.
    """
    frames = x.shape[1]
    if padding == "zeros":
        if lengths is not None:
            x = x * _valid(x, lengths)
        return F.pad(x, (0, 0, reach, reach))
    positions = torch.arange(-reach, frames + reach, device=x.device)
    if lengths is None:
        return x.index_select(1, _mirrored(positions, frames - 1))
    rows = torch.arange(len(x), device=x.device)[:, None]
    return x[rows, _mirrored(positions, lengths[:, None] - 1)]


def _mirrored(positions: Tensor, last: Tensor | int) -> Tensor:
    """Reflect positions at 0 and `last`, without repeating either; farther ones become 0."""
    return (last - (last - positions.abs()).abs()).clamp(min=0)


def frame_shares(x: Tensor, lengths: Tensor | None) -> Tensor:
    """Return the weights of a mean over the valid frames of (B, T, C): (B or 1, T, 1)."""
    if lengths is None:
        return x.new_full((1, x.shape[1], 1), 1 / x.shape[1])
    return _valid(x, lengths) / lengths[:, None, None].to(x.dtype)


def _valid(x: Tensor, lengths: Tensor) -> Tensor:
    """Return (B, T, 1), true for the frames before the length."""
    return (torch.arange(x.shape[1], device=x.device) < lengths[:, None])[..., None]


def _normalize(norm: nn.BatchNorm1d, x: Tensor) -> Tensor:
    """Apply a BatchNorm to the frames (B, T, C); one with fixed statistics is a scale and shift."""
    if norm.training:
        normalized: Tensor = norm(x.flatten(0, 1)).view(x.shape)
        return normalized
    mean, variance = norm.get_buffer("running_mean"), norm.get_buffer("running_var")
    scale = norm.weight * torch.rsqrt(variance + norm.eps)
    return torch.addcmul(norm.bias - mean * scale, x, scale)
