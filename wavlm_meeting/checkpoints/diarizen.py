"""DiariZen's folders: `config.toml` and `pytorch_model.bin`, with a whole or a pruned WavLM.

Pruning leaves each layer its own attention heads and feed-forward channels. They come back to full
layers by zeros: a head or channel whose output map is zero adds nothing, so that the hidden states
are the same to rounding; what is lost is some of the speed that pruning had brought. Source:
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
    config = _infer_config(encoder, where)
    encoder = _unpruned(encoder, config, kept, where)
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


def _infer_config(state: Mapping[str, Tensor], where: str) -> WavLMConfig:
    """Read the sizes of the whole encoder off the shapes of a pruned one."""
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
    inner = [
        len(tensor) for name, tensor in state.items() if name.endswith("intermediate_dense.bias")
    ]
    layers = {
        found[1]
        for name in state
        if (found := re.match(r"encoder\.transformer\.layers\.(\d+)", name))
    }
    values = {
        "conv_layers": tuple(convolutions),
        "frontend_norm": "layer" if large else "group",
        "normalize_waveform": large,
        "pre_norm": large,
        "width": width,
        "layers": len(layers),
        "heads": heads,
        "ffn": max(inner, default=1),
        "position_kernel": kernel,
        "position_groups": width // per_group,
        "bias_buckets": buckets,
    }
    return parse_config(values, where)


def _unpruned(
    state: Mapping[str, Tensor],
    config: WavLMConfig,
    kept: Sequence[Sequence[int]] | None,
    where: str,
) -> dict[str, Tensor]:
    """Fill the places of pruned heads and channels with zeros."""
    whole = dict(state)
    size, width = config.width // config.heads, config.width
    for layer in range(config.layers):
        attention = _LAYER.format(i=layer) + "attention."
        rows = len(state.get(f"{attention}q_proj.weight", ()))
        heads = _kept_heads(rows // size, config.heads, kept[layer] if kept else None)
        if heads is None:
            raise CheckpointError(
                f"{where}: which {rows // size} of {config.heads} heads layer {layer} has kept is "
                f"not known; known prunings are {', '.join(_PRUNED_HEADS)}."
            )
        places = torch.tensor([head * size + n for head in heads for n in range(size)]).long()
        for name in ("q_proj", "k_proj", "v_proj"):
            _spread(whole, attention + name, (width, width), where, rows=places)
        _spread(whole, f"{attention}out_proj", (width, width), where, columns=places)
        whole.setdefault(f"{attention}gru_rel_pos_linear.weight", torch.zeros(8, size))
        whole.setdefault(f"{attention}gru_rel_pos_linear.bias", torch.zeros(8))
        whole.setdefault(f"{attention}gru_rel_pos_const", torch.ones(1, config.heads, 1, 1))
        ffn = _LAYER.format(i=layer) + "feed_forward."
        inner = torch.arange(len(state.get(f"{ffn}intermediate_dense.bias", ())))
        _spread(whole, f"{ffn}intermediate_dense", (config.ffn, width), where, rows=inner)
        _spread(whole, f"{ffn}output_dense", (width, config.ffn), where, columns=inner)
    return whole


def _kept_heads(count: int, heads: int, kept: Sequence[int] | None) -> Sequence[int] | None:
    """Return which heads a layer has kept; None if it is not known."""
    if count in {0, heads}:
        return range(count)
    return kept if kept is not None and len(kept) == count else None


def _spread(
    state: dict[str, Tensor],
    name: str,
    shape: tuple[int, int],
    where: str,
    *,
    rows: Tensor | None = None,
    columns: Tensor | None = None,
) -> None:
    """Put a linear layer's rows or columns at their places in one of `shape`; the rest is zero."""
    weight, bias = torch.zeros(shape), torch.zeros(shape[0])
    rows = torch.arange(shape[0]) if rows is None else rows
    columns = torch.arange(shape[1]) if columns is None else columns
    if len(rows) and len(columns):
        parts = state.get(f"{name}.weight"), state.get(f"{name}.bias")
        shapes = [None if part is None else tuple(part.shape) for part in parts]
        if (
            parts[0] is None
            or parts[1] is None
            or shapes != [(len(rows), len(columns)), (len(rows),)]
        ):
            raise CheckpointError(
                f"{where}: '{name}' has the shapes {shapes}, but the layer has kept "
                f"{(len(rows), len(columns))}; it is damaged, or of a kind that is not supported."
            )
        weight[rows[:, None], columns] = parts[0].float()
        bias[rows] = parts[1].float()
    state[f"{name}.weight"], state[f"{name}.bias"] = weight, bias
