"""DiariZen's folders: `config.toml` and `pytorch_model.bin`, with a whole or a pruned WavLM.

Pruning leaves each layer its own attention heads and feed-forward channels, and so they are read. A
layer that has lost all of them gets one whose output map is zero: it adds nothing. Source:
github.com/BUTSpeechFIT/DiariZen, `models/eend/model_wavlm_conformer.py`, `models/module/wav2vec2`
and `models/module/wavlm_config.py`.
"""

import re
import tomllib
import warnings
from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.conformer_head import (
    CONFORMER_CLASSIFIER,
    build_conformer_classifier,
    parse_classifier,
)
from wavlm_meeting.checkpoints.folders import PICKLED_WEIGHTS
from wavlm_meeting.checkpoints.hub import is_hub_id, one_line
from wavlm_meeting.checkpoints.names import (
    PER_HEAD,
    Layout,
    Row,
    older_weight_norm,
    parse_config,
    to_native,
)
from wavlm_meeting.checkpoints.pickles import TENSORS, read_pickle, state_of
from wavlm_meeting.checkpoints.skeleton import module_shapes
from wavlm_meeting.errors import CheckpointError, WavLMMeetingWarning
from wavlm_meeting.heads.conformer_classifier import (
    ConformerClassifier,
    ConformerClassifierConfig,
)
from wavlm_meeting.wavlm.config import RELEASED_CONV_LAYERS, WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

RELEASES = "but-fit/diarizen-"
"""How the ids of their releases begin."""
CONFIG_TOML = "config.toml"
LICENCE = "CC-BY-NC-4.0"
"""Of the weights that DiariZen's authors release (MODEL_LICENSE of their repository)."""

_MODEL = "diarizen.models.eend.model_wavlm_conformer.Model"
_PRUNED_HEADS: dict[str, tuple[tuple[int, ...], ...]] = {
    "wavlm_base_s80_md": (
        (1, 6), (5, 7, 8), (0, 3, 9), (0, 1, 4, 8, 11), (6, 8), (0,), (7, 8, 10, 11), (0, 1, 4, 8),
        (), (), (4, 7), (5,),
    ),
    "wavlm_large_s80_md": (
        (1, 2, 4, 5, 6), (9, 10, 14), (0, 1, 2, 4, 5, 7), (1, 4, 7, 12, 13, 14), (0, 2, 3, 4, 13),
        (1, 7, 13, 14, 15), (11, 13, 15), (2, 3, 4, 8, 15), (2, 5, 6, 15), (), (0, 1),
        (1, 3, 5, 12), (), (4, 7, 11), (6, 9), (11,), (), (), (14,), (5, 15),
        (0, 2, 8, 11, 13, 15), (0, 1, 3, 4, 5, 6, 7, 10, 13),
        (0, 1, 3, 6, 7, 9, 10, 11, 12, 14), (1, 2, 3, 4, 7, 13, 14, 15),
    ),
}  # fmt: skip
"""Which heads of each layer the released prunings keep: shapes tell only how many."""

_POINTWISE = Layout(
    shape=lambda native: (*native, 1),
    read=lambda tensor, native: tensor.reshape(native),
    write=lambda tensor: tensor.unsqueeze(-1),
)
"""A convolution of one frame, which is a linear layer here."""
_LAYER_WEIGHTS = Layout(
    shape=lambda native: (1, *native),
    read=lambda tensor, native: tensor.reshape(native),
    write=lambda tensor: tensor.unsqueeze(0),
)
_LAYER = "encoder.transformer.layers.{i}."
_BLOCK = "conformer.conformer_layer.{i}."
_INNER = "feed_forward.intermediate_dense"
_SCALE = "feature_extractor.dummy_weight"

