"""Counted operations are those that run, here and in transformers."""

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from transformers import WavLMConfig as TheirConfig
from transformers import WavLMModel

from wavlm_meeting.wavlm.config import BASE, LARGE, WavLMConfig
from wavlm_meeting.wavlm.flops import encoder_flops
from wavlm_meeting.wavlm.frontend import Frontend
from wavlm_meeting.wavlm.model import WavLM
from wavlm_meeting.wavlm.position import PositionalConv

GROUP = WavLMConfig(
    conv_layers=((32, 10, 5), (32, 8, 8), (48, 8, 8)),
    width=64,
    layers=3,
    heads=4,
    ffn=96,
    position_kernel=16,
    position_groups=4,
)
LAYER = GROUP.model_copy(update={"frontend_norm": "layer", "pre_norm": True})
PRUNED = GROUP.model_copy(
    update={"layer_heads": ((0, 2), (1,), (0, 1, 3)), "layer_ffn": (17, 96, 5)}
)
NO_BIAS = GROUP.model_copy(update={"position_bias": "none"})
CONFIGS = {"group": GROUP, "layer": LAYER, "no bias": NO_BIAS, "pruned": PRUNED}
SAMPLES = 16_000


@pytest.fixture(autouse=True)
def plain_frontend(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compute the frontend as a GPU does: PyTorch cannot count the CPU's own way."""
    monkeypatch.setattr(Frontend, "folds", lambda _: False)


def counted(model: nn.Module, *inputs: Tensor, backward: bool) -> dict[str, int]:
    """Count a model's operations by module: forward, or forward and backward."""
    with FlopCounterMode(display=False) as counter:
        output = model(*inputs)
        if backward:
            last = output.hidden_states[-1] if isinstance(model, WavLM) else output
            last.square().mean().backward()
    return {name: sum(by_kind.values()) for name, by_kind in counter.get_flop_counts().items()}


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
def test_forward(config: WavLMConfig) -> None:
    """Every part's operations are exactly those of our dense path.

    The positional convolution runs by FFT on a CPU, and is counted by itself below.
    """
    model = WavLM(config, attention="dense").train()
    found = counted(model, torch.randn(1, SAMPLES), backward=False)
    ours = encoder_flops(config, SAMPLES)
    parts = {
        "WavLM.frontend.layers.0": ours.first_convolution,
        "WavLM.frontend": ours.first_convolution + ours.convolutions,
        "WavLM.projection": ours.projection,
    }
    assert {name: found[name] for name in parts} == parts
    for part, expected in (
        ("attention", ours.attention_projections + ours.attention_products),
        ("ffn", ours.feed_forward),
    ):
        assert sum(found[f"WavLM.layers.{n}.{part}"] for n in range(config.layers)) == expected
    assert ours.total - ours.position == found["WavLM"] - found["WavLM.position"]


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS)
@pytest.mark.parametrize("recompute", [False, True])
def test_training(config: WavLMConfig, recompute: bool) -> None:
    """Forward and backward take exactly what is counted, also where layers run twice."""
    model = WavLM(config, attention="dense").train()
    model.recompute = recompute
    found = counted(model, torch.randn(1, SAMPLES), backward=True)
    ours = encoder_flops(config, SAMPLES)
    # By FFT, with a spectrum that is a product itself, the convolution is counted in other ways.
    x = torch.randn(1, config.frame_count(SAMPLES), config.width, requires_grad=True)
    position = counted(model.position, x, backward=True)["Global"]
    assert found["Global"] - position == ours.training(recompute=recompute) - 3 * ours.position


def test_positional_convolution() -> None:
    """Computed directly, the convolution takes what is counted, but for the frame it drops."""
    with torch.device("meta"):
        conv, x = PositionalConv(64, 16, 4), torch.randn(1, 50, 64)
    ours = encoder_flops(GROUP, SAMPLES).position // GROUP.frame_count(SAMPLES)
    assert counted(conv, x, backward=False)["PositionalConv"] == 51 * ours


@pytest.mark.parametrize("config", [BASE, LARGE], ids=["base", "large"])
def test_transformers_takes_as_many(config: WavLMConfig) -> None:
    """Within one per mille, transformers' encoder takes what is counted; its gate is wider."""
    with torch.device("meta"):
        theirs = WavLMModel(
            TheirConfig(
                feat_extract_norm=config.frontend_norm,
                hidden_size=config.width,
                num_hidden_layers=config.layers,
                num_attention_heads=config.heads,
                intermediate_size=config.ffn,
                do_stable_layer_norm=config.pre_norm,
            )
        ).eval()
        with FlopCounterMode(display=False) as counter:
            theirs(torch.randn(1, 3 * SAMPLES))
    ours = encoder_flops(config, 3 * SAMPLES).total
    assert counter.get_total_flops() == pytest.approx(ours, rel=1e-3)
