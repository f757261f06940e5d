"""Folders of transformers: `config.json`, `preprocessor_config.json` and the parameters.

Source: github.com/huggingface/transformers, `models/wavlm` and `models/hubert`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, zeros

from wavlm_meeting.checkpoints.bundle import (
    ENCODER,
    Bundle,
    read_safetensors,
    write_safetensors,
)
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.folders import (
    CONFIG,
    PICKLED_WEIGHTS,
    PREPROCESSOR,
    WEIGHTS,
    atomic_folder,
)
from wavlm_meeting.checkpoints.huggingface_heads import read_head, write_head
from wavlm_meeting.checkpoints.names import (
    PER_HEAD,
    Row,
    Setting,
    check_unpruned,
    older_weight_norm,
    parse_config,
    read_settings,
    to_foreign,
    to_native,
    write_settings,
)
from wavlm_meeting.checkpoints.pickles import TENSORS, read_pickle, state_of
from wavlm_meeting.checkpoints.skeleton import module_shapes
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

_MASK = "masked_spec_embed"

_ENCODER = (
    Row("frontend.layers.{i}.conv", "feature_extractor.conv_layers.{i}.conv"),
    Row("frontend.layers.{i}.norm", "feature_extractor.conv_layers.{i}.layer_norm"),
    Row("projection.norm", "feature_projection.layer_norm"),
    Row("projection.linear", "feature_projection.projection"),
    Row("mask_embedding", _MASK),
    Row("position", "encoder.pos_conv_embed.conv"),
    Row("bias_table", "encoder.layers.0.attention.rel_attn_embed"),
    Row("layers.{i}.attention.query", "encoder.layers.{i}.attention.q_proj"),
    Row("layers.{i}.attention.key", "encoder.layers.{i}.attention.k_proj"),
    Row("layers.{i}.attention.value", "encoder.layers.{i}.attention.v_proj"),
    Row("layers.{i}.attention.output", "encoder.layers.{i}.attention.out_proj"),
    Row("layers.{i}.attention.gate", "encoder.layers.{i}.attention.gru_rel_pos_linear"),
    Row(
        "layers.{i}.attention.gate_scale",
        "encoder.layers.{i}.attention.gru_rel_pos_const",
        PER_HEAD,
    ),
    Row("layers.{i}.attention_norm", "encoder.layers.{i}.layer_norm"),
    Row("layers.{i}.ffn.up", "encoder.layers.{i}.feed_forward.intermediate_dense"),
    Row("layers.{i}.ffn.down", "encoder.layers.{i}.feed_forward.output_dense"),
    Row("layers.{i}.ffn_norm", "encoder.layers.{i}.final_layer_norm"),
    Row("norm", "encoder.layer_norm"),
)
_SETTINGS = (
    Setting("frontend_norm", "feat_extract_norm"),
    Setting("width", "hidden_size"),
    Setting("layers", "num_hidden_layers"),
    Setting("heads", "num_attention_heads"),
    Setting("ffn", "intermediate_size"),
    Setting("pre_norm", "do_stable_layer_norm"),
    Setting("position_kernel", "num_conv_pos_embeddings"),
    Setting("position_groups", "num_conv_pos_embedding_groups"),
    Setting("dropout", "hidden_dropout"),
    Setting("attention_dropout", "attention_dropout"),
    Setting("activation_dropout", "activation_dropout"),
    Setting("layer_drop", "layerdrop"),
)
_BIAS_SETTINGS = (
    Setting("bias_buckets", "num_buckets"),
    Setting("bias_max_distance", "max_bucket_distance"),
)
_FIXED = {
    "hidden_act": "gelu",
    "feat_extract_activation": "gelu",
    "conv_bias": False,
    "layer_norm_eps": 1e-5,
    "add_adapter": False,
}
_CONV = ("conv_dim", "conv_kernel", "conv_stride")
_DEFAULTS = {
    "feat_extract_norm": "group",
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "do_stable_layer_norm": False,
    "num_conv_pos_embeddings": 128,
    "num_conv_pos_embedding_groups": 16,
    "num_buckets": 320,
    "max_bucket_distance": 800,
    "hidden_dropout": 0.1,
    "attention_dropout": 0.1,
    "activation_dropout": 0.1,
    "layerdrop": 0.1,
    "conv_dim": (512,) * 7,
    "conv_kernel": (10, 3, 3, 3, 3, 2, 2),
    "conv_stride": (5, 2, 2, 2, 2, 2, 2),
    "mask_time_prob": 0.05,
    "mask_feature_prob": 0.0,
    **_FIXED,
}
"""What transformers assumes where `config.json` says nothing."""


@dataclass(frozen=True)
class _Family:
    """One of transformers' model types that this encoder computes."""

    position_bias: str
    settings: tuple[Setting, ...]
    fixed: dict[str, object]
    architecture: str
    prefix: str
    """What stands before the encoder's names where the model has a head."""


_FAMILIES = {
    "wavlm": _Family("gated", (*_SETTINGS, *_BIAS_SETTINGS), _FIXED, "WavLMModel", "wavlm."),
    "hubert": _Family(
        "none",
        _SETTINGS,
        _FIXED | {"feat_proj_layer_norm": True, "conv_pos_batch_norm": False},
        "HubertModel",
        "hubert.",
    ),
}


