"""ECAPA-TDNN: padding has no influence, every part takes part, wrong sizes are refused."""

import copy
import pickle
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavlm_meeting.config import parse_settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.heads.ecapa import Ecapa, EcapaConfig, surround
from wavlm_meeting.heads.linear import Linear, linear, onednn_is_faster

VARIANTS = (
    {"padding": "zeros", "context": False},
    {"padding": "reflect", "context": True},
)


def small(variant: dict[str, Any], **sizes: Any) -> Ecapa:
    """Build a network with statistics and weights that hide no term."""
    torch.manual_seed(0)
    config = EcapaConfig(
        channels=24, aggregated=20, scale=4, squeezed=6, attention=5, embedding=7
    ).model_copy(update=variant | sizes)
    network = Ecapa(10, **config.model_dump()).eval()
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.is_floating_point():
                noise = torch.rand_like(value) if "var" in name else torch.randn_like(value)
                value.add_(0.2 * noise)
    return network


@pytest.mark.parametrize("variant", VARIANTS)
@torch.inference_mode()
def test_batch_equals_single(variant: dict[str, Any]) -> None:
    """Each utterance of a batch gets what it gets alone, whatever the padding holds.

    Among them are some that are shorter than the convolutions reach.
    """
    network = small(variant)
    lengths = torch.tensor([60, 33, 5, 2, 1])
    features = 3 * torch.randn(5, 10, 60)
    together = network(features, lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = network(features[row : row + 1, :, :length])
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-5, atol=1e-5)
    assert (together[0] - together[1]).abs().max() > 0.01


@pytest.mark.parametrize("variant", VARIANTS)
def test_everything_takes_part_in_training(variant: dict[str, Any]) -> None:
    """Gradients reach every parameter, and training moves every BatchNorm's statistics."""
    network = small(variant).train()
    before = {name: value.clone() for name, value in network.named_buffers()}
    network(torch.randn(4, 10, 30)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name
    assert all(not value.equal(before[name]) for name, value in network.named_buffers())


@pytest.mark.parametrize("variant", VARIANTS)
def test_gradients_are_those_of_differences(variant: dict[str, Any]) -> None:
    """A step along the gradient changes the sum by what the gradient says, padding or not."""
    network = small(variant).double()
    features = torch.randn(2, 10, 20, dtype=torch.float64, requires_grad=True)
    lengths = torch.tensor([20, 11])
    (slope,) = torch.autograd.grad(network(features, lengths).sum(), features)
    assert not slope[1, :, 11:].any()
    step = 1e-6 * torch.randn_like(features)
    moved = network(features + step, lengths).sum() - network(features - step, lengths).sum()
    torch.testing.assert_close(moved, 2 * (slope * step).sum(), rtol=1e-4, atol=1e-12)


@pytest.mark.parametrize("reach", [1, 4])
def test_reflection_is_that_of_pytorch(reach: int) -> None:
    """What lies beyond each utterance's ends is its reflection, or zeros."""
    x = torch.randn(2, 12, 3)
    lengths = torch.tensor([12, 7])
    mirrored, empty = (surround(x, reach, lengths, padding) for padding in ("reflect", "zeros"))
    for row, length in enumerate(lengths.tolist()):
        own = x[row, :length].T[None]
        end = length + 2 * reach
        expected = F.pad(own, (reach, reach), mode="reflect")[0].T
        torch.testing.assert_close(mirrored[row, :end], expected, rtol=0, atol=0)
        torch.testing.assert_close(
            empty[row, :end], F.pad(own, (reach, reach))[0].T, rtol=0, atol=0
        )


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"channels": 20}, "channels 20 is not a multiple of scale 8"),
        ({"kernel": 4}, "kernel 4 must be odd"),
        ({"padding": "circular"}, "padding"),
        ({"chanels": 512}, "did you mean 'channels'"),
    ],
)
def test_sizes_that_do_not_fit(values: dict[str, Any], message: str) -> None:
    """Sizes that no network has are refused."""
    with pytest.raises(SettingsError, match=message):
        parse_settings(values, EcapaConfig, "here")


@pytest.mark.parametrize("shape", [(6,), (3, 6), (2, 5, 6)])
@pytest.mark.parametrize("relu", [False, True])
def test_products_are_those_of_pytorch(shape: tuple[int, ...], relu: bool) -> None:
    """Whichever library multiplies: the map and its gradients are those of `nn.Linear`."""
    torch.manual_seed(1)
    reference = nn.Linear(6, 4)
    if len(shape) == 1:
        shape = (1, *shape)
    x = torch.randn(shape, requires_grad=True)
    given = [x, *reference.parameters()]

    def both(y: Tensor) -> tuple[Tensor, ...]:
        return (y, *torch.autograd.grad((y * y.detach().cos()).sum(), given))

    expected = reference(x)
    ours = linear(x, reference.weight, reference.bias, relu=relu)
    for found, wanted in zip(both(ours), both(expected.relu() if relu else expected), strict=True):
        torch.testing.assert_close(found, wanted)
    with torch.no_grad():
        wide = torch.randn(4, 18)
        part = wide[:, 6:12]  # of another matrix: oneDNN would be slow on it
        torch.testing.assert_close(linear(x, part), F.linear(x, part))


def test_halves_and_autocast_are_left_to_pytorch() -> None:
    """OneDNN is asked for float32 alone: a half, and autocast, keep their own ways."""
    assert not onednn_is_faster(torch.zeros(1, 2, dtype=torch.bfloat16))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert not onednn_is_faster(torch.zeros(1, 2))
        y = linear(torch.ones(3, 2), torch.ones(4, 2))
    assert y.dtype == torch.bfloat16


def test_the_order_of_weights_follows_their_changes() -> None:
    """What is kept of a weight for speed is made again when the weight changes, and in copies."""
    torch.manual_seed(2)
    own = Linear(6, 4)
    x = torch.randn(3, 6)

    def check(module: Linear) -> None:
        with torch.inference_mode():
            found = module(x, relu=True)
        torch.testing.assert_close(found, F.linear(x, module.weight, module.bias).relu())

    check(own)
    optimizer = torch.optim.AdamW(own.parameters(), lr=0.1)
    own(x).square().sum().backward()
    optimizer.step()
    check(own)
    copies = [copy.deepcopy(own), pickle.loads(pickle.dumps(own))]  # noqa: S301 - its own
    for each in copies:
        check(each)
    own.load_state_dict(Linear(6, 4).state_dict())
    check(own)
    own.load_state_dict(Linear(6, 4).state_dict(), assign=True)
    check(own)
    copies[0].weight = nn.Parameter(torch.randn(4, 6))
    check(copies[0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_inference_is_what_training_computes(variant: dict[str, Any]) -> None:
    """With gradients and without, embeddings are the same."""
    network = small(variant)
    features = torch.randn(2, 10, 40)
    with torch.inference_mode():
        fast = network(features)
    torch.testing.assert_close(network(features), fast, rtol=1e-5, atol=1e-5)