_ENCODER = (
    Row("frontend.layers.{i}.conv", "feature_extractor.conv_layers.{i}.conv"),
    Row("frontend.layers.{i}.norm", "feature_extractor.conv_layers.{i}.layer_norm"),
    Row("projection.norm", "encoder.feature_projection.layer_norm"),
    Row("projection.linear", "encoder.feature_projection.projection"),
    Row("mask_embedding", "mask_embedding"),
    Row("position", "encoder.transformer.pos_conv_embed.conv"),
    Row("bias_table", "encoder.transformer.layers.0.attention.rel_attn_embed"),
    Row("layers.{i}.attention.query", _LAYER + "attention.q_proj"),
    Row("layers.{i}.attention.key", _LAYER + "attention.k_proj"),
    Row("layers.{i}.attention.value", _LAYER + "attention.v_proj"),
    Row("layers.{i}.attention.output", _LAYER + "attention.out_proj"),
    Row("layers.{i}.attention.gate", _LAYER + "attention.gru_rel_pos_linear"),
    Row("layers.{i}.attention.gate_scale", _LAYER + "attention.gru_rel_pos_const", PER_HEAD),
    Row("layers.{i}.attention_norm", _LAYER + "layer_norm"),
    Row("layers.{i}.ffn.up", _LAYER + "feed_forward.intermediate_dense"),
    Row("layers.{i}.ffn.down", _LAYER + "feed_forward.output_dense"),
    Row("layers.{i}.ffn_norm", _LAYER + "final_layer_norm"),
    Row("norm", "encoder.transformer.layer_norm"),
)
_HEAD = (
    Row("feature_scale", "feature_scale"),
    Row("layer_weights", "weight_sum.weight", _LAYER_WEIGHTS),
    Row("projection", "proj"),
    Row("norm", "lnorm"),
    Row("conformer.blocks.{i}.first.norm", _BLOCK + "ffn1.ln_norm"),
    Row("conformer.blocks.{i}.first.hidden", _BLOCK + "ffn1.w_1"),
    Row("conformer.blocks.{i}.first.output", _BLOCK + "ffn1.w_2"),
    Row("conformer.blocks.{i}.attention.norm", _BLOCK + "mha.ln_norm"),
    Row("conformer.blocks.{i}.attention.query", _BLOCK + "mha.mha.linearQ"),
    Row("conformer.blocks.{i}.attention.key", _BLOCK + "mha.mha.linearK"),
    Row("conformer.blocks.{i}.attention.value", _BLOCK + "mha.mha.linearV"),
    Row("conformer.blocks.{i}.attention.output", _BLOCK + "mha.mha.linearO"),
    Row("conformer.blocks.{i}.convolution.norm", _BLOCK + "conv.ln_norm"),
    Row(
        "conformer.blocks.{i}.convolution.gated.weight",
        _BLOCK + "conv.pointwise_conv1.weight",
        _POINTWISE,
    ),
    Row("conformer.blocks.{i}.convolution.gated.bias", _BLOCK + "conv.pointwise_conv1.bias"),
    Row("conformer.blocks.{i}.convolution.depthwise", _BLOCK + "conv.depthwise_conv"),
    Row("conformer.blocks.{i}.convolution.batch_norm", _BLOCK + "conv.bn_norm"),
    Row(
        "conformer.blocks.{i}.convolution.output.weight",
        _BLOCK + "conv.pointwise_conv2.weight",
        _POINTWISE,
    ),
    Row("conformer.blocks.{i}.convolution.output.bias", _BLOCK + "conv.pointwise_conv2.bias"),
    Row("conformer.blocks.{i}.second.norm", _BLOCK + "ffn2.ln_norm"),
    Row("conformer.blocks.{i}.second.hidden", _BLOCK + "ffn2.w_1"),
    Row("conformer.blocks.{i}.second.output", _BLOCK + "ffn2.w_2"),
    Row("conformer.blocks.{i}.norm", _BLOCK + "ln_norm"),
    Row("classes", "classifier"),
)


def is_diarizen(path: Path) -> bool:
    """Tell whether a folder holds a model of DiariZen's, by its config.toml."""
    try:
        return _MODEL in (path / CONFIG_TOML).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return False


def is_diarizen_id(name: str) -> bool:
    """Tell whether a name is that of a model of DiariZen's authors on the Hugging Face hub."""
    return is_hub_id(name) and name.lower().startswith(RELEASES)


def fetch_diarizen(name: str) -> Path:
    """Bring such a model into the local cache, if it is not there, and return its folder.

    Raises:
        CheckpointError: There is no such model, it is not open to this user, or it is not in the
            cache and the hub cannot be reached.
    """
    with one_line(name):
        return Path(snapshot_download(name, allow_patterns=[CONFIG_TOML, PICKLED_WEIGHTS]))


