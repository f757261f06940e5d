"""The optimizer of separation: two algorithms that look like one."""

import copy

import torch
from torch import nn

from wavlm_meeting.separation.optimizer import BETAS, MuonAdamW


def optimizer_of(model: nn.Module) -> MuonAdamW:
    """Return an optimizer of a model's matrices and vectors."""
    matrices = [p for p in model.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if p.ndim != 2]
    return MuonAdamW(
        [{"params": matrices, "lr": 0.02, "weight_decay": 0.1}],
        [{"params": others, "lr": 0.01, "weight_decay": 0.0}],
    )


def learn(model: nn.Module, optimizer: torch.optim.Optimizer, seeds: range) -> None:
    """Take a step towards random targets for each seed."""
    for seed in seeds:
        torch.manual_seed(seed)
        optimizer.zero_grad()
        (model(torch.randn(5, 6)) - torch.randn(5, 4)).square().mean().backward()
        optimizer.step()


def test_each_part_does_what_it_does_alone() -> None:
    """Vectors take AdamW's steps; a matrix takes one of equal length in all directions."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    before = copy.deepcopy(model)
    twin = copy.deepcopy(model)
    learn(model, optimizer_of(model), range(1))
    learn(twin, torch.optim.AdamW([twin.bias], lr=0.01, betas=BETAS, weight_decay=0.0), range(1))
    torch.testing.assert_close(model.bias, twin.bias)
    step = model.weight.detach() - before.weight.detach() * (1 - 0.02 * 0.1)
    lengths = torch.linalg.svdvals(step)
    assert lengths.max() / lengths.min() < 2.5  # the gradient's differ far more
    assert 0.5 < step.square().mean().sqrt() / (0.2 * 0.02) < 1.5  # as long as one of AdamW's


def test_what_is_stopped_goes_on() -> None:
    """Saved, loaded into a new one and gone on with: as if it had never been stopped."""
    torch.manual_seed(0)
    model = nn.Linear(6, 4)
    optimizer = optimizer_of(model)
    learn(model, optimizer, range(3))
    again = copy.deepcopy(model)
    other = optimizer_of(again)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each in (optimizer, other):
        for group in each.param_groups:
            group["lr"] *= 0.5  # a scheduler's doing reaches both parts
    learn(model, optimizer, range(3, 6))
    learn(again, other, range(3, 6))
    assert torch.equal(model.weight, again.weight)
    assert torch.equal(model.bias, again.bias)
