"""Weights in eight bits: how far they move, that they do so once, and what it saves."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from wavlm_meeting.checkpoints.bundle import Bundle, read_bundle, rounded, write_bundle
from wavlm_meeting.checkpoints.catalog import embedded_models
from wavlm_meeting.checkpoints.quantisation import dequantise, quantise, saves
from wavlm_meeting.errors import CheckpointError


def drawn(*shape: int) -> Tensor:
    """Draw a weight whose rows are of very different size."""
    generator = torch.Generator().manual_seed(3)
    weight = torch.randn(shape, generator=generator)
    sizes = 10.0 ** torch.linspace(-20, 6, shape[0])
    return weight * sizes.view(-1, *[1] * (len(shape) - 1))


@pytest.mark.parametrize("shape", [(64, 100), (30, 7, 9)])
def test_no_weight_moves_by_more_than_half_a_step(shape: tuple[int, ...]) -> None:
    """A step is a row's own largest weight / 127; shapes and signs stay."""
    weight = drawn(*shape)
    numbers, scales = quantise(weight)
    assert (numbers.dtype, numbers.shape, scales.shape) == (torch.int8, weight.shape, shape[:1])
    step = weight.flatten(1).abs().amax(dim=1) / 127
    moved = (dequantise(numbers, scales) - weight).flatten(1).abs().amax(dim=1)
    assert (moved <= 0.5001 * step).all()
    assert torch.equal(quantise(-weight)[0], -numbers)


@pytest.mark.parametrize(
    "change", [lambda w: w, lambda w: w * 1e-38, lambda w: w * 0, lambda w: w.transpose(0, 1)]
)
def test_what_was_quantised_is_quantised_to_the_same(change: Callable[[Tensor], Tensor]) -> None:
    """Reading and writing again change no bit, for rows of zeros and near to nothing either."""
    once = quantise(change(drawn(200, 300)))
    again = quantise(dequantise(*once))
    assert all(torch.equal(a, b) for a, b in zip(once, again, strict=True))


def test_small_tensors_and_filters_of_samples_stay() -> None:
    """Norms, biases, short rows, filters of one channel and whole numbers are not quantised."""
    assert saves(torch.zeros(64, 64))
    assert saves(torch.zeros(64, 8, 16))
    for shape in ((4096,), (16, 64), (1024, 4), (512, 1, 400), (1, 1, 128)):
        assert not saves(torch.zeros(shape)), shape
    assert not saves(torch.zeros(64, 64, dtype=torch.int64))


def test_the_embedded_model_in_eight_bits(tmp_path: Path) -> None:
    """The file halves once more, `rounded` tells what is read back, and a second time is exact."""
    bundle = read_bundle(embedded_models()["tiny"])
    sizes = {}
    for storage in ("float16", "int8"):
        write_bundle(tmp_path / storage, bundle.state, bundle.card, storage)
        sizes[storage] = (tmp_path / storage / "model.safetensors").stat().st_size
    assert sizes["int8"] < 0.55 * sizes["float16"]
    found = read_bundle(tmp_path / "int8")
    for part, state in bundle.state.items():
        expected = rounded(state, "int8")
        assert found.state[part].keys() == state.keys() == expected.keys()
        for name, tensor in state.items():
            own = found.state[part][name]
            assert own.dtype == tensor.dtype
            assert torch.equal(own, expected[name])
            assert torch.equal(own, tensor.half()) != saves(tensor), name
    card = write_bundle(tmp_path / "again", found.state, found.card, "int8")
    assert card.weights == found.card.weights


@pytest.mark.parametrize(
    ("name", "value"), [("map", float("nan")), ("map", float("inf")), ("norm.bias", 1e6)]
)
def test_numbers_that_cannot_be_stored(
    tmp_path: Path, model: Bundle, name: str, value: float
) -> None:
    """What is not finite, or is not in 16 bits, is an error that names it before it is a file."""
    encoder = {"map": torch.ones(64, 128), "norm.bias": torch.ones(3)}
    encoder[name][1] = value
    message = rf"{name}: holds NaN, or a number too large for int8"
    with pytest.raises(CheckpointError, match=message):
        rounded(encoder, "int8")
    with pytest.raises(CheckpointError, match=rf"small: encoder\.{message}"):
        write_bundle(tmp_path / "small", model.state | {"encoder": encoder}, model.card, "int8")
    assert not list(tmp_path.iterdir())