def read_diarizen(path: Path) -> Bundle:
    """Read a folder of DiariZen's: an encoder and a CONFORMER_CLASSIFIER, without voices.

    The licence of the released weights is told as a warning.

    Raises:
        CheckpointError: A file is missing or damaged, or the model is of a kind that is not
            supported.
    """
    where = str(path)
    tables = _read_tables(path)
    file = path / PICKLED_WEIGHTS
    if not file.is_file():
        raise CheckpointError(f"{file}: no such file; fetch the whole folder.")
    state = older_weight_norm(state_of(read_pickle(file, TENSORS), str(file)))
    encoder = {
        name.removeprefix("wavlm_model."): state.pop(name)
        for name in list(state)
        if name.startswith("wavlm_model.")
    }
    if _SCALE not in encoder:
        raise CheckpointError(
            f"{where}: not the layout of DiariZen since 2025; fetch a newer release of the model."
        )
    state["feature_scale"] = encoder.pop(_SCALE)
    arguments = tables["model"]["args"]
    kept = _PRUNED_HEADS.get(str(arguments.get("wavlm_src")))
    config = _infer_config(encoder, kept, where)
    encoder = _filled(encoder, config)
    encoder["mask_embedding"] = torch.zeros(config.width)  # masks nothing outside of pretraining
    numbers = _head_numbers(tables, config, where)
    classes = len(state.get("classifier.weight", ()))
    _check_classes(classes, numbers, where)
    parts = {
        ENCODER: to_native(encoder, module_shapes(lambda: WavLM(config)), _ENCODER, where),
        CONFORMER_CLASSIFIER: to_native(
            state,
            module_shapes(lambda: _empty_head(config, numbers, classes)),
            _HEAD,
            where,
        ),
    }
    warnings.warn(
        f"{path.name}: the weights that DiariZen's authors release are under {LICENCE}: research "
        "and other non-commercial use alone.",
        WavLMMeetingWarning,
        stacklevel=2,
    )
    card = Card(
        name=path.name,
        version="",
        licence=LICENCE,
        description="Read from a folder of DiariZen's.",
        encoder=config,
        heads={CONFORMER_CLASSIFIER: numbers.model_dump()},
    )
    return Bundle(card, parts)


def _empty_head(
    encoder: WavLMConfig, numbers: ConformerClassifierConfig, classes: int
) -> ConformerClassifier:
    return build_conformer_classifier(
        encoder, numbers, torch.zeros(classes, numbers.local_speakers)
    )


def _read_tables(path: Path) -> dict[str, Any]:
    try:
        tables = tomllib.loads((path / CONFIG_TOML).read_text(encoding="utf-8"))
    except tomllib.TOMLDecodeError as error:
        raise CheckpointError(f"{path / CONFIG_TOML}: not valid TOML: {error}.") from None
    if not isinstance(tables.get("model", {}).get("args"), dict):
        raise CheckpointError(f"{path / CONFIG_TOML}: has no table [model.args].")
    arguments = tables["model"]["args"]
    for name in ("use_posi", "output_activate_function"):
        if arguments.get(name, False):
            raise CheckpointError(
                f"{path / CONFIG_TOML}: '{name}' is {arguments[name]!r}; only false is supported."
            )
    return tables


def _head_numbers(
    tables: Mapping[str, Any], encoder: WavLMConfig, where: str
) -> ConformerClassifierConfig:
    """Rename the settings of config.toml; what is left out there has DiariZen's default."""
    arguments = tables["model"]["args"]
    inference = tables.get("inference", {}).get("args", {})
    window_s = float(inference.get("seg_duration", arguments.get("chunk_size", 5)))
    numbers = {
        "local_speakers": arguments.get("max_speakers_per_chunk", 4),
        "at_once": arguments.get("max_speakers_per_frame", 2),
        "hidden": arguments.get("attention_in", 256),
        "blocks": arguments.get("num_layer", 4),
        "heads": arguments.get("num_head", 4),
        "ffn": arguments.get("ffn_hidden", 1024),
        "kernel": arguments.get("kernel_size", 31),
        "features": encoder.conv_layers[-1][0],
        "window_s": window_s,
        "hop_s": window_s * float(inference.get("segmentation_step", 0.1)),
    }
    return parse_classifier(numbers, f"{where}: {CONFIG_TOML}")


