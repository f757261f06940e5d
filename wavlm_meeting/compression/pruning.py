"""Taking units out of an encoder, exactly: what is left computes as if the others' gates were 0."""

from collections.abc import Iterator, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from wavlm_meeting.checkpoints.skeleton import build_filled
from wavlm_meeting.compression.groups import Groups, group_sizes
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

Kept = Groups[Sequence[int]]
"""Which units stay, by their places in each group, rising."""


def prune(encoder: WavLM, kept: Kept) -> WavLM:
    """Return a smaller encoder with the units that are `kept`, in eval mode; `encoder` stays.

    Raises SettingsError if a group would be empty, or a unit is not there.
    """
    config = pruned_config(encoder.config, kept)
    state = {name: tensor.detach() for name, tensor in encoder.state_dict().items()}
    for name, axis, places in _cuts(encoder.config, kept):
        if name in state:
            index = torch.tensor(places, device=state[name].device)
            state[name] = state[name].index_select(axis, index)
    whole = {name: tensor.clone() for name, tensor in state.items()}
    return build_filled(
        lambda: WavLM(config, encoder.padding, encoder.attention), whole, "pruned encoder"
    )


def pruned_config(config: WavLMConfig, kept: Kept) -> WavLMConfig:
    """Return the architecture that is left; raises SettingsError as `prune` does."""
    for size, own in zip(group_sizes(config).each(), kept.each(), strict=True):
        if not own or list(own) != sorted({*own} & {*range(size)}):
            raise SettingsError(
                f"of {size} units these cannot be kept: {list(own)[:5]}; name one or more, each "
                "once, rising."
            )
    heads = zip(range(config.layers), kept.heads, strict=True)
    values = config.model_dump() | {
        "conv_layers": tuple(
            (len(own), *layer[1:])
            for own, layer in zip(kept.channels, config.conv_layers, strict=True)
        ),
        "layer_heads": tuple(tuple(config.heads_of(i)[n] for n in own) for i, own in heads),
        "layer_ffn": tuple(map(len, kept.ffn)),
    }
    return WavLMConfig.model_validate(values)


def head_channels(heads: Sequence[int], head_width: int) -> list[int]:
    """Return the channels of heads, among those of all heads of a layer."""
    return [head * head_width + n for head in heads for n in range(head_width)]


def scaled(encoder: WavLM, gates: Groups[Tensor]) -> dict[str, Tensor]:
    """Return the parameters that differ where what units give is scaled by their gates."""
    parameters = dict(encoder.named_parameters())
    columns: dict[str, Tensor] = {}
    for index, channels in enumerate(gates.channels):
        name = _above(index, len(gates.channels))
        columns[name] = channels[:, None] if parameters[name].ndim == 3 else channels
    for layer, (heads, ffn) in enumerate(zip(gates.heads, gates.ffn, strict=True)):
        wide = heads.repeat_interleave(encoder.config.head_width)
        columns[f"layers.{layer}.attention.output.weight"] = wide
        columns[f"layers.{layer}.ffn.down.weight"] = ffn
    return {name: parameters[name] * factors for name, factors in columns.items()}


def folded(encoder: WavLM, gates: Groups[Tensor]) -> WavLM:
    """Return a copy of an encoder in which what units give is scaled by their gates."""
    copy = deepcopy(encoder)
    with torch.no_grad():
        for name, weight in scaled(encoder, gates).items():
            copy.get_parameter(name).copy_(weight)
    return copy


def _above(index: int, convolutions: int) -> str:
    """Return the name of the map that a convolution's channels are given to."""
    last = index == convolutions - 1
    return "projection.linear.weight" if last else f"frontend.layers.{index + 1}.conv.weight"


def _cuts(config: WavLMConfig, kept: Kept) -> Iterator[tuple[str, int, Sequence[int]]]:
    """Give the parameters to cut, some of which an encoder may lack: name, axis, what stays."""
    last = len(kept.channels) - 1
    for index, own in enumerate(kept.channels):
        name = f"frontend.layers.{index}."
        yield f"{name}conv.weight", 0, own
        norm: tuple[str, ...] = (f"{name}norm.weight", f"{name}norm.bias")
        if index == last:
            norm = (*norm, "projection.norm.weight", "projection.norm.bias")
        for each in norm:
            yield each, 0, own
        yield _above(index, last + 1), 1, own
    for layer, (heads, ffn) in enumerate(zip(kept.heads, kept.ffn, strict=True)):
        name = f"layers.{layer}."
        channels = head_channels(heads, config.head_width)
        for part in ("query", "key", "value"):
            yield f"{name}attention.{part}.weight", 0, channels
            yield f"{name}attention.{part}.bias", 0, channels
        yield f"{name}attention.output.weight", 1, channels
        yield f"{name}attention.gate_scale", 0, heads
        yield f"{name}ffn.up.weight", 0, ffn
        yield f"{name}ffn.up.bias", 0, ffn
        yield f"{name}ffn.down.weight", 1, ffn