def read_huggingface(folder: Path) -> Bundle:
    """Read a folder that `save_pretrained` made.

    The waveform is normalised if the preprocessor says so; where there is none, by the family's
    rule: models with LayerNorm in the frontend were trained on normalised waveforms.

    Raises:
        CheckpointError: A file is missing or damaged, the model is neither a WavLM nor a HuBERT, or
            its parameters are not those of its settings.
    """
    settings = _read_json(folder / CONFIG)
    family = _FAMILIES.get(str(settings.get("model_type")))
    if family is None:
        raise CheckpointError(
            f"{folder / CONFIG}: describes a '{settings.get('model_type')}' model; only "
            f"{' and '.join(map(repr, _FAMILIES))} are supported."
        )
    settings = _DEFAULTS | family.fixed | settings
    config = _read_config(settings, family, folder)
    state, path = _read_weights(folder)
    where = str(path)
    own, rest = _split(state, family.prefix)
    if _MASK not in own and not settings["mask_time_prob"] and not settings["mask_feature_prob"]:
        own[_MASK] = zeros(config.width)  # transformers leaves it out where nothing is masked
    parts = {ENCODER: to_native(own, module_shapes(lambda: WavLM(config)), _ENCODER, where)}
    heads = {}
    if rest:
        part, parts[part], heads[part] = read_head(rest, settings, config, where)
    card = Card(
        name=folder.name,
        version="",
        licence="",
        description="Read from a folder in Hugging Face's layout.",
        encoder=config,
        heads=heads,
    )
    return Bundle(card, parts)


def write_huggingface(folder: Path, model: Bundle) -> None:
    """Write a model as a folder that transformers loads with `from_pretrained`.

    Raises:
        CheckpointError: The model has a part, or more parts, than this layout has a place for, or
            is pruned.
    """
    config = model.card.encoder
    check_unpruned(config, str(folder))
    model_type, family = _family_of(config, folder)
    heads = sorted(set(model.state) - {ENCODER})
    if heads and family.architecture != "WavLMModel":
        raise CheckpointError(
            f"{folder}: only WavLM's heads can be written in Hugging Face's layout; convert the "
            "encoder alone (--encoder-only)."
        )
    if len(heads) > 1:
        raise CheckpointError(
            f"{folder}: Hugging Face's layout has room for one head, and this model has "
            f"{', '.join(heads)}; convert the encoder alone (--encoder-only)."
        )
    tensors = to_foreign(model.state[ENCODER], _ENCODER)
    architecture, settings = family.architecture, _write_config(config, family)
    for part in heads:
        architecture, head, entries = write_head(
            part, model.state[part], model.card.heads[part], config, str(folder)
        )
        tensors = {f"{family.prefix}{name}": tensor for name, tensor in tensors.items()} | head
        settings |= entries
    settings = {"architectures": [architecture], "model_type": model_type, **settings}
    preprocessor = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": config.normalize_waveform,
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "return_attention_mask": True,
        "sampling_rate": SAMPLE_RATE,
    }
    with atomic_folder(folder) as fresh:
        write_safetensors(tensors, fresh / WEIGHTS, {"format": "pt"})
        for name, values in ((CONFIG, settings), (PREPROCESSOR, preprocessor)):
            text = json.dumps(values, indent=2) + "\n"
            (fresh / name).write_text(text, encoding="utf-8")


def weights_path(folder: Path) -> Path:
    """Return the file with the parameters; raises CheckpointError if there is none."""
    for name in (WEIGHTS, PICKLED_WEIGHTS):
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder}: has a {CONFIG}, but neither {WEIGHTS} nor {PICKLED_WEIGHTS} beside it."
    )


def _read_weights(folder: Path) -> tuple[dict[str, Tensor], Path]:
    path = weights_path(folder)
    if path.name == WEIGHTS:
        return read_safetensors(path), path
    return state_of(read_pickle(path, TENSORS), str(path)), path


def _family_of(config: WavLMConfig, folder: Path) -> tuple[str, _Family]:
    """Return the model type that computes what this architecture does."""
    for model_type, family in _FAMILIES.items():
        if family.position_bias == config.position_bias:
            return model_type, family
    raise CheckpointError(
        f"{folder}: Hugging Face's layout has no model with a '{config.position_bias}' position "
        "bias; write a bundle."
    )


def _split(
    state: Mapping[str, Tensor], family_prefix: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Divide parameters into the encoder's, without prefix and with older names, and the rest."""
    prefix = family_prefix if any(name.startswith(family_prefix) for name in state) else ""
    own = {name.removeprefix(prefix): state[name] for name in state if name.startswith(prefix)}
    rest = {name: state[name] for name in state if not name.startswith(prefix)}
    return older_weight_norm(own), rest


def _read_config(settings: Mapping[str, Any], family: _Family, folder: Path) -> WavLMConfig:
    where = str(folder / CONFIG)
    values = read_settings(settings, family.settings, family.fixed, where)
    values["position_bias"] = family.position_bias
    try:
        values["conv_layers"] = tuple(zip(*(settings[name] for name in _CONV), strict=True))
    except (TypeError, ValueError):
        raise CheckpointError(f"{where}: {', '.join(_CONV)} are not lists of one length.") from None
    values["normalize_waveform"] = values["frontend_norm"] == "layer"
    if (folder / PREPROCESSOR).is_file():
        # Without the entry transformers normalises.
        preprocessor = _read_json(folder / PREPROCESSOR)
        values["normalize_waveform"] = preprocessor.get("do_normalize", True)
    return parse_config(values, where)


def _write_config(config: WavLMConfig, family: _Family) -> dict[str, Any]:
    conv = zip(_CONV, zip(*config.conv_layers, strict=True), strict=True)
    return {
        **write_settings(config.model_dump(), family.settings, family.fixed),
        **{name: list(values) for name, values in conv},
        "num_feat_extract_layers": len(config.conv_layers),
        "mask_time_prob": _DEFAULTS["mask_time_prob"],
    }


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON ({error}); fetch it again.") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: not a table of settings.")
    return values