def _check_classes(classes: int, numbers: ConformerClassifierConfig, where: str) -> None:
    """Refuse a classifier that is not one of sets of speakers."""
    sets = sum(comb(numbers.local_speakers, size) for size in range(numbers.at_once + 1))
    if classes != sets:
        raise CheckpointError(
            f"{where}: has {classes} classes, but {numbers.local_speakers} speakers with "
            f"{numbers.at_once} at once make {sets}; weights and settings are of different models."
        )


def _infer_config(
    state: Mapping[str, Tensor], kept: Sequence[Sequence[int]] | None, where: str
) -> WavLMConfig:
    """Read the sizes off the shapes; `kept` says which heads a known pruning has left."""
    try:
        buckets, heads = state["encoder.transformer.layers.0.attention.rel_attn_embed.weight"].shape
        width, per_group, kernel = state["encoder.transformer.pos_conv_embed.conv.weight_v"].shape
        convolutions = [
            (len(state[f"feature_extractor.conv_layers.{i}.conv.weight"]), *released[1:])
            for i, released in enumerate(RELEASED_CONV_LAYERS)
        ]
    except KeyError as error:
        raise CheckpointError(f"{where}: the parameter {error} is missing.") from None
    large = "feature_extractor.conv_layers.1.layer_norm.weight" in state
    found = (re.match(r"encoder\.transformer\.layers\.(\d+)", name) for name in state)
    names = [_LAYER.format(i=i) for i in range(len({match[1] for match in found if match}))]
    inner = [len(state.get(f"{name}{_INNER}.bias", ())) for name in names]
    layer_heads = [
        _kept_heads(state, name, width // heads, heads, kept[i] if kept else None, where)
        for i, name in enumerate(names)
    ]
    pruned = len({*inner}) > 1 or any(len(own) < heads for own in layer_heads)
    values = {
        "conv_layers": tuple(convolutions),
        "frontend_norm": "layer" if large else "group",
        "normalize_waveform": large,
        "pre_norm": large,
        "width": width,
        "layers": len(names),
        "heads": heads,
        "ffn": max(1, *inner),
        "layer_heads": tuple(tuple(own) or (0,) for own in layer_heads) if pruned else None,
        "layer_ffn": tuple(max(1, own) for own in inner) if pruned else None,
        "position_kernel": kernel,
        "position_groups": width // per_group,
        "bias_buckets": buckets,
    }
    return parse_config(values, where)


def _kept_heads(
    state: Mapping[str, Tensor],
    name: str,
    size: int,
    heads: int,
    kept: Sequence[int] | None,
    where: str,
) -> Sequence[int]:
    """Return which heads a layer has kept; raises CheckpointError if it is not known."""
    count = len(state.get(f"{name}attention.q_proj.weight", ())) // size
    if count in {0, heads}:
        return range(count)
    if kept is None or len(kept) != count:
        number = re.findall(r"\d+", name)[-1]
        raise CheckpointError(
            f"{where}: which {count} of {heads} heads layer {number} has kept is not known; known "
            f"prunings are {', '.join(_PRUNED_HEADS)}."
        )
    return kept


def _filled(state: Mapping[str, Tensor], config: WavLMConfig) -> dict[str, Tensor]:
    """Give layers that have lost all heads or channels one of each, which adds nothing."""
    whole, size, width = dict(state), config.head_width, config.width
    for layer in range(config.layers):
        name = _LAYER.format(i=layer)
        attention, heads = f"{name}attention.", config.heads_of(layer)
        if not len(state.get(f"{attention}q_proj.weight", ())):
            for part in ("q_proj", "k_proj", "v_proj"):
                _add_linear(whole, attention + part, width, size)
            _add_linear(whole, f"{attention}out_proj", size, width)
        if f"{attention}gru_rel_pos_linear.weight" not in state:
            _add_linear(whole, f"{attention}gru_rel_pos_linear", size, 8)
        scale = whole.get(f"{attention}gru_rel_pos_const", torch.ones(1, config.heads, 1, 1))
        whole[f"{attention}gru_rel_pos_const"] = scale[:, list(heads)]
        if not len(state.get(f"{name}{_INNER}.weight", ())):
            _add_linear(whole, f"{name}{_INNER}", width, 1)
            _add_linear(whole, f"{name}feed_forward.output_dense", 1, width)
    return whole


def _add_linear(state: dict[str, Tensor], name: str, inputs: int, outputs: int) -> None:
    state[f"{name}.weight"] = torch.zeros(outputs, inputs)
    state[f"{name}.bias"] = torch.zeros(outputs)
