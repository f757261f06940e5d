"""Sizes and switches of a WavLM encoder, and some sizes by name."""

from math import prod
from typing import Literal, Self

from pydantic import Field, model_validator

from wavlm_meeting.config import Settings

RELEASED_CONV_LAYERS = (
    (512, 10, 5),
    (512, 3, 2),
    (512, 3, 2),
    (512, 3, 2),
    (512, 3, 2),
    (512, 2, 2),
    (512, 2, 2),
)
"""Frontend of all released models: 20 ms hop, 25 ms receptive field."""


class WavLMConfig(Settings):
    """Architecture of one WavLM encoder (arXiv 2110.13900, section IV; released code)."""

    conv_layers: tuple[tuple[int, int, int], ...] = Field(RELEASED_CONV_LAYERS, min_length=1)
    """Channels, kernel and stride of each convolution of the frontend, first to last."""
    frontend_norm: Literal["group", "layer"] = "group"
    """"group": GroupNorm over time after the first convolution; "layer": LayerNorm after each."""
    normalize_waveform: bool = False
    """Whether each waveform is brought to zero mean and unit variance first."""
    width: int = Field(768, ge=1)
    """Channels of the hidden states."""
    layers: int = Field(12, ge=1)
    """Transformer layers."""
    heads: int = Field(12, ge=1)
    """Attention heads of each layer, before any are pruned."""
    ffn: int = Field(3072, ge=1)
    """Inner width of the feed-forward part, before any of it is pruned."""
    layer_heads: tuple[tuple[int, ...], ...] | None = None
    """Which of the heads, from 0, each layer of a pruned encoder has kept; without it, all."""
    layer_ffn: tuple[int, ...] | None = None
    """Inner width of each layer's feed-forward part in a pruned encoder; without it, `ffn`."""
    pre_norm: bool = False
    """LayerNorm before each part and after the last layer (Large), or after each part (Base)."""
    position_kernel: int = Field(128, ge=1)
    """Frames that the positional convolution sees."""
    position_groups: int = Field(16, ge=1)
    """Groups of the positional convolution."""
    position_bias: Literal["gated", "plain", "none"] = "gated"
    """Relative position bias of the attention: WavLM's gated one, T5's without a gate, or none, as
    in HuBERT."""
    bias_buckets: int = Field(320, ge=4)
    """Buckets of the relative position bias, both directions together."""
    bias_max_distance: int = Field(800, ge=2)
    """Distance in frames from which on all keys share the outermost bucket."""
    dropout: float = Field(0.1, ge=0.0, lt=1.0)
    """Dropout on the encoder's input and on both parts of each layer (training only)."""
    attention_dropout: float = Field(0.1, ge=0.0, lt=1.0)
    """Dropout on the attention weights (training only)."""
    activation_dropout: float = Field(0.0, ge=0.0, lt=1.0)
    """Dropout inside the feed-forward part (training only)."""
    layer_drop: float = Field(0.0, ge=0.0, lt=1.0)
    """Probability of leaving a layer out (training only; 0.05 in the released Base)."""

    @model_validator(mode="after")
    def _sizes_fit(self) -> Self:
        if self.width % self.heads:
            message = f"width {self.width} is not a multiple of heads {self.heads}"
            raise ValueError(message)
        if self.width % self.position_groups:
            message = f"width {self.width} is not a multiple of groups {self.position_groups}"
            raise ValueError(message)
        if self.bias_max_distance <= self.bias_buckets // 4:
            message = f"bias_max_distance must exceed bias_buckets / 4 = {self.bias_buckets // 4}"
            raise ValueError(message)
        if any(size < 1 for layer in self.conv_layers for size in layer):
            message = "conv_layers holds a size below 1"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _pruning_fits(self) -> Self:
        for name, rows in (("layer_heads", self.layer_heads), ("layer_ffn", self.layer_ffn)):
            if rows is not None and len(rows) != self.layers:
                message = f"{name} is of {len(rows)} layers, and there are {self.layers}"
                raise ValueError(message)
        for row in self.layer_heads or ():
            if not row or list(row) != sorted({*row} & {*range(self.heads)}):
                message = (
                    f"layer_heads holds {list(row)}; give one or more of 0 .. {self.heads - 1}, "
                    "rising"
                )
                raise ValueError(message)
        if min(self.layer_ffn or (1,)) < 1:
            message = "layer_ffn holds a size below 1"
            raise ValueError(message)
        return self

    @property
    def head_width(self) -> int:
        """Channels of one head."""
        return self.width // self.heads

    @property
    def pruned(self) -> bool:
        """Whether layers may differ from each other."""
        return self.layer_heads is not None or self.layer_ffn is not None

    def heads_of(self, layer: int) -> tuple[int, ...]:
        """Return which heads a layer has."""
        return tuple(range(self.heads)) if self.layer_heads is None else self.layer_heads[layer]

    def ffn_of(self, layer: int) -> int:
        """Return the inner width of a layer's feed-forward part."""
        return self.ffn if self.layer_ffn is None else self.layer_ffn[layer]

    @property
    def hop(self) -> int:
        """Samples from one frame to the next."""
        return prod(stride for _, _, stride in self.conv_layers)

    @property
    def receptive_field(self) -> int:
        """Samples that one frame sees; a shorter waveform has no frame."""
        samples = 1
        for _, kernel, stride in reversed(self.conv_layers):
            samples = (samples - 1) * stride + kernel
        return samples

    def frame_count(self, samples: int) -> int:
        """Return how many frames `samples` samples give: 0 if there are too few for one."""
        return max(0, (samples - self.receptive_field) // self.hop + 1)


BASE = WavLMConfig(layer_drop=0.05)
BASE_PLUS = BASE
LARGE = WavLMConfig(
    frontend_norm="layer",
    normalize_waveform=True,
    width=1024,
    layers=24,
    heads=16,
    ffn=4096,
    pre_norm=True,
)

PRESETS = {"base": BASE, "base-plus": BASE_PLUS, "large": LARGE}
"""The released sizes by name."""
