"""Microsoft's and fairseq's checkpoints: one pickle of `{"cfg": settings, "model": parameters}`.

Microsoft's WavLM is made of fairseq's HuBERT: names and settings are the same, only that fairseq
keeps the settings of model and task apart and knows no position bias. Sources:
github.com/microsoft/unilm, `wavlm/WavLM.py`; github.com/facebookresearch/fairseq, `models/hubert`.
"""

import ast
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.names import (
    PER_HEAD,
    Row,
    Setting,
    check_unpruned,
    parse_config,
    read_settings,
    to_foreign,
    to_native,
    write_settings,
)
from wavlm_meeting.checkpoints.pickles import state_of
from wavlm_meeting.checkpoints.skeleton import module_shapes
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

PRETRAINING = "pretraining"
"""The part that holds the head of masked prediction, which some checkpoints still carry."""

_FRONTEND_NORM = {
    "group": Row("frontend.layers.{i}.norm", "feature_extractor.conv_layers.{i}.2"),
    "layer": Row("frontend.layers.{i}.norm", "feature_extractor.conv_layers.{i}.2.1"),
}
_ENCODER = (
    Row("frontend.layers.{i}.conv", "feature_extractor.conv_layers.{i}.0"),
    Row("projection.norm", "layer_norm"),
    Row("projection.linear", "post_extract_proj"),
    Row("mask_embedding", "mask_emb"),
    Row("position", "encoder.pos_conv.0"),
    Row("bias_table", "encoder.layers.0.self_attn.relative_attention_bias"),
    Row("layers.{i}.attention.query", "encoder.layers.{i}.self_attn.q_proj"),
    Row("layers.{i}.attention.key", "encoder.layers.{i}.self_attn.k_proj"),
    Row("layers.{i}.attention.value", "encoder.layers.{i}.self_attn.v_proj"),
    Row("layers.{i}.attention.output", "encoder.layers.{i}.self_attn.out_proj"),
    Row("layers.{i}.attention.gate", "encoder.layers.{i}.self_attn.grep_linear"),
    Row("layers.{i}.attention.gate_scale", "encoder.layers.{i}.self_attn.grep_a", PER_HEAD),
    Row("layers.{i}.attention_norm", "encoder.layers.{i}.self_attn_layer_norm"),
    Row("layers.{i}.ffn.up", "encoder.layers.{i}.fc1"),
    Row("layers.{i}.ffn.down", "encoder.layers.{i}.fc2"),
    Row("layers.{i}.ffn_norm", "encoder.layers.{i}.final_layer_norm"),
    Row("norm", "encoder.layer_norm"),
)
_PRETRAINING = (
    Row("projection", "final_proj"),
    Row("label_embeddings", "label_embs_concat"),
)
_SETTINGS = (
    Setting("normalize_waveform", "normalize"),
    Setting("width", "encoder_embed_dim"),
    Setting("layers", "encoder_layers"),
    Setting("heads", "encoder_attention_heads"),
    Setting("ffn", "encoder_ffn_embed_dim"),
    Setting("pre_norm", "layer_norm_first"),
    Setting("position_kernel", "conv_pos"),
    Setting("position_groups", "conv_pos_groups"),
    Setting("dropout", "dropout"),
    Setting("attention_dropout", "attention_dropout"),
    Setting("activation_dropout", "activation_dropout"),
    Setting("layer_drop", "encoder_layerdrop"),
)
_BIAS_SETTINGS = (
    Setting("biased", "relative_position_embedding"),
    Setting("gated", "gru_rel_pos"),
    Setting("bias_buckets", "num_buckets"),
    Setting("bias_max_distance", "max_distance"),
)
_FIXED = {
    "activation_fn": "gelu",
    "conv_bias": False,
}
_NORMS = {"default": "group", "layer_norm": "layer"}
_MOST_LAYERS = 100
"""More convolutions than any real frontend has: a longer list is not expanded."""


def from_microsoft(checkpoint: Mapping[str, Any], where: str) -> Bundle:
    """Turn the content of a Microsoft checkpoint into a model.

    Raises:
        CheckpointError: Its settings or parameters are not those of a WavLM.
    """
    config = _read_config(checkpoint["cfg"], where)
    rest = state_of(checkpoint["model"], where)
    pretraining = {name: rest.pop(name) for name in pretraining_names(rest)}
    shapes = module_shapes(lambda: WavLM(config))
    state = {ENCODER: to_native(rest, shapes, encoder_rows(config), where)}
    heads = {}
    if pretraining:
        state[PRETRAINING], heads[PRETRAINING] = _read_pretraining(pretraining, config, where)
    card = Card(
        name=Path(where).stem,
        version="",
        licence="",
        description="Read from a checkpoint in Microsoft's layout.",
        encoder=config,
        heads=heads,
    )
    return Bundle(card, state)


