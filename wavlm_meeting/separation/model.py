"""The network of separation: masks for two talkers and noise, from spectrum and hidden states.

Source: WavLM paper (arXiv 2110.13900), section V-C; the Conformer for separation is that of Chen et
al., "Continuous speech separation with Conformer" (ICASSP 2021, arXiv 2008.05773).

B batch, T frames of the spectrum, S frames of the encoder, F bins, C channels, L layers,
J talkers (2).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from wavlm_meeting.heads.conformer import Conformer
from wavlm_meeting.heads.layer_mix import LayerMix
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.separation.spectra import power
from wavlm_meeting.wavlm.config import WavLMConfig

TALKERS = 2
"""Talkers that are told apart: hardly ever do more talk at once."""
QUIETEST = 1e-6
"""Power, as a share of the window's mean, that silence counts as (-60 dB)."""
VARIANCE_EPS = 1e-3
"""Added to the variance of each bin's logarithm: a bin that stays silent is not blown up."""


class SeparationHead(nn.Module):
    """Spectra and hidden states -> masks (B, J + 1, T, F), the last one for noise.

    `layers` and `width` are the encoder's, `feature_hop` and `feature_field` its hop and its
    receptive field in samples; with `layers` None the head hears the spectrum alone. Masks do not
    depend on the level of what is heard.
    """

    def __init__(
        self,
        layers: int | None,
        width: int,
        *,
        feature_hop: int = 320,
        feature_field: int = 400,
        fft: int = 512,
        hop: int = 256,
        subsampling: int = 1,
        conformer_layers: int = 16,
        hidden: int = 256,
        attention_heads: int = 4,
        ffn: int = 1024,
        kernel: int = 33,
    ) -> None:
        super().__init__()
        self.fft, self.hop, self.bins = fft, hop, fft // 2 + 1
        self.subsampling = subsampling
        self.features = (
            None if layers is None else Features(layers, width, feature_hop, feature_field)
        )
        inputs = subsampling * self.bins + (0 if layers is None else width)
        self.input = nn.Linear(inputs, hidden)
        self.conformer = Conformer(
            conformer_layers, hidden, heads=attention_heads, ffn=ffn, kernel=kernel
        )
        self.masks = nn.Linear(hidden, subsampling * (TALKERS + 1) * self.bins)

    def forward(
        self,
        spectra: Tensor,
        hidden_states: Sequence[Tensor] = (),
        frame_lengths: Tensor | None = None,
    ) -> Tensor:
        """Return masks from 0 to 1 (B, J + 1, T, F) for spectra (B, T, F) as `stft` gives them.

        `hidden_states` are the L + 1 tensors (B, S, C) of the same windows; a head that hears the
        spectrum alone looks at none. Frames from `frame_lengths` (B,) on are not listened to;
        without it, all are.
        """
        frames, each = spectra.shape[1], self.subsampling
        x = normalized_logarithm(spectra, frame_lengths)
        x = F.pad(x, (0, 0, 0, -frames % each)).unflatten(1, (-1, each)).flatten(2)
        if self.features is not None:
            steps = torch.arange(x.shape[1], device=x.device)
            centres = (steps * each + (each - 1) / 2) * self.hop
            x = torch.cat([x, self.features(hidden_states, centres)], dim=-1)
        lengths = None if frame_lengths is None else -(-frame_lengths // each)
        x = self.masks(self.conformer(self.input(x), lengths)).float()
        logits = x.unflatten(-1, (each, TALKERS + 1, self.bins)).flatten(1, 2)  # (B, T, J + 1, F)
        return logits[:, :frames].sigmoid().transpose(1, 2)


class Features(nn.Module):
    """Hidden states -> features at the frames of the spectrum (B, T, C).

    They are interpolated linearly between the centres of the encoder's frames, which are `field`
    samples long and `hop` apart, and stay constant beyond the outermost.
    """

    def __init__(self, layers: int, width: int, hop: int, field: int) -> None:
        super().__init__()
        self.hop, self.centre = hop, (field - 1) / 2
        self.mix = LayerMix(layers + 1)
        self.norm = nn.LayerNorm(width)

    def forward(self, hidden_states: Sequence[Tensor], centres: Tensor) -> Tensor:
        """Return features at frames with these `centres` (T,) in samples."""
        features = self.norm(self.mix(hidden_states))
        frames = torch.arange(features.shape[1], device=features.device)
        places = ((centres - self.centre) / self.hop).clamp(0, len(frames) - 1)
        shares = (1 - (places[:, None] - frames).abs()).clamp(min=0)  # (T, S)
        at_centres: Tensor = shares.to(features) @ features
        return at_centres


def normalized_logarithm(spectra: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
    """Return log-magnitudes (B, T, F) of zero mean and unit variance in each bin of each window.

    Frames from `frame_lengths` (B,) on are 0 and do not count. The level of the window has no
    influence; silence gives 0 everywhere.
    """
    squares = power(spectra)
    heard = torch.ones_like(squares[..., :1])
    if frame_lengths is not None:
        frames = torch.arange(squares.shape[1], device=squares.device)
        heard = (frames < frame_lengths[:, None])[..., None].to(squares)  # (B, T, 1)
    count = heard.sum(dim=1, keepdim=True).clamp(min=1)
    mean_power = (squares * heard).sum(dim=(1, 2), keepdim=True) / (count * squares.shape[2])
    smallest = torch.finfo(squares.dtype).tiny
    logarithm = (squares / mean_power.clamp(min=smallest) + QUIETEST).log()
    mean = (logarithm * heard).sum(dim=1, keepdim=True) / count
    centred = (logarithm - mean) * heard
    variance = centred.square().sum(dim=1, keepdim=True) / count
    return centred * torch.rsqrt(variance + VARIANCE_EPS)


def build_head(encoder: WavLMConfig, settings: SeparationSettings) -> SeparationHead:
    """Return the head that `settings` describe, for an encoder of these sizes."""
    return SeparationHead(
        encoder.layers if settings.features else None,
        encoder.width,
        feature_hop=encoder.hop,
        feature_field=encoder.receptive_field,
        **settings.head_sizes(),
    )
