"""SpeechBrain's ECAPA-TDNN on filterbanks: `embedding_model.ckpt` and `hyperparams.yaml`.

SpeechBrain's Res2 chain passes the first chunk of channels and convolves the others; this project's
(and Microsoft's) convolves all but the last. Both are the same network with its channels in another
order: those between two layers are rolled by a chunk on reading, and back on writing. Source:
github.com/speechbrain/speechbrain, `speechbrain/lobes/models/ECAPA_TDNN.py`, and the files of
huggingface.co/speechbrain/spkrec-ecapa-voxceleb.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavlm_meeting.checkpoints.folders import EMBEDDING_MODEL, HYPERPARAMS, atomic_folder
from wavlm_meeting.checkpoints.heads import parse_speaker
from wavlm_meeting.checkpoints.names import (
    Layout,
    Row,
    check_state,
    to_foreign,
    to_native,
)
from wavlm_meeting.checkpoints.pickles import TENSORS, read_pickle, state_of
from wavlm_meeting.checkpoints.skeleton import module_shapes
from wavlm_meeting.checkpoints.speaker import convolution, count_of, shape_of
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.heads.ecapa import BLOCK_KERNEL, EcapaConfig
from wavlm_meeting.heads.speaker import SpeakerConfig, build_speaker_head

_FIXED = {"padding": "reflect", "context": True}
"""What every ECAPA-TDNN of SpeechBrain has."""
_OWN = {
    "features": "fbank",
    "stacked": 1,
    "centred": "bands",
    "instance_norm": False,
    "attentive": None,
}
"""What its models have around them."""

_YAML = """\
# Loads with speechbrain.inference.EncoderClassifier.from_hparams(source="this folder").
compute_features: !new:speechbrain.lobes.features.Fbank
    n_mels: {mels}

mean_var_norm: !new:speechbrain.processing.features.InputNormalization
    norm_type: sentence
    std_norm: False

embedding_model: !new:speechbrain.lobes.models.ECAPA_TDNN.ECAPA_TDNN
    input_size: {mels}
    channels: {channels}
    kernel_sizes: {kernels}
    dilations: {dilations}
    attention_channels: {attention}
    res2net_scale: {scale}
    se_channels: {squeezed}
    lin_neurons: {embedding}

classifier: !new:torch.nn.Identity

modules:
    compute_features: !ref <compute_features>
    mean_var_norm: !ref <mean_var_norm>
    embedding_model: !ref <embedding_model>
    classifier: !ref <classifier>

pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
    loadables:
        embedding_model: !ref <embedding_model>
