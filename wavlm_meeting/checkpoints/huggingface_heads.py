"""The task heads of transformers' WavLM models, each as a part beside the encoder."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from wavlm_meeting.checkpoints.heads import (
    BUILDERS,
    CTC,
    FRAME_CLASSIFIER,
    XVECTOR,
    linear_shapes,
    parse_numbers,
)
from wavlm_meeting.checkpoints.names import (
    Layout,
    Row,
    Shape,
    check_names,
    check_state,
    to_foreign,
    to_native,
)
from wavlm_meeting.checkpoints.skeleton import module_shapes
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.wavlm.config import WavLMConfig

Numbers = dict[str, Any]
"""Plain numbers that a head is built from, as a card keeps them."""
State = Mapping[str, Tensor]

_TDNN_SETTINGS = {
    "tdnn_dim": (512, 512, 512, 512, 1500),
    "tdnn_kernel": (5, 3, 3, 1, 1),
    "tdnn_dilation": (1, 2, 3, 1, 1),
}
"""Channels, kernels and dilations; the values are what transformers assumes without them."""

_TDNN_WEIGHT = Layout(
    shape=lambda native: (native[0], native[1] * native[2]),
    read=lambda tensor, native: tensor.reshape(native[0], native[2], native[1]).transpose(1, 2),
    write=lambda tensor: tensor.transpose(1, 2).flatten(1),
)
"""A convolution's weight (out, in, kernel), kept as that of a linear layer (out, kernel x in)."""


def _read_xvector(state: State, settings: Mapping[str, Any]) -> Numbers:
    tdnn = (settings.get(name, default) for name, default in _TDNN_SETTINGS.items())
    return {
        "weighted": settings.get("use_weighted_layer_sum", False),
        "tdnn": tuple(zip(*tdnn, strict=False)),
        "embedding": settings.get("xvector_output_dim", 512),
        "speakers": _size(state, "objective.weight", 1),
    }


def _write_xvector(numbers: Numbers) -> Numbers:
    sizes = zip(*numbers["tdnn"], strict=True)
    return {
        "use_weighted_layer_sum": numbers["weighted"],
        **{name: list(values) for name, values in zip(_TDNN_SETTINGS, sizes, strict=True)},
        "xvector_output_dim": numbers["embedding"],
        **_labels(numbers["speakers"]),
    }


def _read_frame_classifier(state: State, settings: Mapping[str, Any]) -> Numbers:
    return {
        "weighted": settings.get("use_weighted_layer_sum", False),
        "classes": _size(state, "classifier.weight", 0),
    }


def _write_frame_classifier(numbers: Numbers) -> Numbers:
    return {"use_weighted_layer_sum": numbers["weighted"], **_labels(numbers["classes"])}


def _read_ctc(state: State, _settings: Mapping[str, Any]) -> Numbers:
    return {"classes": _size(state, "lm_head.weight", 0)}


def _write_ctc(numbers: Numbers) -> Numbers:
    return {"vocab_size": numbers["classes"]}


@dataclass(frozen=True)
class _Head:
    """How a part and a model class of transformers correspond."""

    architecture: str
    """The model class."""
    mark: str
    """A parameter that a state dictionary of this class has; asked in the table's order."""
    rows: tuple[Row, ...]
    read: Callable[[State, Mapping[str, Any]], Numbers]
    """From the foreign parameters and `config.json` to the head's numbers."""
    write: Callable[[Numbers], Numbers]
    """From the head's numbers to its entries in `config.json`."""


_HEADS = {
    XVECTOR: _Head(
        "WavLMForXVector",
        "tdnn.0.kernel.weight",
        (
            Row("mix.weights", "layer_weights"),
            Row("projection", "projector"),
            Row("tdnn.{i}.weight", "tdnn.{i}.kernel.weight", _TDNN_WEIGHT),
            Row("tdnn.{i}.bias", "tdnn.{i}.kernel.bias"),
            Row("embedding", "feature_extractor"),
            Row("classifier", "classifier"),
            Row("speakers", "objective.weight"),
        ),
        _read_xvector,
        _write_xvector,
    ),
    CTC: _Head("WavLMForCTC", "lm_head.weight", (Row("output", "lm_head"),), _read_ctc, _write_ctc),
    FRAME_CLASSIFIER: _Head(
        "WavLMForAudioFrameClassification",
        "classifier.weight",
        (Row("mix.weights", "layer_weights"), Row("classifier", "classifier")),
        _read_frame_classifier,
        _write_frame_classifier,
    ),
}


def read_head(
    state: State, settings: Mapping[str, Any], encoder: WavLMConfig, where: str
) -> tuple[str, dict[str, Tensor], Numbers]:
    """Read what a model of transformers has beside its encoder.

    Returns:
        The part, its parameters by native name, and its numbers.

    Raises:
        CheckpointError: It is no head that is known here, or its parameters do not fit.
    """
    for part, head in _HEADS.items():
        if head.mark in state:
            numbers = head.read(state, settings)
            shapes = _shapes(part, encoder, numbers, where)
            return part, to_native(state, shapes, head.rows, where), numbers
    check_names((), state, where)
    raise CheckpointError(f"{where}: has no head.")


def write_head(
    part: str, state: State, numbers: Numbers, encoder: WavLMConfig, where: str
) -> tuple[str, dict[str, Tensor], Numbers]:
    """Write a part as a head of transformers.

    Returns:
        The model class, the parameters by foreign name, and the entries of `config.json`.

    Raises:
        CheckpointError: transformers has no such head, or the parameters are not those of the
            numbers.
    """
    if part not in _HEADS:
        raise CheckpointError(
            f"{where}: Hugging Face's layout has no place for '{part}'; convert the encoder "
            "alone (--encoder-only)."
        )
    numbers = parse_numbers(part, numbers, where)
    check_state(state, _shapes(part, encoder, numbers, where), where)
    head = _HEADS[part]
    return head.architecture, to_foreign(state, head.rows), head.write(numbers)


def _shapes(part: str, encoder: WavLMConfig, numbers: Numbers, where: str) -> dict[str, Shape]:
    if part == CTC:
        return linear_shapes(numbers["classes"], encoder.width)
    return module_shapes(lambda: BUILDERS[part](encoder, numbers, where))


def _size(state: State, name: str, dim: int) -> int:
    # Where the parameter is missing or flat any size will do: it is reported as such later.
    tensor = state.get(name)
    return tensor.shape[dim] if tensor is not None and tensor.ndim > dim else 1


def _labels(count: int) -> Numbers:
    """Name classes as transformers does, which counts them by their names."""
    names = {str(index): f"LABEL_{index}" for index in range(count)}
    return {"id2label": names, "label2id": {name: int(index) for index, name in names.items()}}
