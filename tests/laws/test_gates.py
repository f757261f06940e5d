"""Hard concrete gates: what is expected of them is what comes out on average."""

import torch

from wavlm_meeting.compression.gates import (
    Gates,
    draw_gates,
    open_probability,
    usual_gate,
)
from wavlm_meeting.compression.groups import count_parameters
from wavlm_meeting.wavlm.config import WavLMConfig

DRAWS = 40_000
SMALL = WavLMConfig(
    conv_layers=((6, 10, 5), (5, 8, 8)),
    frontend_norm="layer",
    width=16,
    layers=2,
    heads=4,
    ffn=9,
    position_kernel=8,
    position_groups=4,
    bias_buckets=16,
    bias_max_distance=40,
)


def test_the_share_of_open_gates_is_as_expected() -> None:
    """Simulated, within four standard errors, from nearly always shut to nearly always open."""
    log_alpha = torch.tensor([-4.0, -1.0, 0.0, 0.7, 3.0])
    generator = torch.Generator().manual_seed(1)
    gates = draw_gates(log_alpha.expand(DRAWS, -1), generator)
    assert gates.min() == 0
    assert gates.max() == 1
    expected = open_probability(log_alpha)
    found = (gates > 0).float().mean(dim=0)
    error = (expected * (1 - expected) / DRAWS).sqrt()
    assert ((found - expected).abs() < 4 * error).all()


def test_expected_parameters_are_those_of_drawn_encoders() -> None:
    """The mean over drawn structures, in which a convolution's two sides are drawn apart."""
    gates = Gates(SMALL, 0.9)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for own in gates.groups:
            own.copy_(torch.randn(own.shape, generator=generator))
    counts = gates.log_alpha.map(
        lambda own: (draw_gates(own.expand(DRAWS, -1), generator) > 0).double().sum(dim=1)
    )
    drawn = count_parameters(SMALL, counts)
    assert drawn.shape == (DRAWS,)
    error = drawn.std() / DRAWS**0.5
    assert abs(drawn.mean() - gates.expected_parameters()) < 4 * error


def test_gates_learn() -> None:
    """More open gates cost parameters, and a gate between its ends tells how it would be better."""
    gates = Gates(SMALL, 0.6)
    gates.expected_parameters().backward()
    assert all((own.grad > 0).all() for own in gates.groups)
    log_alpha = torch.zeros(1000, requires_grad=True)
    drawn = draw_gates(log_alpha, torch.Generator().manual_seed(3))
    drawn.sum().backward()
    between = (drawn > 0) & (drawn < 1)
    assert between.any()
    assert log_alpha.grad is not None
    assert torch.equal(log_alpha.grad > 0, between)


def test_the_usual_gate() -> None:
    """Without chance a gate is shut, open, or rises between, and one half at 0."""
    gates = usual_gate(torch.tensor([-9.0, -1.0, 0.0, 1.0, 9.0]))
    assert gates.tolist() == sorted(gates.tolist())
    assert (gates[0], gates[-1]) == (0, 1)
    torch.testing.assert_close(gates[2], torch.tensor(0.5))
