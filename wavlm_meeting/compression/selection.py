"""From learned gates to the units that stay."""

from bisect import bisect_right

import torch
from torch import Tensor

from wavlm_meeting.compression.groups import (
    Groups,
    count_parameters,
    group_sizes,
    in_groups,
)
from wavlm_meeting.compression.pruning import Kept
from wavlm_meeting.wavlm.config import WavLMConfig


def choose_kept(config: WavLMConfig, log_alpha: Groups[Tensor], target: int) -> Kept:
    """Keep the units whose gates are likeliest open, as many as come nearest to `target`.

    `target` counts the parameters of the encoder. In each group the likeliest unit stays in any
    case.
    """
    sizes = list(group_sizes(config).each())
    scores = [own.detach().cpu().double() for own in log_alpha.each()]
    first = [int(own.argmax()) for own in scores]
    for own, best in zip(scores, first, strict=True):
        own[best] = torch.inf
    group = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    order = torch.cat(scores).argsort(descending=True, stable=True)
    ranked = group[order]

    def parameters(units: int) -> int:
        counts = torch.bincount(ranked[:units], minlength=len(sizes)).tolist()
        return count_parameters(config, in_groups(config, counts))

    least, most = len(sizes), len(order)
    above = bisect_right(range(least, most + 1), target, key=parameters) + least
    # The last count that is not above the target, or the first that is: whichever is nearer.
    near = [units for units in (above - 1, above) if least <= units <= most]
    units = min(near, key=lambda units: abs(parameters(units) - target))
    kept: list[list[int]] = [[] for _ in sizes]
    starts = torch.tensor([0, *sizes]).cumsum(0)
    for place in order[:units].sort().values.tolist():
        number = int(group[place])
        kept[number].append(place - int(starts[number]))
    return in_groups(config, kept)


def least_parameters(config: WavLMConfig) -> int:
    """Return how many parameters stay where each group keeps one unit."""
    return count_parameters(config, group_sizes(config).map(lambda _: 1))
