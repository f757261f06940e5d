"""WavLM: from waveforms to the hidden states of every layer (arXiv 2110.13900).

B batch, N samples, T frames, D width, L layers.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.wavlm.attention import Attention, Context, choose_attention
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.dropout import dropout
from wavlm_meeting.wavlm.encoder import EncoderLayer
from wavlm_meeting.wavlm.frontend import (
    Frontend,
    Projection,
    normalize_waveforms,
    valid_mask,
)
from wavlm_meeting.wavlm.ops import NORM_EPS
from wavlm_meeting.wavlm.position import PositionalConv, toeplitz_table
from wavlm_meeting.wavlm.tiling import tiled_frontend, tiling_pays

Padding = Literal["exact", "legacy"]

INIT_STD = 0.02
"""Standard deviation of linear maps and of the bias table at the start (released code)."""


@dataclass(frozen=True)
class EncoderOutput:
    """What the encoder gives for a batch."""

    hidden_states: tuple[Tensor, ...]
    """L + 1 tensors (B, T, D): the input of each layer, then the encoder's output."""
    frame_lengths: Tensor
    """(B,) int64: how many frames of each utterance are valid; later ones are padding."""


class WavLM(nn.Module):
    """The encoder.

    `padding` says what a batch of different lengths does. "exact": each utterance gets what it
    gets alone. "legacy": what the released code does, where the frontend's GroupNorm counts the
    padding and frames are marked valid in equal shares of the samples. Where `recompute` is set,
    training keeps a layer's input alone and computes its inside again for the gradients.
    """

    def __init__(
        self,
        config: WavLMConfig,
        padding: Padding = "exact",
        attention: Attention = "auto",
    ) -> None:
        super().__init__()
        for name, value, kind in (
            ("padding", padding, Padding),
            ("attention", attention, Attention),
        ):
            if value not in get_args(kind):
                raise SettingsError(f"{name} is '{value}': choose one of {get_args(kind)}.")
        self.config, self.padding, self.attention = config, padding, attention
        self.recompute = False
        self.frontend = Frontend(config)
        self.projection = Projection(config.conv_layers[-1][0], config.width)
        self.mask_embedding = nn.Parameter(torch.rand(config.width))
        self.position = PositionalConv(config.width, config.position_kernel, config.position_groups)
        if config.position_bias != "none":
            self.bias_table = nn.Embedding(config.bias_buckets, config.heads)
            nn.init.normal_(self.bias_table.weight, std=INIT_STD)
        self.layers = nn.ModuleList(EncoderLayer(config, index) for index in range(config.layers))
        self.norm = nn.LayerNorm(config.width, eps=NORM_EPS)
        for module in self.layers.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=INIT_STD)
                nn.init.zeros_(module.bias)

    def forward(self, waveforms: Tensor, lengths: Tensor | None = None) -> EncoderOutput:
        """Encode waveforms (B, N), float32 at 16 kHz, zero padded after `lengths` (B,) samples.

        Without `lengths` every sample counts. Raises AudioError if an utterance is too short for
        one frame, SettingsError if the shapes or lengths do not fit.
        """
        features, frames = self.extract(waveforms, lengths)
        x = self.projection(features)
        return EncoderOutput(self.contextualize(x, frames, padded=lengths is not None), frames)

    def extract(self, waveforms: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Run the frontend alone; parameters and errors as above.

        Returns features (B, T, C) before their LayerNorm, and frame lengths (B,).
        """
        self._check(waveforms, lengths)
        waveforms = waveforms.float()
        if self.config.normalize_waveform:
            waveforms = normalize_waveforms(waveforms, lengths)
        counted = lengths if self.padding == "exact" else None
        # Tiles write into buffers of their own, which neither gradients nor autocast reach.
        traced = torch.is_grad_enabled() or torch.is_autocast_enabled(waveforms.device.type)
        if traced or not tiling_pays(self.frontend):
            features = self.frontend(waveforms, counted)
        else:
            features = tiled_frontend(self.frontend, waveforms, counted)
        if lengths is None:
            frames = torch.full(waveforms.shape[:1], features.shape[1], device=waveforms.device)
        else:
            frames = self._frame_lengths(lengths, waveforms.shape[1])
        return features, frames

    def contextualize(
        self,
        x: Tensor,
        lengths: Tensor,
        *,
        padded: bool,
        masked: Tensor | None = None,
        kept: Sequence[bool] | None = None,
    ) -> tuple[Tensor, ...]:
        """Run the Transformer on projected features (B, T, D).

        Frames from `lengths` (B,) on are padding if `padded`; the ones that are `masked` (B, T) are
        replaced by the mask embedding. `kept` says of each layer whether it is run; without it
        layers are dropped at random in training. Returns the L + 1 hidden states (B, T, D).
        """
        frames = x.shape[1]
        x = dropout(x, self.config.dropout, self.training)
        if masked is not None:
            x = torch.where(masked[..., None], self.mask_embedding.to(x.dtype), x)
        if padded:
            x = x * valid_mask(lengths, frames)[..., None]
        x = x + self.position(x)
        if not self.config.pre_norm:
            x = self.norm(x)
        x = dropout(x, self.config.dropout, self.training)
        context = Context(
            self._toeplitz(frames),
            lengths,
            lengths.tolist() if padded else [frames] * len(x),  # a GPU would have to be waited for
            padded,
            choose_attention(self.attention, frames, x.device),
        )
        states = [x]
        for layer, run in zip(self.layers, kept or self.draw_kept(), strict=True):
            if run and self.recompute and torch.is_grad_enabled():
                x = checkpoint(layer, x, context, use_reentrant=False)
            elif run:
                x = layer(x, context)
            states.append(x)
        if self.config.pre_norm:
            states[-1] = self.norm(states[-1])
        return tuple(states)

    def draw_kept(self, generator: torch.Generator | None = None) -> list[bool]:
        """Draw which layers are run: all of them, or some in training with `layer_drop`."""
        if not self.training or self.config.layer_drop == 0:
            return [True] * self.config.layers
        drawn = torch.rand(self.config.layers, generator=generator)
        return [bool(share >= self.config.layer_drop) for share in drawn]

    def _toeplitz(self, frames: int) -> Tensor | None:
        if self.config.position_bias == "none":
            return None
        return toeplitz_table(self.bias_table.weight, frames, self.config.bias_max_distance)

    def _frame_lengths(self, lengths: Tensor, samples: int) -> Tensor:
        """Count each utterance's valid frames, (B,)."""
        frames = self.config.frame_count(samples)
        if self.padding == "exact":
            return (lengths - self.config.receptive_field) // self.config.hop + 1
        # The released code cuts the samples into T equal shares and calls a frame padding when
        # its whole share is.
        share = samples // frames
        return ((lengths + share - 1) // share).clamp(max=frames)

    def _check(self, waveforms: Tensor, lengths: Tensor | None) -> None:
        if waveforms.ndim != 2:
            raise SettingsError(
                f"waveforms have the shape {tuple(waveforms.shape)}: give (batch, samples)."
            )
        shortest = waveforms.shape[1]
        if lengths is not None:
            if lengths.shape != waveforms.shape[:1] or lengths.is_floating_point():
                raise SettingsError("lengths must be whole numbers, one for each waveform.")
            shortest, longest = int(lengths.min()), int(lengths.max())
            if longest > waveforms.shape[1]:
                raise SettingsError(
                    f"a length of {longest} samples exceeds the batch's {waveforms.shape[1]}."
                )
        if shortest < self.config.receptive_field:
            raise AudioError(
                f"{shortest} samples are too few for one frame: give at least "
                f"{self.config.receptive_field}."
            )
