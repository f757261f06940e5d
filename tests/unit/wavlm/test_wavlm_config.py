"""Sizes of the encoder: the released ones, and those that cannot be."""

import pytest
import torch

from wavlm_meeting.config import parse_settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.wavlm.config import PRESETS, WavLMConfig
from wavlm_meeting.wavlm.model import WavLM


@pytest.mark.parametrize(("name", "millions"), [("base", 94.38), ("large", 315.45)])
def test_presets_have_the_published_sizes(name: str, millions: float) -> None:
    """The number of parameters is that of the released models."""
    with torch.device("meta"):
        model = WavLM(PRESETS[name])
    count = sum(parameter.numel() for parameter in model.parameters())
    assert round(count / 1e6, 2) == millions


def test_released_frontend_has_20_ms_hop_and_25_ms_receptive_field() -> None:
    """Frames are counted as the convolutions make them."""
    config = PRESETS["base"]
    assert (config.hop, config.receptive_field) == (320, 400)
    assert [config.frame_count(n) for n in (0, 399, 400, 719, 720, 48_000)] == [0, 0, 1, 1, 2, 149]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"width": 100, "heads": 3}, "heads"),
        ({"width": 100, "heads": 4}, "groups"),
        ({"bias_max_distance": 80}, "bias_max_distance"),
        ({"conv_layers": [[512, 0, 5]]}, "conv_layers"),
        ({"layers": 2, "layer_heads": [[0]]}, "layer_heads is of 1 layers, and there are 2"),
        ({"layers": 2, "layer_heads": [[0], []]}, r"layer_heads holds \[\]"),
        ({"layers": 1, "layer_heads": [[0, 12]]}, r"layer_heads holds \[0, 12\]"),
        ({"layers": 1, "layer_heads": [[2, 1]]}, "rising"),
        ({"layers": 2, "layer_ffn": [8]}, "layer_ffn is of 1 layers"),
        ({"layers": 2, "layer_ffn": [8, 0]}, "layer_ffn holds a size below 1"),
        ({"widht": 768}, "did you mean 'width'"),
    ],
)
def test_impossible_sizes_are_refused(wrong: dict[str, object], said: str) -> None:
    """A config that cannot be built is an error that names the setting."""
    with pytest.raises(SettingsError, match=said):
        parse_settings(wrong, WavLMConfig, "card.toml")
