"""What of an encoder can be pruned, group by group, and how many parameters a choice leaves.

A unit is a channel of a convolution of the frontend, an attention head, or an inner channel of a
feed-forward part; the units of one convolution or layer are a group. The hidden states keep their
width and their number, so that heads trained on them go on working.

D width, E head size, K kernel, C channels.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar

from torch import Tensor

from wavlm_meeting.wavlm.config import WavLMConfig

T = TypeVar("T")
U = TypeVar("U")
Number = TypeVar("Number", int, float, Tensor)


class Groups(NamedTuple, Generic[T]):
    """Something for each group of units."""

    channels: tuple[T, ...]
    """For each convolution of the frontend."""
    heads: tuple[T, ...]
    """For the attention of each layer."""
    ffn: tuple[T, ...]
    """For the feed-forward part of each layer."""

    def map(self, function: Callable[[T], U]) -> "Groups[U]":
        """Apply a function to each."""
        return Groups(*(tuple(map(function, own)) for own in self))

    def each(self) -> Iterator[T]:
        """Give all of them, in the order of the fields."""
        for own in self:
            yield from own


def group_sizes(config: WavLMConfig) -> Groups[int]:
    """Return how many units each group of an encoder has."""
    layers = range(config.layers)
    return Groups(
        tuple(channels for channels, _, _ in config.conv_layers),
        tuple(len(config.heads_of(layer)) for layer in layers),
        tuple(config.ffn_of(layer) for layer in layers),
    )


def count_parameters(config: WavLMConfig, counts: Groups[Number]) -> Number:
    """Count an encoder's parameters if each group has so many units.

    For whole numbers it is exact. Since the count is linear in each group, it is the expected one
    for the expected numbers of units, if groups are drawn independently.
    """
    D, E = config.width, config.head_width
    total: Any = 0
    below: Any = 1
    for index, (channels, layer) in enumerate(
        zip(counts.channels, config.conv_layers, strict=True)
    ):
        normed = config.frontend_norm == "layer" or index == 0
        total = total + channels * (below * layer[1] + 2 * normed)
        below = channels
    total = total + below * (2 + D) + D  # the projection
    gated = config.position_bias == "gated"
    for heads, ffn in zip(counts.heads, counts.ffn, strict=True):
        total = total + heads * (4 * D * E + 3 * E + gated) + D + gated * 8 * (E + 1)
        total = total + ffn * (2 * D + 1) + D + 4 * D
    K = config.position_kernel
    position = K + D * (D // config.position_groups) * K + D
    table = 0 if config.position_bias == "none" else config.bias_buckets * config.heads
    counted: Number = total + position + table + 3 * D  # with final norm and mask embedding
    return counted


def in_groups(config: WavLMConfig, values: Sequence[T]) -> Groups[T]:
    """Put one value for each group of an encoder, in the order of `Groups.each`, into groups."""
    convolutions, layers = len(config.conv_layers), config.layers
    edges = (convolutions, convolutions + layers)
    parts = values[: edges[0]], values[edges[0] : edges[1]], values[edges[1] :]
    return Groups(*map(tuple, parts))
