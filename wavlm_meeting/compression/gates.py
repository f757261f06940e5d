"""Hard concrete gates (Louizos et al., ICLR 2018, arXiv 1712.01312): open, shut, or between.

s = sigmoid((log u - log(1 - u) + a) / TEMPERATURE)      u uniform in (0, 1), a learned
gate = clamp(s (HIGH - LOW) + LOW, 0, 1)
P(gate > 0) = sigmoid(a - TEMPERATURE log(-LOW / HIGH))
"""

import math

import torch
from torch import Tensor, nn

from wavlm_meeting.compression.groups import (
    Groups,
    count_parameters,
    group_sizes,
    in_groups,
)
from wavlm_meeting.wavlm.config import WavLMConfig

TEMPERATURE, LOW, HIGH = 2 / 3, -0.1, 1.1
"""As in the paper, section 4."""


def draw_gates(log_alpha: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Draw a gate for each of `log_alpha`, in [0, 1]; gradients reach `log_alpha`."""
    u = torch.rand(log_alpha.shape, generator=generator, device=log_alpha.device)
    u = u.clamp(1e-6, 1 - 1e-6)
    s = torch.sigmoid((torch.log(u) - torch.log1p(-u) + log_alpha) / TEMPERATURE)
    return (s * (HIGH - LOW) + LOW).clamp(0, 1)


def open_probability(log_alpha: Tensor) -> Tensor:
    """Return the probability that a gate is above 0."""
    return torch.sigmoid(log_alpha - TEMPERATURE * math.log(-LOW / HIGH))


def usual_gate(log_alpha: Tensor) -> Tensor:
    """Return the gate without chance, for use (equation 13 of the paper)."""
    return (torch.sigmoid(log_alpha) * (HIGH - LOW) + LOW).clamp(0, 1)


class Gates(nn.Module):
    """A gate on every unit of an encoder."""

    def __init__(self, config: WavLMConfig, start: float) -> None:
        """Begin with sigmoid(a) = `start` for each."""
        super().__init__()
        self.config = config
        begun = math.log(start / (1 - start))
        sizes = group_sizes(config).each()
        self.groups = nn.ParameterList(torch.full((size,), begun) for size in sizes)

    @property
    def log_alpha(self) -> Groups[Tensor]:
        """What is learned, group by group."""
        return in_groups(self.config, list(self.groups))

    def forward(self) -> Groups[Tensor]:
        """Draw a gate for each unit."""
        return self.log_alpha.map(draw_gates)

    def expected_parameters(self) -> Tensor:
        """Return how many parameters the encoder is expected to keep."""
        counts = self.log_alpha.map(lambda own: open_probability(own).sum())
        return count_parameters(self.config, counts)
