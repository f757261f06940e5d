"""Muon and AdamW: two algorithms that look like one."""

import copy

import torch
from torch import nn

from wavlm_meeting.optimizer import BETAS, Muon, MuonAdamW


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


def test_matrices_together_take_the_steps_they_take_alone() -> None:
    """PyTorch's Muon, which goes one matrix at a time, gets to the same weights."""
    torch.manual_seed(0)
    shapes = [(6, 4), (4, 6), (6, 4), (5, 5)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(own.detach().clone()) for own in ours]
    reference = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    optimizer = Muon([{"params": ours, "lr": 0.02, "weight_decay": 0.1}])
    for _ in range(4):
        for own, their in zip(ours, theirs, strict=True):
            own.grad = torch.randn_like(own)
            their.grad = own.grad.clone()
        optimizer.step()
        reference.step()
    for own, their in zip(ours, theirs, strict=True):
        torch.testing.assert_close(own, their, atol=2e-3, rtol=0)  # the products are bfloat16


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
