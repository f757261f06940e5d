"""An objective's passes on a GPU, recorded once and played from then on.

A small model's step is some thousand short kernels, which a host launches more slowly than a GPU
runs them. Recorded as CUDA graphs they are launched as one.
"""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

Objective = Callable[..., tuple[Tensor, ...]]
"""Turns tensors into the loss that is differentiated, first, and others that are only told."""


class RecordedObjective:
    """`objective`, forwards and backwards, recorded for each set of shapes of its inputs.

    `module` holds all parameters that the gradients are of. The objective may not ask the GPU for
    values, nor go by any that change on the host: what it did the first time is what is played.
    """

    def __init__(self, module: nn.Module, objective: Objective) -> None:
        self.module, self.objective = module, objective
        self._played: dict[tuple[torch.Size, ...], Objective] = {}

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Return what the objective gives; what is told is overwritten by the next call."""
        shapes = tuple(each.shape for each in inputs)
        if shapes not in self._played:
            recording = _Recording(self.module, self.objective)
            played = torch.cuda.make_graphed_callables(recording, inputs, allow_unused_input=True)
            self._played[shapes] = cast("Objective", played)
        return self._played[shapes](*inputs)


class _Recording(nn.Module):
    """Shows the recorder the objective as a module's forward pass, and whose parameters it has."""

    def __init__(self, module: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.module, self.objective = module, objective
        self.train(module.training)

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        loss, *told = self.objective(*inputs)
        return loss, *(each.detach() for each in told)
