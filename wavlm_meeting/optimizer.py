"""Muon for the matrices of a network and AdamW for everything else, as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

from wavlm_meeting.devices import has_bfloat16

BETAS = (0.9, 0.98)
"""Of AdamW."""
MOMENTUM = 0.95
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the Newton-Schulz iteration (Jordan et al.)."""
ITERATIONS = 5


class Muon(torch.optim.Optimizer):
    """Muon whose steps have the root mean square of AdamW's; matrices of one shape go together.

    `torch.optim.Muon` does the same, a matrix at a time: on a GPU the many small products of an
    encoder of a few million parameters took it longer than half of the step before them. Source:
    Jordan et al., "Muon: an optimizer for hidden layers in neural networks" (2024); Liu et al.,
    "Muon is scalable for LLM training" (arXiv 2502.16982), section 2.2.
    """

    def __init__(self, params: Iterable[dict[str, Any]]) -> None:
        super().__init__(list(params), {"lr": 1e-3, "weight_decay": 0.0})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all matrices once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[torch.Size, list[Tensor]] = {}
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike.setdefault(matrix.shape, []).append(matrix)
            for shape, matrices in alike.items():
                scale = 0.2 * max(shape) ** 0.5 * group["lr"]
                directions = orthogonal(self._averaged(matrices))
                torch._foreach_mul_(matrices, 1.0 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(matrices, list(directions.unbind()), alpha=-scale)
        return loss

    def _averaged(self, matrices: list[Tensor]) -> Tensor:
        """Move the running means on, and return what Nesterov looks ahead to (N, A, B)."""
        for matrix in matrices:
            if "momentum_buffer" not in self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        means = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        torch._foreach_lerp_(means, gradients, 1.0 - MOMENTUM)
        return torch.stack(gradients).lerp(torch.stack(means), MOMENTUM)


def orthogonal(matrices: Tensor) -> Tensor:
    """Return (N, A, B) with all singular values brought near to 1, by Newton and Schulz.

    As far as five iterations bring them: to between about 0.5 and 1.5. In bfloat16, where the
    device has products in it.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.bfloat16() if has_bfloat16(matrices.device.type) else matrices.float()
    x = x.mT if tall else x
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return (x.mT if tall else x).to(matrices.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for matrices, whose steps are equally long in all directions, and AdamW for the rest.

    Groups of parameters are dicts that PyTorch's optimizers understand, with `lr` and
    `weight_decay`; Muon gets those in `matrices`, of two dimensions each. One learning rate serves
    both.
    """

    def __init__(
        self, matrices: Iterable[dict[str, Any]], others: Iterable[dict[str, Any]]
    ) -> None:
        self.parts: tuple[torch.optim.Optimizer, ...] = (
            Muon(matrices),
            torch.optim.AdamW(list(others), betas=BETAS),
        )
        super().__init__([group for part in self.parts for group in part.param_groups], {})

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Update all parameters once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """Return the states of both."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on from the states of both."""
        for part, own in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(own)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
