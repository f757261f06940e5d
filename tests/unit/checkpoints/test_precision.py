"""Products in eight bits and in bfloat16, against those in float32."""

import warnings

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from wavlm_meeting.checkpoints.precision import (
    Int8Linear,
    check_precision,
    int8_is_exact,
    lower_encoder,
    lower_linear_maps,
)
from wavlm_meeting.checkpoints.quantisation import dequantise
from wavlm_meeting.errors import DeviceError, SettingsError, WavLMMeetingWarning
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

CPU = torch.device("cpu")
needs_int8 = pytest.mark.skipif(not int8_is_exact(), reason="this CPU has no products in int8")


@needs_int8
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(33, 1), (128, 130), (301, 77)])
def test_a_map_in_int8_is_the_map_of_what_was_rounded(shape: tuple[int, int], bias: bool) -> None:
    """It is exact but for rounding: weights by rows, inputs by frames, whatever their size."""
    torch.manual_seed(0)
    linear = nn.Linear(*shape, bias=bias)
    lowered = Int8Linear(linear)
    x = torch.randn(3, 5, shape[0]) * 10.0 ** torch.linspace(-8, 8, 15).view(3, 5, 1)
    x[1, 2] = 0
    steps = x.abs().amax(dim=2, keepdim=True).clamp(min=1e-30).double() / 127
    rounded = (x / steps).round() * steps
    weight = dequantise(lowered.numbers, lowered.scales).double()
    expected = F.linear(rounded, weight, linear.bias.double() if bias else None)
    size = expected.abs().amax(dim=2, keepdim=True)
    assert ((lowered(x) - expected).abs() <= 1e-5 * size + 1e-6 * steps).all()


@needs_int8
def test_frames_in_int8_know_nothing_of_each_other() -> None:
    """A frame gives the same to the bit, alone and beside louder ones."""
    torch.manual_seed(0)
    lowered = Int8Linear(nn.Linear(96, 64))
    x = torch.randn(4, 50, 96)
    x[0] *= 100
    assert torch.equal(lowered(x)[2, 7:9], lowered(x[2, 7:9]))


def small_encoder() -> WavLM:
    """Make an encoder with linear maps that are large enough for int8."""
    torch.manual_seed(0)
    config = WavLMConfig(
        conv_layers=((64, 10, 5), (64, 8, 4)),
        width=128,
        layers=2,
        heads=4,
        ffn=256,
        position_kernel=8,
        position_groups=4,
    )
    return WavLM(config).eval()


@pytest.mark.parametrize("precision", ["bfloat16", pytest.param("int8", marks=needs_int8)])
def test_an_encoder_stays_near_to_float32(precision: str) -> None:
    """States come out in float32, with a cosine above 0.999 to float32's in every layer."""
    encoder, waveforms = small_encoder(), torch.randn(2, 4000)
    lengths = torch.tensor([4000, 3000])
    with torch.inference_mode():
        exact = encoder(waveforms, lengths)
        lower_encoder(encoder, precision)
        found = encoder(waveforms, lengths)
    assert torch.equal(found.frame_lengths, exact.frame_lengths)
    assert not torch.equal(found.hidden_states[-1], exact.hidden_states[-1])
    for ours, theirs in zip(found.hidden_states, exact.hidden_states, strict=True):
        assert ours.dtype == torch.float32
        for row, length in enumerate(exact.frame_lengths.tolist()):
            likeness = F.cosine_similarity(ours[row, :length], theirs[row, :length], dim=1)
            assert likeness.min() > 0.999


@needs_int8
def test_all_large_maps_of_an_encoder_are_lowered() -> None:
    """Query, key, value, output and both of the feed-forward part are, in each layer."""
    encoder = small_encoder()
    lower_encoder(encoder, "int8")
    lowered = {name for name, part in encoder.named_modules() if isinstance(part, Int8Linear)}
    maps = ("attention.query", "attention.key", "attention.value", "attention.output")
    names = (*maps, "ffn.up", "ffn.down")
    assert lowered == {f"layers.{layer}.{name}" for layer in range(2) for name in names}


@needs_int8
def test_what_reads_its_weights_itself_is_left_alone() -> None:
    """PyTorch's own Transformer runs on beside maps in int8."""
    part = nn.Sequential(nn.Linear(128, 128), nn.TransformerEncoderLayer(128, 4, 256)).eval()
    lower_linear_maps(part)
    assert isinstance(part[0], Int8Linear)
    with torch.inference_mode():
        assert part(torch.randn(5, 2, 128)).isfinite().all()


@pytest.mark.parametrize(
    ("precision", "device", "error", "message"),
    [
        (
            "int4",
            "cpu",
            SettingsError,
            "precision is 'int4': choose one of float32, bfloat16, int8",
        ),
        ("int8", "cuda", DeviceError, "int8 is for CPUs: choose float32 or bfloat16"),
    ],
)
def test_what_nothing_computes_in_is_refused(
    precision: str, device: str, error: type[Exception], message: str
) -> None:
    """The line names the choices."""
    with pytest.raises(error, match=message):
        check_precision(precision, torch.device(device))


@pytest.mark.parametrize("told", [{"avx2": True, "avx512_vnni": False}, {"avx2": True}])
def test_int8_by_a_loop_is_refused(monkeypatch: pytest.MonkeyPatch, told: dict[str, bool]) -> None:
    """PyTorch takes fifty times as long as in float32 where it has no VNNI to multiply with."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    with pytest.raises(DeviceError, match="choose float32"):
        check_precision("int8", CPU)


@pytest.mark.parametrize("told", [{"avx2": True}, {"avx512_bf16": True}, {"bf16": True}, {}])
def test_slow_halves_are_told(monkeypatch: pytest.MonkeyPatch, told: dict[str, bool]) -> None:
    """A CPU that says it has no products in bfloat16 is worth a line; others are not."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: told, raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_precision("bfloat16", CPU)
    assert [item.category for item in caught] == [WavLMMeetingWarning] * ("avx2" in told)
