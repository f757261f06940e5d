"""An objective that is played from its record is the one that was recorded."""

import pytest
import torch
from torch import Tensor, nn

from wavlm_meeting.training.recorded import RecordedObjective

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")


def test_a_record_gives_loss_and_gradients_of_new_inputs() -> None:
    """Of two shapes in turn, after the weights have moved, and with a weight that nobody uses."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 1)).cuda()
    network.register_parameter("unused", nn.Parameter(torch.ones(1, device="cuda")))

    def objective(x: Tensor, y: Tensor) -> tuple[Tensor, ...]:
        error = network(x)[:, 0] - y
        return error.square().mean(), error.abs().mean()

    played = RecordedObjective(network, objective)
    for rows in (4, 6, 4, 6):
        x, y = torch.randn(rows, 8, device="cuda"), torch.randn(rows, device="cuda")
        network.zero_grad()
        loss, told = played(x, y)
        loss.backward()
        found = [parameter.grad for parameter in network[0].parameters()]
        network.zero_grad()
        expected, known = objective(x, y)
        expected.backward()
        torch.testing.assert_close(loss, expected)
        torch.testing.assert_close(told, known.detach())
        for one, parameter in zip(found, network[0].parameters(), strict=True):
            torch.testing.assert_close(one, parameter.grad)
        with torch.no_grad():
            for parameter in network.parameters():
                parameter.add_(0.1)