"""


def is_speechbrain(path: Path) -> bool:
    """Tell whether `path` is a folder with a speaker model of SpeechBrain."""
    return (path / EMBEDDING_MODEL).is_file()


def read_speechbrain(folder: Path) -> tuple[SpeakerConfig, dict[str, Tensor]]:
    """Read a folder: what the model is made of, and the parameters of its head.

    Sizes follow from names and shapes. Of the settings, which can run code and are never run, only
    dilations and bands are looked at, where they stand as plain numbers.

    Raises:
        CheckpointError: A file is damaged, or the model is not an ECAPA-TDNN on filterbanks.
    """
    path = folder / EMBEDDING_MODEL
    where = str(path)
    state = state_of(read_pickle(path, TENSORS), where)
    settings = folder / HYPERPARAMS
    text = settings.read_text(encoding="utf-8") if settings.is_file() else ""
    config = _read_config(state, text, where)
    shapes = module_shapes(lambda: build_speaker_head(config, 1, config.mels))
    return config, to_native(state, shapes, _rows(config.ecapa), where)


def write_speechbrain(folder: Path, config: SpeakerConfig, state: Mapping[str, Tensor]) -> None:
    """Write a head on filterbanks as a folder that SpeechBrain's `EncoderClassifier` loads.

    Raises:
        CheckpointError: The model has something that SpeechBrain's has not, the parameters are not
            those of `config`, or what stands at `folder` is no model.
    """
    ecapa = config.ecapa
    for name, value in (_OWN | _FIXED).items():
        own = getattr(ecapa if name in _FIXED else config, name)
        if own != value:
            raise CheckpointError(
                f"{folder}: '{name}' is {own!r}, and SpeechBrain's layout holds models with "
                f"{value!r} only; train one with that."
            )
    shapes = module_shapes(lambda: build_speaker_head(config, 1, config.mels))
    check_state(state, shapes, str(folder))
    blocks = len(ecapa.dilations)
    sizes = {
        "mels": config.mels,
        "channels": [ecapa.channels] * (blocks + 1) + [ecapa.aggregated],
        "kernels": [ecapa.kernel] + [BLOCK_KERNEL] * blocks + [1],
        "dilations": [1, *ecapa.dilations, 1],
        **ecapa.model_dump(include={"attention", "scale", "squeezed", "embedding"}),
    }
    with atomic_folder(folder) as fresh:
        torch.save(to_foreign(state, _rows(ecapa)), fresh / EMBEDDING_MODEL)
        (fresh / HYPERPARAMS).write_text(_YAML.format(**sizes), encoding="utf-8")


def _read_config(state: Mapping[str, Tensor], settings: str, where: str) -> SpeakerConfig:
    channels, mels, kernel = shape_of(state, "blocks.0.conv.conv.weight", 3, where)
    bands = re.search(r"^\s*n_mels:\s*(\d+)\s*$", settings, re.MULTILINE)
    if bands and int(bands[1]) != mels:
        raise CheckpointError(
            f"{where}: reads {mels} features where its settings have {bands[1]} bands; only plain "
            "filterbanks are supported."
        )
    first = "blocks.1.res2net_block.blocks"
    ecapa: dict[str, Any] = {
        "channels": channels,
        "kernel": kernel,
        "aggregated": shape_of(state, "mfa.conv.conv.weight", 3, where)[0],
        "scale": count_of(state, rf"{re.escape(first)}\.(\d+)\.") + 1,
        "squeezed": shape_of(state, "blocks.1.se_block.conv1.conv.weight", 3, where)[0],
        "attention": shape_of(state, "asp.tdnn.conv.conv.weight", 3, where)[0],
        "embedding": shape_of(state, "fc.conv.weight", 3, where)[0],
        **_FIXED,
    }
    dilations = re.search(r"^\s*dilations:\s*\[([\d,\s]+)\]", settings, re.MULTILINE)
    if dilations:
        ecapa["dilations"] = tuple(int(each) for each in dilations[1].split(","))[1:-1]
    values = {"features": "fbank", "mels": mels, "instance_norm": False, "ecapa": ecapa}
    return parse_speaker(values, where)


def _rows(config: EcapaConfig) -> tuple[Row, ...]:
    single, chunk = convolution(1), config.channels // config.scale
    rows = [*_delay("first", "blocks.0", convolution(config.kernel))]
    for index in range(len(config.dilations)):
        own, block = f"blocks.{index}", f"blocks.{index + 1}"
        chain = f"{block}.res2net_block.blocks.{{i}}"
        rows += [
            *_delay(f"{own}.enter", f"{block}.tdnn1", single, rolled=chunk),
            *_delay(f"{own}.chain.{{i}}", chain, convolution(BLOCK_KERNEL)),
            *_delay(f"{own}.leave", f"{block}.tdnn2", _rolled(single, chunk, 1)),
            *_linear(f"{own}.squeeze", f"{block}.se_block.conv1"),
            *_linear(f"{own}.excite", f"{block}.se_block.conv2"),
        ]
    return (
        *rows,
        *_linear("aggregate", "mfa.conv"),
        Row("ecapa.aggregate_norm", "mfa.norm.norm"),
        *_linear("pooling.hidden", "asp.tdnn.conv"),
        Row("ecapa.pooling.norm", "asp.tdnn.norm.norm"),
        *_linear("pooling.scores", "asp.conv"),
        Row("ecapa.pooled_norm", "asp_bn.norm"),
        *_linear("output", "fc"),
    )


def _linear(own: str, foreign: str) -> tuple[Row, ...]:
    """Return the rows of a linear map, which SpeechBrain keeps as a convolution."""
    return (
        Row(f"ecapa.{own}.weight", f"{foreign}.conv.weight", convolution(1)),
        Row(f"ecapa.{own}.bias", f"{foreign}.conv.bias"),
    )


def _delay(own: str, foreign: str, layout: Layout, rolled: int = 0) -> tuple[Row, ...]:
    """Return the rows of a convolution and its BatchNorm, with their outputs rolled."""
    conv, norm = f"{foreign}.conv.conv", f"{foreign}.norm.norm"
    vector = _rolled(_PLAIN, rolled, 0)
    return (
        Row(f"ecapa.{own}.linear.weight", f"{conv}.weight", _rolled(layout, rolled, 0)),
        Row(f"ecapa.{own}.linear.bias", f"{conv}.bias", vector),
        Row(f"ecapa.{own}.norm.num_batches_tracked", f"{norm}.num_batches_tracked"),
        Row(f"ecapa.{own}.norm", norm, vector),
    )


_PLAIN = Layout(lambda native: native, lambda tensor, _: tensor, lambda tensor: tensor)


def _rolled(layout: Layout, size: int, dim: int) -> Layout:
    """Return a layout whose foreign channels stand `size` places farther on along `dim`."""
    return Layout(
        layout.shape,
        lambda tensor, native: layout.read(tensor.roll(-size, dim), native),
        lambda tensor: layout.write(tensor).roll(size, dim),
    )
