"""Bytes that a training step keeps from its forward pass for its gradients, on one GPU.

Counted tensor by tensor, as `MaskedPrediction` keeps them without `torch.compile`, which keeps
fewer. Under autocast products work on halves, and keep the halves they were given; norms, softmax
and the loss are float32, and keep that. Weights are counted elsewhere.

B batch, T frames, C channels, K kernel, D width, F inner width, H heads, M masked frames.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from wavlm_meeting.pretraining.objective import ObjectiveSettings
from wavlm_meeting.wavlm.attention import choose_attention
from wavlm_meeting.wavlm.config import WavLMConfig

FULL = 4
"""Bytes of a float32."""
KERNEL_ALIGNMENT = 16
"""Keys to a multiple of which PyTorch pads a bias for its attention kernel."""


@dataclass(frozen=True)
class Activations:
    """Bytes kept, by part."""

    frontend: int
    """Convolutions and the projection to the width."""
    embedding: int
    """What the Transformer's input is made of, and its final norm."""
    layer: int
    """The inside of one Transformer layer."""
    layer_input: int
    """The input of one layer, which is all that stays of it where layers are recomputed."""
    layers: int
    """Number of layers."""
    head: int
    """Prediction head and losses."""

    def kept(self, *, recompute: bool) -> int:
        """Return the bytes when the backward pass is inside the last layer: the most there are."""
        of_layers = self.layers * (self.layer_input if recompute else self.layer)
        return self.frontend + self.embedding + self.head + of_layers + recompute * self.layer


def count_activations(
    config: WavLMConfig,
    objective: ObjectiveSettings,
    classes: Sequence[int],
    crops: float,
    samples: int,
    masked: float,
    half: int,
) -> Activations:
    """Count what is kept of `crops` (B, an average) utterances of `samples` samples.

    A share `masked` of their frames is predicted; products run in numbers of `half` bytes: 2 under
    autocast, else 4.
    """
    frames = config.frame_count(samples)
    dropout = 2 if config.dropout else 0  # a mask's byte for each of two dropouts
    stream = half if config.pre_norm else FULL  # nothing but a norm makes float32 of halves
    inside = crops * _layer(config, frames, half) + _offsets(config, frames)
    return Activations(
        frontend=round(crops * _frontend(config, samples, half)),
        embedding=round(crops * frames * config.width * (2 * half + FULL + dropout)),
        layer=round(inside),
        layer_input=round(crops * frames * config.width * stream),
        layers=config.layers,
        head=round(crops * frames * masked * _head(config, objective, classes, half)),
    )


def _frontend(config: WavLMConfig, samples: int, half: int) -> int:
    """Count the convolutions' windows, norms and GELUs of one utterance, and the projection."""
    total, in_channels, length = 0, 1, samples
    for index, (channels, kernel, stride) in enumerate(config.conv_layers):
        length = (length - kernel) // stride + 1
        total += length * kernel * in_channels * half  # the windows that the product is over
        if config.frontend_norm == "layer":
            total += length * channels * 2 * FULL  # the norm's input, the GELU's
        elif index == 0:
            total += length * channels * (2 * FULL + half)  # input, deviations, the GELU's input
        else:
            total += length * channels * half  # the GELU's input
        in_channels = channels
    return total + length * in_channels * (FULL + half)  # the features, and normalised


def _layer(config: WavLMConfig, frames: int, half: int) -> int:
    """Count the inside of one layer for one utterance."""
    gated = config.position_bias == "gated"
    own = half < FULL
    # Under autocast every product keeps a copy of its own: query, key, value, gate and FFN.
    inputs = (4 + gated) * half if own else 2 * FULL
    norms = 2 * FULL
    dropout = 2 if config.dropout else 0
    total = frames * config.width * (inputs + norms + dropout)
    inner_dropout = 1 if config.activation_dropout else 0
    total += frames * config.ffn * (2 * half + inner_dropout)  # before and after GELU
    if gated:
        total += frames * config.heads * (2 * half + 2 * FULL)
    if _is_dense(config, frames):
        keys = -(-frames // KERNEL_ALIGNMENT) * KERNEL_ALIGNMENT
        total += config.heads * frames * keys * half  # the bias, written out
    elif config.position_bias != "none":
        return total + frames * config.width * (4 * FULL + own * half)
    return total + frames * config.width * 4 * half  # query, key, value, output


def _offsets(config: WavLMConfig, frames: int) -> int:
    """Count the bias of all pairs of frames before its gate, which all utterances share."""
    gated = config.position_bias == "gated"
    return config.heads * frames**2 * FULL if gated and _is_dense(config, frames) else 0


def _is_dense(config: WavLMConfig, frames: int) -> bool:
    """Tell whether a GPU writes the position bias out for so many frames."""
    method = choose_attention("auto", frames, torch.device("cuda"))
    return config.position_bias != "none" and method == "dense"


def _head(
    config: WavLMConfig, objective: ObjectiveSettings, classes: Sequence[int], half: int
) -> int:
    """Count what is kept for one masked frame."""
    embeddings = objective.size * len(classes)
    total = config.width * half + embeddings * (FULL + half) + sum(classes) * FULL
    if objective.contrastive_weight:
        channels = config.conv_layers[-1][0]
        total += config.width * half + channels * (FULL + half)
        total += (1 + objective.negatives) * (channels * half + FULL)
    return total
