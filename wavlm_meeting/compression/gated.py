"""An encoder with a gate on each unit: a unit whose gate is 0 is as good as pruned.

What a unit gives passes through one linear map, so that its gate is a factor of that map's columns
(`scaled`). Where a LayerNorm comes between, in the frontend, gates are the weights of its
statistics too: with gates of 0 and 1 it is the norm over the channels that are left, exactly.

B batch, N samples, T frames, C channels, D width.
"""

import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from wavlm_meeting.compression.groups import Groups
from wavlm_meeting.compression.pruning import scaled
from wavlm_meeting.wavlm.frontend import TimeNorm, normalize_waveforms
from wavlm_meeting.wavlm.model import WavLM
from wavlm_meeting.wavlm.ops import NORM_EPS

LEAST_WEIGHT = 1e-3
"""What the weights of a norm are taken to sum to, at least."""


def gated_states(
    encoder: WavLM, gates: Groups[Tensor], waveforms: Tensor, lengths: Tensor
) -> tuple[Tensor, ...]:
    """Return the hidden states (B, T, D) of waveforms (B, N), zero after `lengths` (B,) samples."""
    weights = {f"encoder.{name}": weight for name, weight in scaled(encoder, gates).items()}
    states: tuple[Tensor, ...] = functional_call(
        _Gated(encoder, gates.channels), weights, (waveforms, lengths)
    )
    return states


def weighted_norm(x: Tensor, norm: nn.LayerNorm, weights: Tensor) -> Tensor:
    """Normalise (B, T, C) as LayerNorm does, by mean and variance of channels weighted (C,)."""
    x = x.float()
    # Not by products, which autocast would halve; gates may all be shut.
    share = weights / weights.sum().clamp(min=LEAST_WEIGHT)
    centred = x - (x * share).sum(dim=2, keepdim=True)
    variance = (centred.square() * share).sum(dim=2, keepdim=True)
    return centred * (variance + NORM_EPS).rsqrt() * norm.weight + norm.bias


class _Gated(nn.Module):
    """An encoder whose maps are scaled already, with gates as weights of the frontend's norms."""

    def __init__(self, encoder: WavLM, channels: tuple[Tensor, ...]) -> None:
        super().__init__()
        self.encoder, self.channels = encoder, channels

    def forward(self, waveforms: Tensor, lengths: Tensor) -> tuple[Tensor, ...]:
        config, projection = self.encoder.config, self.encoder.projection
        if config.normalize_waveform:
            waveforms = normalize_waveforms(waveforms, lengths)
        frames = (lengths - config.receptive_field) // config.hop + 1
        features = self._features(waveforms, lengths)
        x = projection.linear(weighted_norm(features, projection.norm, self.channels[-1]))
        return self.encoder.contextualize(x, frames, padded=True)

    def _features(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        x = waveforms[..., None]
        for layer, weights in zip(self.encoder.frontend.stack(), self.channels, strict=True):
            lengths = (lengths - layer.conv.kernel) // layer.conv.stride + 1
            x = F.linear(layer.conv.windows(x), layer.conv.matrix())
            if isinstance(layer.norm, TimeNorm):
                x = layer.norm(x, lengths)
            elif layer.norm is not None:
                x = weighted_norm(x, layer.norm, weights)
            x = F.gelu(x)
        return x
