"""The same results on a GPU as on the CPU; skipped where there is none."""

from pathlib import Path

import pytest
import torch

import wavlm_meeting
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

DEVICE = "cuda"
SMALL = WavLMConfig(width=64, layers=2, heads=2, ffn=128, dropout=0.0, attention_dropout=0.0)
LENGTHS = torch.tensor([48_000, 30_000])


def encoder(attention: str = "auto") -> WavLM:
    """Give the same random encoder every time, on the CPU."""
    torch.manual_seed(0)
    return WavLM(SMALL, attention=attention).eval()


@pytest.fixture(autouse=True)
def exact_products() -> None:
    """Compare float32 with float32, not with TF32."""
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False


@pytest.mark.parametrize("attention", ["dense", "blockwise", "flex"])
def test_states_equal_those_of_the_cpu(attention: str) -> None:
    """Every way of attention, with padding, in float32."""
    waveforms = torch.randn(2, 48_000)
    with torch.no_grad():
        expected = encoder()(waveforms, LENGTHS)
        found = encoder(attention).to(DEVICE)(waveforms.to(DEVICE), LENGTHS.to(DEVICE))
    for ours, reference in zip(found.hidden_states, expected.hidden_states, strict=True):
        for row, frames in enumerate(expected.frame_lengths):
            pair = (ours[row, :frames].cpu(), reference[row, :frames])
            torch.testing.assert_close(*pair, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("attention", ["dense", "blockwise", "flex"])
def test_gradients_equal_those_of_the_cpu(attention: str) -> None:
    """Of every parameter; the bias table's and the gates' among them."""
    waveforms, direction = torch.randn(2, 48_000), torch.randn(2, 149, 64)
    gradients = []
    for device, way in (("cpu", "dense"), (DEVICE, attention)):
        model = encoder(way).to(device)
        state = model(waveforms.to(device)).hidden_states[-1]
        (state * direction.to(device)).sum().backward()
        gradients.append(
            {n: p.grad.cpu() for n, p in model.named_parameters() if p.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, reference in gradients[0].items():
        error = (gradients[1][name] - reference).norm() / reference.norm().clamp(min=1e-3)
        assert error < 1e-2, name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_halves_stay_close(dtype: torch.dtype) -> None:
    """Cosine above 0.999 to the CPU's float32 on every layer, for a long input too."""
    for samples in (48_000, 480_000):
        waveforms = torch.randn(1, samples)
        with torch.no_grad():
            expected = encoder()(waveforms).hidden_states
            found = encoder().to(DEVICE, dtype)(waveforms.to(DEVICE)).hidden_states
        for ours, reference in zip(found, expected, strict=True):
            pair = (ours.double().flatten().cpu(), reference.double().flatten())
            assert torch.cosine_similarity(*pair, dim=0) > 0.999


def test_diarization_is_that_of_the_cpu(conversation: Path) -> None:
    """The embedded model finds the same turns, give or take a frame."""
    expected = wavlm_meeting.diarize(conversation, device="cpu").turns
    found = wavlm_meeting.diarize(conversation, device=DEVICE).turns
    assert [turn.speaker for turn in found] == [turn.speaker for turn in expected]
    for ours, reference in zip(found, expected, strict=True):
        assert abs(ours.start - reference.start) <= 0.041
        assert abs(ours.end - reference.end) <= 0.041
