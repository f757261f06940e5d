"""State dictionaries of torchaudio's WavLM models, as `torch.save` wrote them.

They come without settings: sizes are read off the shapes, and what no shape shows is as in
`torchaudio.models.wavlm_base` and `wavlm_large`. Source: github.com/pytorch/audio,
`models/wav2vec2`.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, zeros

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.heads import CTC, linear_shapes
from wavlm_meeting.checkpoints.names import (
    PER_HEAD,
    Row,
    older_weight_norm,
    parse_config,
    to_native,
)
from wavlm_meeting.checkpoints.skeleton import module_shapes
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.wavlm.config import RELEASED_CONV_LAYERS, WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

MARK = "encoder.transformer.layers.0.attention.rel_attn_embed.weight"
"""A parameter that these state dictionaries have, and no other format."""

_MASK = "mask_embedding"
"""Not in torchaudio, which masks elsewhere: zeros take its place."""
_PACKED = ".attention.attention.in_proj_"
"""Query, key and value in one parameter, as torch.nn.MultiheadAttention keeps them."""
_UNPACKED = ("query", "key", "value")

_ENCODER = (
    Row("frontend.layers.{i}.conv", "feature_extractor.conv_layers.{i}.conv"),
    Row("frontend.layers.{i}.norm", "feature_extractor.conv_layers.{i}.layer_norm"),
    Row("projection.norm", "encoder.feature_projection.layer_norm"),
    Row("projection.linear", "encoder.feature_projection.projection"),
    Row("mask_embedding", _MASK),
    Row("position", "encoder.transformer.pos_conv_embed.conv"),
    Row("bias_table", "encoder.transformer.layers.0.attention.rel_attn_embed"),
    Row("layers.{i}.attention.query", "encoder.transformer.layers.{i}.attention.attention.query"),
    Row("layers.{i}.attention.key", "encoder.transformer.layers.{i}.attention.attention.key"),
    Row("layers.{i}.attention.value", "encoder.transformer.layers.{i}.attention.attention.value"),
    Row(
        "layers.{i}.attention.output", "encoder.transformer.layers.{i}.attention.attention.out_proj"
    ),
    Row("layers.{i}.attention.gate", "encoder.transformer.layers.{i}.attention.gru_rel_pos_linear"),
    Row(
        "layers.{i}.attention.gate_scale",
        "encoder.transformer.layers.{i}.attention.gru_rel_pos_const",
        PER_HEAD,
    ),
    Row("layers.{i}.attention_norm", "encoder.transformer.layers.{i}.layer_norm"),
    Row("layers.{i}.ffn.up", "encoder.transformer.layers.{i}.feed_forward.intermediate_dense"),
    Row("layers.{i}.ffn.down", "encoder.transformer.layers.{i}.feed_forward.output_dense"),
    Row("layers.{i}.ffn_norm", "encoder.transformer.layers.{i}.final_layer_norm"),
    Row("norm", "encoder.transformer.layer_norm"),
)
_CTC = (Row("output", "aux"),)


def from_torchaudio(state: Mapping[str, Tensor], where: str) -> Bundle:
    """Turn a state dictionary of torchaudio into a model.

    Strides, the reach of the position bias, the place of the norms and whether the waveform is
    normalised are those of the released sizes: Large's if the frontend has LayerNorm, else Base's.

    Raises:
        CheckpointError: The frontend is not the released one, or a parameter does not fit.
    """
    state = _unpacked(older_weight_norm(state))
    config = _infer_config(state, where)
    state[_MASK] = zeros(config.width)
    output = {name: state.pop(name) for name in list(state) if name.startswith("aux.")}
    shapes = module_shapes(lambda: WavLM(config))
    parts = {ENCODER: to_native(state, shapes, _ENCODER, where)}
    heads = {}
    if output:
        classes = len(next(iter(output.values())))
        parts[CTC] = to_native(output, linear_shapes(classes, config.width), _CTC, where)
        heads[CTC] = {"classes": classes}
    card = Card(
        name=Path(where).stem,
        version="",
        licence="",
        description="Read from a state dictionary of torchaudio.",
        encoder=config,
        heads=heads,
    )
    return Bundle(card, parts)


def _unpacked(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Cut each joint projection into query, key and value."""
    unpacked = {}
    for name, tensor in state.items():
        if _PACKED not in name:
            unpacked[name] = tensor
            continue
        for part, piece in zip(_UNPACKED, tensor.chunk(len(_UNPACKED)), strict=True):
            start, kind = name.split(_PACKED)
            unpacked[f"{start}.attention.attention.{part}.{kind}"] = piece
    return unpacked


def _infer_config(state: Mapping[str, Tensor], where: str) -> WavLMConfig:
    convolutions = [
        tensor
        for name, tensor in state.items()
        if re.fullmatch(r"feature_extractor\.conv_layers\.\d+\.conv\.weight", name)
    ]
    released = [kernel for _, kernel, _ in RELEASED_CONV_LAYERS]
    if [weight.shape[-1] for weight in convolutions] != released:
        raise CheckpointError(
            f"{where}: the frontend's kernels are not the released {released}, and a torchaudio "
            "state does not tell the strides."
        )
    conv_layers = tuple(
        (len(weight), kernel, stride)
        for weight, (_, kernel, stride) in zip(convolutions, RELEASED_CONV_LAYERS, strict=True)
    )
    large = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    buckets, heads = state[MARK].shape
    try:
        width, per_group, position_kernel = state[
            "encoder.transformer.pos_conv_embed.conv.weight_v"
        ].shape
        ffn = len(state["encoder.transformer.layers.0.feed_forward.intermediate_dense.bias"])
    except KeyError as error:
        raise CheckpointError(f"{where}: the parameter {error} is missing.") from None
    layers = {
        name.split(".")[3] for name in state if name.startswith("encoder.transformer.layers.")
    }
    values = {
        "conv_layers": conv_layers,
        "frontend_norm": "layer" if large else "group",
        "normalize_waveform": large,
        "pre_norm": large,
        "width": width,
        "layers": len(layers),
        "heads": heads,
        "ffn": ffn,
        "position_kernel": position_kernel,
        "position_groups": width // per_group,
        "bias_buckets": buckets,
    }
    return parse_config(values, where)
