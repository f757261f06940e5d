"""A batch gives each utterance what it gets alone, with gradients and without, in any size."""

from itertools import product

import pytest
import torch
from torch import Tensor

from wavlm_meeting.wavlm import tiling
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

RELEASED = ((16, 10, 5), *((16, 3, 2),) * 4, *((16, 2, 2),) * 2)
WIDE = ((512, 400, 160), (48, 3, 2))
SIZES = {"width": 32, "layers": 2, "heads": 4, "ffn": 48, "position_kernel": 16}
SIZES |= {"position_groups": 4}
CONFIGS = [
    WavLMConfig(
        conv_layers=convs, frontend_norm=norm, pre_norm=pre, normalize_waveform=pre, **SIZES
    )
    for convs, (norm, pre) in product(
        (((64, 10, 5), *RELEASED[1:]), WIDE), (("group", False), ("layer", True), ("group", True))
    )
]
LENGTHS = [9_000, 16_000, 1_017, 13_219]


def spread_model(config: WavLMConfig, **options: str) -> WavLM:
    """Build a model in which every parameter matters: norms, gates and the bias table too."""
    torch.manual_seed(1)
    model = WavLM(config, **options).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, mean=0.1, std=0.3)
    return model


def draw_batch() -> tuple[Tensor, Tensor]:
    """Draw waveforms with an offset and of unequal level, garbage after their ends."""
    torch.manual_seed(2)
    waveforms = torch.randn(len(LENGTHS), max(LENGTHS)) * torch.tensor([[1.0], [0.1], [3], [1]])
    return waveforms + 0.2, torch.tensor(LENGTHS)


@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
@pytest.mark.parametrize("attention", ["dense", "blockwise"])
def test_exact_batch_equals_single(config: WavLMConfig, attention: str) -> None:
    """Every hidden state and frame count of each utterance, whatever stands in the padding."""
    model = spread_model(config, attention=attention)
    waveforms, lengths = draw_batch()
    with torch.no_grad():
        batch = model(waveforms, lengths)
        for index, length in enumerate(LENGTHS):
            alone = model(waveforms[index : index + 1, :length])
            frames = int(batch.frame_lengths[index])
            assert frames == config.frame_count(length) == alone.hidden_states[0].shape[1]
            for ours, single in zip(batch.hidden_states, alone.hidden_states, strict=True):
                torch.testing.assert_close(ours[index, :frames], single[0], atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("padding", ["exact", "legacy"])
@pytest.mark.parametrize("config", CONFIGS, ids=range(len(CONFIGS)))
def test_inference_equals_training_mode_arithmetic(
    config: WavLMConfig, padding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tiled frontend and the kept spectrum give what the differentiable path gives."""
    monkeypatch.setattr(tiling, "CPU_TILE", 7)
    model = spread_model(config, padding=padding)
    waveforms, lengths = draw_batch()
    slow = model(waveforms, lengths)
    with torch.no_grad():
        fast = model(waveforms, lengths)
    for index, frames in enumerate(fast.frame_lengths):
        for ours, theirs in zip(fast.hidden_states, slow.hidden_states, strict=True):
            torch.testing.assert_close(
                ours[index, :frames], theirs[index, :frames], atol=2e-4, rtol=1e-4
            )


@pytest.mark.parametrize("padding", ["exact", "legacy"])
@pytest.mark.parametrize("attention", ["dense", "blockwise"])
def test_gradients_reach_every_parameter(padding: str, attention: str) -> None:
    """All parameters but the mask embedding, which only pretraining uses, get finite gradients."""
    for config in CONFIGS[:2]:
        model = spread_model(config, padding=padding, attention=attention)
        output = model(*draw_batch())
        valid = torch.arange(output.hidden_states[0].shape[1]) < output.frame_lengths[:, None]
        sum(state[valid].square().mean() for state in output.hidden_states).backward()
        for name, parameter in model.named_parameters():
            if name == "mask_embedding" or (name.startswith("norm.") and parameter.grad is None):
                continue
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().max() > 0 or name.endswith("key.bias"), name


def test_padding_takes_no_gradient() -> None:
    """In "exact" nothing of an utterance depends on samples past its end."""
    model = spread_model(CONFIGS[0])
    waveforms, lengths = draw_batch()
    waveforms.requires_grad_()
    output = model(waveforms, lengths)
    output.hidden_states[-1][0, : output.frame_lengths[0]].sum().backward()
    assert waveforms.grad is not None
    assert waveforms.grad[0, : LENGTHS[0]].abs().max() > 0
    assert waveforms.grad[0, LENGTHS[0] :].abs().max() == 0
