"""Aligned tables between the names of this project and those of a foreign format.

A format is described once, as rows of parameter names and rows of settings; the same rows serve
reading and writing. Nothing is ever skipped: a parameter too many or too few is an error.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from wavlm_meeting.config import parse_settings
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig

Shape = tuple[int, ...]

_LEAVES = "weight|bias|weight_g|weight_v|running_mean|running_var|num_batches_tracked"
"""Parameters and statistics of PyTorch's modules."""
_SHOWN = 3
"""How many names an error lists before it only counts."""


@dataclass(frozen=True)
class Layout:
    """How a format stores a tensor that has another shape there."""

    shape: Callable[[Shape], Shape]
    """From the native shape to the foreign one."""
    read: Callable[[Tensor, Shape], Tensor]
    """From the foreign tensor and the native shape to the native tensor."""
    write: Callable[[Tensor], Tensor]
    """From the native tensor to the foreign one."""


PER_HEAD = Layout(
    shape=lambda native: (1, native[0], 1, 1),
    read=lambda tensor, native: tensor.reshape(native),
    write=lambda tensor: tensor.reshape(1, -1, 1, 1),
)
"""One number for each attention head, which other code stores as (1, heads, 1, 1)."""


class Row(NamedTuple):
    """A parameter, or a module with all its parameters; `{i}` stands for a layer's number."""

    native: str
    foreign: str
    layout: Layout | None = None


class Setting(NamedTuple):
    """A number or switch that both sides know under different names."""

    native: str
    foreign: str


_WEIGHT_NORM = {"original0": "weight_g", "original1": "weight_v"}
"""Names of a weight norm's factors: PyTorch's since 2.0, and before."""


def older_weight_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the factors of weight norms their older names; both are in circulation."""
    renamed = {}
    for name, tensor in state.items():
        start, _, leaf = name.partition("parametrizations.weight.")
        renamed[start + _WEIGHT_NORM[leaf] if leaf in _WEIGHT_NORM else name] = tensor
    return renamed


def to_native(
    state: Mapping[str, Tensor], shapes: Mapping[str, Shape], rows: Sequence[Row], where: str
) -> dict[str, Tensor]:
    """Rename a foreign state dictionary, in float32; counters stay whole numbers.

    Args:
        state: Tensors by foreign name.
        shapes: Native names that the architecture has, and their shapes.
        rows: The format's table.
        where: The origin, for messages.

    Raises:
        CheckpointError: A parameter is missing, left over, or of another shape.
    """
    matches = {name: _match(name, rows) for name in shapes}
    check_names({foreign for foreign, _ in matches.values()}, state, where)
    native = {}
    for name, (foreign, layout) in matches.items():
        tensor, shape = state[foreign], shapes[name]
        expected = layout.shape(shape) if layout else shape
        if tuple(tensor.shape) != expected:
            raise CheckpointError(
                f"{where}: '{foreign}' has the shape {tuple(tensor.shape)}, but the architecture "
                f"in its settings needs {expected}; weights and settings are of different models."
            )
        tensor = layout.read(tensor, shape) if layout else tensor
        native[name] = (tensor.float() if tensor.is_floating_point() else tensor).contiguous()
    return native


def to_foreign(state: Mapping[str, Tensor], rows: Sequence[Row]) -> dict[str, Tensor]:
    """Rename a native state dictionary; the inverse of `to_native`."""
    foreign_state = {}
    for name, tensor in state.items():
        foreign, layout = _match(name, rows)
        written = layout.write(tensor) if layout else tensor
        foreign_state[foreign] = written.detach().cpu().clone(memory_format=torch.contiguous_format)
    return foreign_state


def check_names(expected: Iterable[str], found: Iterable[str], where: str) -> None:
    """Raise a CheckpointError that names what is missing and what is left over, if anything is."""
    expected, found = set(expected), set(found)
    problems = [
        f"{len(names)} parameter{'s' if len(names) > 1 else ''} {kind} ({_first(names)})"
        for names, kind in ((expected - found, "missing"), (found - expected, "unknown"))
        if names
    ]
    if problems:
        raise CheckpointError(
            f"{where}: {' and '.join(problems)}; weights and settings are of different models, "
            "or of a kind that is not supported."
        )


def check_state(state: Mapping[str, Tensor], shapes: Mapping[str, Shape], where: str) -> None:
    """Raise a CheckpointError unless native parameters have the names and shapes they should."""
    check_names(shapes, state, where)
    for name, tensor in state.items():
        if tuple(tensor.shape) != shapes[name]:
            raise CheckpointError(
                f"{where}: '{name}' has the shape {tuple(tensor.shape)}, but its card needs "
                f"{shapes[name]}; weights and card are of different models."
            )


def read_settings(
    values: Mapping[str, Any],
    rows: Sequence[Setting],
    fixed: Mapping[str, object],
    where: str,
) -> dict[str, Any]:
    """Rename foreign settings.

    `fixed` holds the foreign settings that this project has built in, with the only value that it
    supports. Raises CheckpointError for a missing setting, or another value of a fixed one.
    """
    needed = [*(row.foreign for row in rows), *fixed]
    missing = [name for name in needed if name not in values]
    if missing:
        raise CheckpointError(f"{where}: its settings lack '{missing[0]}'; this is not a WavLM.")
    for name, value in fixed.items():
        if values[name] != value:
            raise CheckpointError(
                f"{where}: '{name}' is {values[name]!r}; only {value!r} is supported."
            )
    return {row.native: values[row.foreign] for row in rows}


def parse_config(values: Mapping[str, Any], where: str) -> WavLMConfig:
    """Check native settings; raises CheckpointError for a value that no encoder has."""
    try:
        return parse_settings(values, WavLMConfig, where)
    except SettingsError as error:
        raise CheckpointError(str(error)) from None


def check_unpruned(config: WavLMConfig, where: str) -> None:
    """Raise a CheckpointError if layers differ, which no layout but the bundle has a place for."""
    if config.pruned:
        raise CheckpointError(
            f"{where}: this encoder is pruned, layer by layer, which only a bundle has a place "
            "for; write a bundle."
        )


def write_settings(
    values: Mapping[str, Any], rows: Sequence[Setting], fixed: Mapping[str, object]
) -> dict[str, Any]:
    """Rename native settings; the inverse of `read_settings`."""
    return {row.foreign: values[row.native] for row in rows} | dict(fixed)


def _match(name: str, rows: Sequence[Row]) -> tuple[str, Layout | None]:
    """Return the foreign name and layout of a native name; every name must be in the table."""
    for row in rows:
        pattern = re.escape(row.native).replace(r"\{i\}", r"(?P<i>\d+)")
        found = re.fullmatch(rf"{pattern}(?P<leaf>\.({_LEAVES}))?", name)
        if found:
            index = found.groupdict().get("i", "")
            return row.foreign.replace("{i}", index) + (found["leaf"] or ""), row.layout
    raise LookupError(name)


def _first(names: set[str]) -> str:
    shown = sorted(names)[:_SHOWN]
    return ", ".join(shown) + (", ..." if len(names) > _SHOWN else "")
