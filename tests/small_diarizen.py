"""Small models with random weights in DiariZen's layout."""

import math
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from wavlm_meeting.wavlm.config import RELEASED_CONV_LAYERS

WIDTH, HEADS, BUCKETS, HIDDEN = 32, 4, 320, 16
WHOLE = ((0, 1, 2, 3),) * 3
"""Heads of each layer of a whole model."""
PRUNED = ((0, 2), (), (3,))
"""Heads that each layer of a pruned model has kept; the second has no attention at all."""
INNER = (24, 10, 17)
"""Channels of each layer's feed-forward part."""
CONFIG = """
[model]
path = "diarizen.models.eend.model_wavlm_conformer.Model"
[model.args]
wavlm_src = "{source}"
wavlm_layer_num = 4
attention_in = 16
ffn_hidden = 20
num_head = 2
num_layer = 2
use_posi = false
output_activate_function = false
chunk_size = 8
max_speakers_per_chunk = 4
max_speakers_per_frame = 2
[inference.args]
seg_duration = 4
segmentation_step = 0.25
"""


class Drawing:
    """A state dictionary that grows by modules."""

    def __init__(self) -> None:
        self.state: dict[str, Tensor] = {}
        self.generator = torch.Generator().manual_seed(5)

    def tensor(self, name: str, *shape: int) -> None:
        """Draw one parameter."""
        self.state[name] = torch.randn(shape, generator=self.generator) / math.sqrt(shape[-1])

    def positive(self, name: str, size: int) -> None:
        """Draw numbers from 0.5 to 1.5."""
        self.state[name] = 0.5 + torch.rand(size, generator=self.generator)

    def linear(self, name: str, *shape: int) -> None:
        """Draw a linear layer or a convolution, with its bias."""
        self.tensor(f"{name}.weight", *shape)
        self.tensor(f"{name}.bias", shape[0])

    def norm(self, name: str, size: int) -> None:
        """Draw a norm."""
        self.positive(f"{name}.weight", size)
        self.tensor(f"{name}.bias", size)


def draw_state(kept: tuple[tuple[int, ...], ...], *, large: bool) -> dict[str, Tensor]:
    """Draw a state dictionary of a WavLM with these heads and DiariZen's head."""
    drawing = Drawing()
    _draw_frontend(drawing, large=large)
    for number, (heads, inner) in enumerate(zip(kept, INNER, strict=True)):
        _draw_layer(drawing, number, len(heads), inner)
    drawing.tensor("weight_sum.weight", 1, len(kept) + 1)
    drawing.linear("proj", HIDDEN, WIDTH)
    drawing.norm("lnorm", HIDDEN)
    for number in range(2):
        _draw_block(drawing, f"conformer.conformer_layer.{number}.")
    drawing.linear("classifier", 11, HIDDEN)
    return drawing.state


def _draw_frontend(drawing: Drawing, *, large: bool) -> None:
    """Draw what lies below the layers."""
    extractor, transformer = "wavlm_model.feature_extractor.", "wavlm_model.encoder.transformer."
    channels = 1
    for i, (_, kernel, _) in enumerate(RELEASED_CONV_LAYERS):
        drawing.tensor(f"{extractor}conv_layers.{i}.conv.weight", 6 + i, channels, kernel)
        channels = 6 + i
        if large or i == 0:
            drawing.norm(f"{extractor}conv_layers.{i}.layer_norm", channels)
    drawing.positive(f"{extractor}dummy_weight", channels)
    drawing.norm("wavlm_model.encoder.feature_projection.layer_norm", channels)
    drawing.linear("wavlm_model.encoder.feature_projection.projection", WIDTH, channels)
    weight = f"{transformer}pos_conv_embed.conv.parametrizations.weight"
    drawing.tensor(f"{weight}.original0", 1, 1, 8)
    drawing.tensor(f"{weight}.original1", WIDTH, WIDTH // 4, 8)
    drawing.tensor(f"{transformer}pos_conv_embed.conv.bias", WIDTH)
    drawing.norm(f"{transformer}layer_norm", WIDTH)
    drawing.tensor(f"{transformer}layers.0.attention.rel_attn_embed.weight", BUCKETS, HEADS)


def _draw_layer(drawing: Drawing, number: int, heads: int, inner: int) -> None:
    """Draw a Transformer layer with this many heads and inner channels."""
    layer, rows = f"wavlm_model.encoder.transformer.layers.{number}.", heads * WIDTH // HEADS
    if heads:
        for name in ("q_proj", "k_proj", "v_proj"):
            drawing.linear(f"{layer}attention.{name}", rows, WIDTH)
        drawing.linear(f"{layer}attention.out_proj", WIDTH, rows)
        drawing.linear(f"{layer}attention.gru_rel_pos_linear", 8, WIDTH // HEADS)
        drawing.tensor(f"{layer}attention.gru_rel_pos_const", 1, HEADS, 1, 1)
    drawing.linear(f"{layer}feed_forward.intermediate_dense", inner, WIDTH)
    drawing.linear(f"{layer}feed_forward.output_dense", WIDTH, inner)
    drawing.norm(f"{layer}layer_norm", WIDTH)
    drawing.norm(f"{layer}final_layer_norm", WIDTH)


def _draw_block(drawing: Drawing, block: str) -> None:
    """Draw a block of the Conformer."""
    for part in ("ffn1", "ffn2"):
        drawing.norm(f"{block}{part}.ln_norm", HIDDEN)
        drawing.linear(f"{block}{part}.w_1", 20, HIDDEN)
        drawing.linear(f"{block}{part}.w_2", HIDDEN, 20)
    drawing.norm(f"{block}mha.ln_norm", HIDDEN)
    for name in "QKVO":
        drawing.linear(f"{block}mha.mha.linear{name}", HIDDEN, HIDDEN)
    drawing.norm(f"{block}conv.ln_norm", HIDDEN)
    drawing.linear(f"{block}conv.pointwise_conv1", 2 * HIDDEN, HIDDEN, 1)
    drawing.linear(f"{block}conv.depthwise_conv", HIDDEN, 1, 31)
    drawing.linear(f"{block}conv.pointwise_conv2", HIDDEN, HIDDEN, 1)
    drawing.norm(f"{block}conv.bn_norm", HIDDEN)
    drawing.tensor(f"{block}conv.bn_norm.running_mean", HIDDEN)
    drawing.positive(f"{block}conv.bn_norm.running_var", HIDDEN)
    drawing.state[f"{block}conv.bn_norm.num_batches_tracked"] = torch.tensor(7)
    drawing.norm(f"{block}ln_norm", HIDDEN)


def write_diarizen(folder: Path, state: Mapping[str, Tensor], source: str = "wavlm_base") -> Path:
    """Lay a model out as DiariZen does."""
    folder.mkdir()
    (folder / "config.toml").write_text(CONFIG.format(source=source))
    torch.save(dict(state), folder / "pytorch_model.bin")
    return folder
