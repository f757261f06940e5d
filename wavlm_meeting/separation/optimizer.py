"""Muon for the matrices of a network and AdamW for everything else, as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch

BETAS = (0.9, 0.98)
"""Of AdamW."""


class MuonAdamW(torch.optim.Optimizer):
    """Muon, whose steps are equally long in all directions of a matrix, and AdamW for the rest.

    Groups of parameters are dicts that PyTorch's optimizers understand, with `lr` and
    `weight_decay`; Muon gets those in `matrices`, of two dimensions each. Its steps have the root
    mean square of AdamW's, so that one learning rate serves both. Source: Jordan et al., "Muon: an
    optimizer for hidden layers in neural networks" (2024); Liu et al., "Muon is scalable for LLM
    training" (arXiv 2502.16982), section 2.2.
    """

    def __init__(
        self, matrices: Iterable[dict[str, Any]], others: Iterable[dict[str, Any]]
    ) -> None:
        muon = torch.optim.Muon(list(matrices), adjust_lr_fn="match_rms_adamw")
        adamw = torch.optim.AdamW(list(others), betas=BETAS)
        self.parts: tuple[torch.optim.Optimizer, ...] = (muon, adamw)
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
