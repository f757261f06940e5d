"""What a caller of the encoder gets and may not do."""

import pytest
import torch
from torch import Tensor

from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

CONFIG = WavLMConfig(
    conv_layers=((64, 10, 5), *((32, 3, 2),) * 4, *((32, 2, 2),) * 2),
    width=64,
    layers=2,
    heads=4,
    ffn=96,
)


@pytest.fixture
def model() -> WavLM:
    """Build a small encoder."""
    torch.manual_seed(0)
    return WavLM(CONFIG).eval()


@pytest.mark.parametrize(
    ("waveforms", "lengths", "error", "said"),
    [
        (torch.zeros(16_000), None, SettingsError, "batch, samples"),
        (torch.zeros(2, 399), None, AudioError, "at least 400"),
        (torch.zeros(2, 9000), torch.tensor([9000, 399]), AudioError, "at least 400"),
        (torch.zeros(2, 9000), torch.tensor([9001, 900]), SettingsError, "9001"),
        (torch.zeros(2, 9000), torch.tensor([9000]), SettingsError, "one for each"),
        (torch.zeros(2, 9000), torch.tensor([1.0, 0.5]), SettingsError, "whole numbers"),
    ],
)
def test_wrong_input_is_refused(
    model: WavLM,
    waveforms: Tensor,
    lengths: Tensor | None,
    error: type[Exception],
    said: str,
) -> None:
    """Bad shapes and lengths raise an error that says what to give."""
    with pytest.raises(error, match=said):
        model(waveforms, lengths)


@pytest.mark.parametrize("option", ["padding", "attention"])
def test_unknown_option_is_refused(option: str) -> None:
    """A wrong name for a way of working raises at once."""
    with pytest.raises(SettingsError, match=option):
        WavLM(CONFIG, **{option: "sideways"})


def test_output_has_every_state_and_the_frame_counts(model: WavLM) -> None:
    """L + 1 states of (B, T, C), and int64 counts, with and without lengths."""
    waveforms = torch.randn(2, 9_000)
    for lengths in (None, torch.tensor([9_000, 5_000])):
        output = model(waveforms, lengths)
        assert [tuple(state.shape) for state in output.hidden_states] == [(2, 27, 64)] * 3
        assert output.frame_lengths.dtype == torch.int64
    assert output.frame_lengths.tolist() == [27, 15]


def test_half_hidden_states_stay_close(model: WavLM) -> None:
    """A bfloat16 encoder's states have a cosine above 0.999 to float32's, on every layer."""
    waveforms, lengths = torch.randn(2, 16_000), torch.tensor([16_000, 9_000])
    with torch.no_grad():
        exact = model(waveforms, lengths)
        half = model.to(torch.bfloat16)(waveforms, lengths)
    for ours, reference in zip(half.hidden_states, exact.hidden_states, strict=True):
        assert ours.dtype == torch.bfloat16
        for index, frames in enumerate(exact.frame_lengths):
            pair = (ours[index, :frames].float(), reference[index, :frames])
            assert torch.cosine_similarity(*pair, dim=-1).min() > 0.999


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_large_shapes_survive_huge_logits_in_halves(dtype: torch.dtype) -> None:
    """With Large's heads and norms and scores of about 1e6, no state holds NaN."""
    config = WavLMConfig(
        conv_layers=((32, 10, 5), *((32, 3, 2),) * 4, *((32, 2, 2),) * 2),
        frontend_norm="layer",
        normalize_waveform=True,
        width=1024,
        layers=2,
        heads=16,
        ffn=64,
        pre_norm=True,
    )
    torch.manual_seed(0)
    model = WavLM(config).eval()
    for layer in model.layers:
        for linear in (layer.attention.query, layer.attention.key):
            torch.nn.init.normal_(linear.weight, std=10)
    with torch.no_grad():
        states = model.to(dtype)(torch.randn(1, 16_000)).hidden_states
    for state in states:
        assert state.isfinite().all()


def test_dropout_and_layer_drop_act_in_training_only(model: WavLM) -> None:
    """In training two passes differ and a dropped layer passes its input on; not afterwards."""
    waveforms = torch.randn(1, 9_000)
    model.train()
    assert not torch.equal(*(model(waveforms).hidden_states[-1] for _ in range(2)))
    model.eval()
    assert torch.equal(*(model(waveforms).hidden_states[-1] for _ in range(2)))
    dropping = WavLM(CONFIG.model_copy(update={"layer_drop": 0.999})).train()
    states = dropping(waveforms).hidden_states
    assert torch.equal(states[0], states[-1])


@pytest.mark.parametrize("attention", ["dense", "blockwise"])
def test_autocast_trains(attention: str) -> None:
    """Under bfloat16 autocast the states stay near float32's and all gradients are finite."""
    torch.manual_seed(0)
    model = WavLM(CONFIG, attention=attention).eval()
    waveforms = torch.randn(1, 9_000)
    exact = model(waveforms).hidden_states
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(waveforms).hidden_states
    for ours, reference in zip(rough, exact, strict=True):
        assert torch.cosine_similarity(ours.float(), reference, dim=-1).min() > 0.999
    rough[-1].float().square().sum().backward()
    for name, parameter in model.named_parameters():
        assert name == "mask_embedding" or parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_computes(model: WavLM, dtype: torch.dtype) -> None:
    """Without gradients autocast gives what float32 gives, but for its rounding."""
    wave = torch.randn(2, 9000)
    with torch.inference_mode():
        expected = model(wave).hidden_states[-1]
        with torch.autocast("cpu", dtype):
            found = model(wave).hidden_states[-1].float()
    assert torch.nn.functional.cosine_similarity(found, expected, dim=-1).min() > 0.99


def test_every_way_of_attention_gives_the_same_gradients() -> None:
    """Whatever attention is asked for, all parameters get the gradient of dense attention."""
    waveforms, lengths = torch.randn(2, 9_000), torch.tensor([9_000, 5_000])
    direction = torch.randn(27 + 15, 64)
    gradients = {}
    for attention in ("dense", "blockwise", "flex"):
        torch.manual_seed(0)
        model = WavLM(CONFIG, attention=attention).eval()
        states = model(waveforms, lengths).hidden_states[-1]
        (torch.cat([states[0], states[1, :15]]) * direction).sum().backward()
        named = model.named_parameters()
        gradients[attention] = {name: p.grad for name, p in named if p.grad is not None}
    assert len(gradients["dense"]) == len(list(model.parameters())) - 1  # no mask embedding
    for attention in ("blockwise", "flex"):
        for name, reference in gradients["dense"].items():
            error = (gradients[attention][name] - reference).norm()
            assert error < 1e-4 * reference.norm() + 1e-6, (attention, name)
