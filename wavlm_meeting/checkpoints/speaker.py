"""Microsoft's released speaker-verification checkpoints: one pickle of `{"model": parameters}`.

There are no settings in them: sizes, norm and heads follow from names and shapes, and what those do
not show is what the released models have. Source: github.com/microsoft/UniSpeech,
`downstreams/speaker_verification`.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.heads import SPEAKER, build_speaker, parse_speaker
from wavlm_meeting.checkpoints.microsoft import encoder_rows, pretraining_names
from wavlm_meeting.checkpoints.names import Layout, Row, Shape, parse_config, to_native
from wavlm_meeting.checkpoints.pickles import state_of
from wavlm_meeting.checkpoints.skeleton import module_shapes
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.heads.ecapa import BLOCK_KERNEL
from wavlm_meeting.heads.speaker import SpeakerConfig
from wavlm_meeting.wavlm.config import RELEASED_CONV_LAYERS, WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

MARK = "feature_weight"
"""A parameter that tells this layout."""

_PREFIX = "feature_extract.model."
"""What stands before the encoder's names."""
_TRAINING = "loss_calculator."
"""Parameters that the training loss alone reads."""


def convolution(kernel: int) -> Layout:
    """Return how a convolution's weight (out, in, kernel) becomes a map of windows."""

    def shape(native: Shape) -> Shape:
        return (native[0], native[1] // kernel, kernel)

    def write(tensor: Tensor) -> Tensor:
        return tensor.unflatten(1, (kernel, -1)).transpose(1, 2)

    return Layout(shape, lambda tensor, _: tensor.transpose(1, 2).flatten(1), write)


def from_speaker_release(checkpoint: Mapping[str, Any], where: str) -> Bundle:
    """Turn the content of a speaker-verification checkpoint into a model.

    What training alone reads is left out. Raises CheckpointError if the parameters are not those of
    a WavLM and an ECAPA-TDNN.
    """
    head = state_of(checkpoint["model"], where)
    head = {name: tensor for name, tensor in head.items() if not name.startswith(_TRAINING)}
    encoder = {
        name.removeprefix(_PREFIX): head.pop(name)
        for name in list(head)
        if name.startswith(_PREFIX)
    }
    for name in pretraining_names(encoder):
        encoder.pop(name)
    config = _encoder_config(encoder, where)
    speaker = _speaker_config(head, where)
    numbers = speaker.model_dump()
    state = {
        ENCODER: to_native(
            encoder, module_shapes(lambda: WavLM(config)), encoder_rows(config), where
        ),
        SPEAKER: to_native(
            head,
            module_shapes(lambda: build_speaker(config, numbers, where)),
            _speaker_rows(speaker),
            where,
        ),
    }
    card = Card(
        name=Path(where).stem,
        version="",
        licence="",
        description="Read from a speaker-verification checkpoint in Microsoft's layout.",
        encoder=config,
        heads={SPEAKER: numbers},
    )
    return Bundle(card, state)


def shape_of(state: Mapping[str, Tensor], name: str, dims: int, where: str) -> Shape:
    """Return the shape of a parameter; raises CheckpointError unless it is there with `dims`."""
    if name not in state or state[name].ndim != dims:
        raise CheckpointError(f"{where}: lacks '{name}'; this is no speaker model that is known.")
    return tuple(state[name].shape)


def count_of(state: Mapping[str, Tensor], pattern: str) -> int:
    """Return how many different numbers stand at the group of `pattern` in names."""
    return len({found[1] for found in (re.match(pattern, name) for name in state) if found})


def _encoder_config(state: Mapping[str, Tensor], where: str) -> WavLMConfig:
    count = count_of(state, r"feature_extractor\.conv_layers\.(\d+)\.0\.weight")
    if count != len(RELEASED_CONV_LAYERS):
        raise CheckpointError(
            f"{where}: its frontend has {count} convolutions, whose strides the file does not "
            f"say; only the released frontend of {len(RELEASED_CONV_LAYERS)} can be read."
        )
    conv_layers = []
    for index, (_, _, stride) in enumerate(RELEASED_CONV_LAYERS):
        name = f"feature_extractor.conv_layers.{index}.0.weight"
        channels, _, kernel = shape_of(state, name, 3, where)
        conv_layers.append((channels, kernel, stride))
    large = "feature_extractor.conv_layers.0.2.1.weight" in state
    first = "encoder.layers.0."
    width, per_group, position_kernel = shape_of(state, "encoder.pos_conv.0.weight_v", 3, where)
    table = f"{first}self_attn.relative_attention_bias.weight"
    bias_buckets, heads = shape_of(state, table, 2, where)
    values = {
        "conv_layers": tuple(conv_layers),
        "frontend_norm": "layer" if large else "group",
        "normalize_waveform": large,
        "pre_norm": large,
        "width": width,
        "layers": count_of(state, r"encoder\.layers\.(\d+)\."),
        "heads": heads,
        "ffn": shape_of(state, f"{first}fc1.weight", 2, where)[0],
        "position_kernel": position_kernel,
        "position_groups": width // per_group,
        "position_bias": "gated" if f"{first}self_attn.grep_a" in state else "plain",
        "bias_buckets": bias_buckets,
    }
    return parse_config(values, where)


def _speaker_config(state: Mapping[str, Tensor], where: str) -> SpeakerConfig:
    channels, _, kernel = shape_of(state, "layer1.conv.weight", 3, where)
    attention, _, _ = shape_of(state, "pooling.linear1.weight", 3, where)
    ecapa = {
        "channels": channels,
        "kernel": kernel,
        "aggregated": shape_of(state, "conv.weight", 3, where)[0],
        "scale": count_of(state, r"layer2\.Res2Conv1dReluBn\.convs\.(\d+)\.") + 1,
        "squeezed": shape_of(state, "layer2.SE_Connect.linear1.weight", 2, where)[0],
        "attention": attention,
        "embedding": shape_of(state, "linear.weight", 2, where)[0],
    }
    return parse_speaker({"ecapa": ecapa}, where)


def _speaker_rows(config: SpeakerConfig) -> tuple[Row, ...]:
    single = convolution(1)
    rows = [
        Row("mix.weights", MARK),
        *_delay("first", "layer1.conv", "layer1.bn", convolution(config.ecapa.kernel)),
    ]
    for index in range(len(config.ecapa.dilations)):
        own, layer = f"blocks.{index}", f"layer{index + 2}"
        chain = f"{layer}.Res2Conv1dReluBn"
        enter, leave = f"{layer}.Conv1dReluBn1", f"{layer}.Conv1dReluBn2"
        chained = _delay(
            f"{own}.chain.{{i}}",
            f"{chain}.convs.{{i}}",
            f"{chain}.bns.{{i}}",
            convolution(BLOCK_KERNEL),
        )
        rows += [
            *_delay(f"{own}.enter", f"{enter}.conv", f"{enter}.bn", single),
            *chained,
            *_delay(f"{own}.leave", f"{leave}.conv", f"{leave}.bn", single),
            Row(f"ecapa.{own}.squeeze", f"{layer}.SE_Connect.linear1"),
            Row(f"ecapa.{own}.excite", f"{layer}.SE_Connect.linear2"),
        ]
    for own, foreign in (
        ("aggregate", "conv"),
        ("pooling.hidden", "pooling.linear1"),
        ("pooling.scores", "pooling.linear2"),
    ):
        rows.append(Row(f"ecapa.{own}.weight", f"{foreign}.weight", single))
        rows.append(Row(f"ecapa.{own}.bias", f"{foreign}.bias"))
    return (*rows, Row("ecapa.pooled_norm", "bn"), Row("ecapa.output", "linear"))


def _delay(own: str, conv: str, norm: str, layout: Layout) -> tuple[Row, ...]:
    """Return the rows of a convolution and its BatchNorm."""
    return (
        Row(f"ecapa.{own}.linear.weight", f"{conv}.weight", layout),
        Row(f"ecapa.{own}.linear.bias", f"{conv}.bias"),
        Row(f"ecapa.{own}.norm", norm),
    )