def write_microsoft(path: Path, model: Bundle) -> None:
    """Write a model as a checkpoint that Microsoft's code loads.

    Raises:
        CheckpointError: The model has a part that this format has no place for, or is pruned.
    """
    if path.is_dir():
        raise CheckpointError(f"{path}: Microsoft's layout is a file; give its name, like x.pt.")
    config, state = model.card.encoder, dict(model.state)
    check_unpruned(config, str(path))
    rows = encoder_rows(config)
    foreign = to_foreign(state.pop(ENCODER), rows)
    if config.width == config.conv_layers[-1][0]:
        raise CheckpointError(
            f"{path}: Microsoft's layout has no projection where the frontend is as wide as the "
            "encoder, and this model has one; write a bundle or a Hugging Face folder."
        )
    foreign |= to_foreign(state.pop(PRETRAINING, {}), _PRETRAINING)
    if state:
        raise CheckpointError(
            f"{path}: Microsoft's layout has no place for '{min(state)}'; convert the "
            "encoder alone (--encoder-only)."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        torch.save({"cfg": _write_config(config), "model": foreign}, temporary)


def parse_conv_layers(text: str, where: str) -> tuple[tuple[int, ...], ...]:
    """Read a list of convolutions written as Python, such as `[(512,10,5)] + [(512,3,2)] * 4`.

    Only whole numbers, tuples, lists, `+` and `*` are understood: the text is never run. Raises
    CheckpointError for anything else.
    """
    try:
        layers = _evaluate(ast.parse(text, mode="eval").body)
    except (SyntaxError, TypeError, ValueError, RecursionError, MemoryError):
        layers = None
    if not isinstance(layers, list) or not all(isinstance(layer, tuple) for layer in layers):
        raise CheckpointError(f"{where}: 'conv_feature_layers' is not a list of convolutions.")
    return tuple(layers)


def _evaluate(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=int() as value):
            return value
        case ast.Tuple(elts=items):
            return tuple(map(_evaluate, items))
        case ast.List(elts=items):
            return list(map(_evaluate, items))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return _evaluate(left) + _evaluate(right)
        case ast.BinOp(left=left, op=ast.Mult(), right=right):
            factors = _evaluate(left), _evaluate(right)
            counts = [factor for factor in factors if isinstance(factor, int)]
            if len(counts) == 1 and counts[0] <= _MOST_LAYERS:
                return factors[0] * factors[1]
    raise ValueError


def _read_config(cfg: object, where: str) -> WavLMConfig:
    if not isinstance(cfg, Mapping):
        raise CheckpointError(f"{where}: 'cfg' is not a table of settings.")
    if isinstance(cfg.get("model"), Mapping):  # fairseq
        task = cfg.get("task")
        cfg = {**cfg["model"], **(task if isinstance(task, Mapping) else {})}
        values = read_settings(cfg, _SETTINGS, _FIXED, where) | {"position_bias": "none"}
    else:
        values = read_settings(cfg, (*_SETTINGS, *_BIAS_SETTINGS), _FIXED, where)
        biased, gated = values.pop("biased"), values.pop("gated")
        values["position_bias"] = ("gated" if gated else "plain") if biased else "none"
    mode = cfg.get("extractor_mode")
    if mode not in _NORMS:
        raise CheckpointError(
            f"{where}: 'extractor_mode' is {mode!r}; known are {', '.join(_NORMS)}."
        )
    values["frontend_norm"] = _NORMS[mode]
    values["conv_layers"] = parse_conv_layers(str(cfg.get("conv_feature_layers")), where)
    return parse_config(values, where)


def _write_config(config: WavLMConfig) -> dict[str, Any]:
    modes = {norm: mode for mode, norm in _NORMS.items()}
    bias = {"biased": config.position_bias != "none", "gated": config.position_bias == "gated"}
    values = config.model_dump() | bias
    return write_settings(values, (*_SETTINGS, *_BIAS_SETTINGS), _FIXED) | {
        "extractor_mode": modes[config.frontend_norm],
        "conv_feature_layers": str(list(config.conv_layers)),
        "dropout_input": config.dropout,
    }


def encoder_rows(config: WavLMConfig) -> tuple[Row, ...]:
    """Return the names of an encoder's parameters."""
    return (_FRONTEND_NORM[config.frontend_norm], *_ENCODER)


def pretraining_names(names: Mapping[str, Tensor]) -> list[str]:
    """Return which parameters are those of masked prediction."""
    foreign = tuple(row.foreign for row in _PRETRAINING)
    return [name for name in names if name.startswith(foreign)]


def _read_pretraining(
    head: Mapping[str, Tensor], config: WavLMConfig, where: str
) -> tuple[dict[str, Tensor], dict[str, int]]:
    """Read the projection (size, width) and the label embeddings (classes, size)."""
    labels = head.get("label_embs_concat")
    classes, size = labels.shape if labels is not None and labels.ndim == 2 else (0, 0)
    shapes = {
        "projection.weight": (size, config.width),
        "projection.bias": (size,),
        "label_embeddings": (classes, size),
    }
    return to_native(head, shapes, _PRETRAINING, where), {"classes": classes, "size": size}
