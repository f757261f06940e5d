"""DiariZen's folders: whole and pruned models give what their own layout computes."""

import math
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from small_diarizen import BUCKETS, HEADS, INNER, PRUNED, WHOLE, WIDTH, draw_state, write_diarizen
from wavlm_meeting.checkpoints import diarizen
from wavlm_meeting.checkpoints.bundle import Bundle
from wavlm_meeting.checkpoints.conformer_head import (
    CONFORMER_CLASSIFIER,
    build_diarizen,
    parse_classifier,
)
from wavlm_meeting.checkpoints.diarizen import is_diarizen, read_diarizen
from wavlm_meeting.errors import CheckpointError, WavLMMeetingWarning
from wavlm_meeting.wavlm.config import RELEASED_CONV_LAYERS

# B batch, N samples, T frames, C channels, H heads, S local speakers
DISTANCE = 800
"""Frames from which on all keys share a bucket."""


class Reference:
    """DiariZen's layout computed plainly, straight from its parameters."""

    def __init__(
        self, state: Mapping[str, Tensor], kept: tuple[tuple[int, ...], ...], *, large: bool
    ) -> None:
        self.state, self.kept, self.large = state, kept, large

    def linear(self, name: str, x: Tensor) -> Tensor:
        """Run a linear layer."""
        return F.linear(x, self.state[f"{name}.weight"], self.state[f"{name}.bias"])

    def norm(self, name: str, x: Tensor) -> Tensor:
        """Run a LayerNorm."""
        return F.layer_norm(
            x, x.shape[-1:], self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        )

    def __call__(self, x: Tensor) -> Tensor:
        """Map (B, N) to log-probabilities (B, T, 11)."""
        states = torch.stack(self.hidden_states(x), dim=-1)
        x = (states @ self.state["weight_sum.weight"].T).squeeze(-1)
        x = self.norm("lnorm", self.linear("proj", x))
        for i in range(2):
            x = self.block(f"conformer.conformer_layer.{i}.", x)
        return self.linear("classifier", x).log_softmax(dim=-1)

    def hidden_states(self, x: Tensor) -> list[Tensor]:
        """Map (B, N) to the four inputs and outputs of layers (B, T, C)."""
        if self.large:
            x = F.layer_norm(x, x.shape[-1:])
        x = x[:, None]
        for i, (_, _, stride) in enumerate(RELEASED_CONV_LAYERS):
            name = f"wavlm_model.feature_extractor.conv_layers.{i}."
            x = F.conv1d(x, self.state[f"{name}conv.weight"], stride=stride)
            if self.large:
                x = self.norm(f"{name}layer_norm", x.mT).mT
            elif i == 0:
                weight, bias = (self.state[f"{name}layer_norm.{end}"] for end in ("weight", "bias"))
                x = F.group_norm(x, len(weight), weight, bias)
            x = F.gelu(x)
        x = x.mT * self.state["wavlm_model.feature_extractor.dummy_weight"]
        x = self.norm("wavlm_model.encoder.feature_projection.layer_norm", x)
        x = self.linear("wavlm_model.encoder.feature_projection.projection", x)
        start = "wavlm_model.encoder.transformer."
        conv = f"{start}pos_conv_embed.conv."
        gain, direction = (
            self.state[f"{conv}parametrizations.weight.original{n}"] for n in range(2)
        )
        weight = gain * direction / direction.norm(dim=(0, 1), keepdim=True)
        position = F.conv1d(x.mT, weight, self.state[f"{conv}bias"], padding=4, groups=4)
        x = x + F.gelu(position[..., :-1]).mT
        if not self.large:
            x = self.norm(f"{start}layer_norm", x)
        states = [x]
        for i, heads in enumerate(self.kept):
            x = self.layer(f"{start}layers.{i}.", x, heads)
            states.append(x)
        return states

    def layer(self, name: str, x: Tensor, heads: tuple[int, ...]) -> Tensor:
        """Run one Transformer layer, with the heads that it has."""
        if heads:
            inner = self.norm(f"{name}layer_norm", x) if self.large else x
            x = x + self.attention(f"{name}attention.", inner, heads)
        if not self.large:
            x = self.norm(f"{name}layer_norm", x)
        inner = self.norm(f"{name}final_layer_norm", x) if self.large else x
        hidden = F.gelu(self.linear(f"{name}feed_forward.intermediate_dense", inner))
        x = x + self.linear(f"{name}feed_forward.output_dense", hidden)
        return x if self.large else self.norm(f"{name}final_layer_norm", x)

    def attention(self, name: str, x: Tensor, heads: tuple[int, ...]) -> Tensor:
        """Attend with the gated position bias of the heads that are left."""
        B, T, _ = x.shape
        query, key, value = (
            self.linear(f"{name}{part}_proj", x).view(B, T, len(heads), -1).transpose(1, 2)
            for part in "qkv"
        )
        distance = torch.arange(T) - torch.arange(T)[:, None]
        exact = BUCKETS // 4
        far = exact + (
            (distance.abs().clamp(min=1) / exact).log() / math.log(DISTANCE / exact) * exact
        ).long().clamp(max=exact - 1)
        bucket = torch.where(distance.abs() < exact, distance.abs(), far)
        bucket = bucket + (distance > 0) * (BUCKETS // 2)
        table = self.state[
            "wavlm_model.encoder.transformer.layers.0.attention.rel_attn_embed.weight"
        ]
        bias = table[bucket].permute(2, 0, 1)  # (H, T, T)
        gates = self.linear(f"{name}gru_rel_pos_linear", x.view(B, T, HEADS, -1))
        a, b = gates.view(B, T, HEADS, 2, 4).sum(-1).sigmoid().permute(3, 0, 2, 1)[..., None]
        bias = (a * (b * self.state[f"{name}gru_rel_pos_const"] - 1) + 2) * bias
        scores = query @ key.mT / math.sqrt(WIDTH // HEADS) + bias[:, list(heads)]
        mixed = (scores.softmax(dim=-1) @ value).transpose(1, 2).reshape(B, T, -1)
        return self.linear(f"{name}out_proj", mixed)

    def block(self, name: str, x: Tensor) -> Tensor:
        """Run one Conformer block."""
        B, T, C = x.shape
        x = x + 0.5 * self.step(f"{name}ffn1.", x)
        y = self.norm(f"{name}mha.ln_norm", x)
        query, key, value = (
            self.linear(f"{name}mha.mha.linear{part}", y).view(B, T, 2, -1).transpose(1, 2)
            for part in "QKV"
        )
        mixed = (query @ key.mT / math.sqrt(C // 2)).softmax(dim=-1) @ value
        x = x + self.linear(f"{name}mha.mha.linearO", mixed.transpose(1, 2).reshape(B, T, C))
        y = self.norm(f"{name}conv.ln_norm", x).mT
        y = F.glu(self.conv(f"{name}conv.pointwise_conv1", y), dim=1)
        y = self.conv(f"{name}conv.depthwise_conv", y, padding=15, groups=C)
        mean, variance, weight, bias = (
            self.state[f"{name}conv.bn_norm.{end}"][:, None]
            for end in ("running_mean", "running_var", "weight", "bias")
        )
        y = F.silu((y - mean) / (variance + 1e-5).sqrt() * weight + bias)
        x = x + self.conv(f"{name}conv.pointwise_conv2", y).mT
        x = x + 0.5 * self.step(f"{name}ffn2.", x)
        return self.norm(f"{name}ln_norm", x)

    def step(self, name: str, x: Tensor) -> Tensor:
        """Run a feed-forward part of a block."""
        hidden = self.linear(f"{name}w_1", self.norm(f"{name}ln_norm", x))
        return self.linear(f"{name}w_2", F.silu(hidden))

    def conv(self, name: str, x: Tensor, padding: int = 0, groups: int = 1) -> Tensor:
        """Run a convolution over (B, C, T)."""
        weight, bias = self.state[f"{name}.weight"], self.state[f"{name}.bias"]
        return F.conv1d(x, weight, bias, padding=padding, groups=groups)


def log_probabilities(model: Bundle, waveforms: Tensor) -> Tensor:
    """Run a model that was read as our classes do."""
    numbers = parse_classifier(model.card.heads[CONFORMER_CLASSIFIER], "test")
    encoder, head = build_diarizen(model, numbers, torch.zeros(11, 4))
    return head(encoder(waveforms).hidden_states)


@pytest.mark.parametrize("large", [False, True], ids=["base", "large"])
@pytest.mark.parametrize("pruned", [False, True], ids=["whole", "pruned"])
def test_outputs_are_those_of_the_layout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, pruned: bool, large: bool
) -> None:
    """Whatever was pruned, the loaded model computes what the folder's parameters say."""
    kept = PRUNED if pruned else WHOLE
    monkeypatch.setitem(diarizen._PRUNED_HEADS, "small", PRUNED)
    state = draw_state(kept, large=large)
    folder = write_diarizen(tmp_path / "model", state, "small")
    assert is_diarizen(folder)
    with pytest.warns(WavLMMeetingWarning, match="CC-BY-NC-4.0"):
        model = read_diarizen(folder)
    numbers = model.card.heads[CONFORMER_CLASSIFIER]
    assert (numbers["window_s"], numbers["hop_s"]) == (4.0, 1.0)
    waveforms = torch.randn(2, 32_000, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        expected = Reference(state, kept, large=large)(waveforms)
        found = log_probabilities(model, waveforms)
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert expected.std() > 0.1
    # Nothing but a head for the layer without any, and its gate, is there beside what was pruned.
    sizes = model.card.encoder
    assert sizes.layer_heads == tuple(own or (0,) for own in kept)
    assert sizes.layer_ffn == INNER


def test_the_released_prunings_have_their_sizes() -> None:
    """Each table has a row for each layer, of heads that there are."""
    for name, layers, heads in (("wavlm_base_s80_md", 12, 12), ("wavlm_large_s80_md", 24, 16)):
        rows = diarizen._PRUNED_HEADS[name]
        assert len(rows) == layers
        assert all(list(row) == sorted({*row} & {*range(heads)}) for row in rows)


@pytest.mark.parametrize(
    ("mistake", "says"),
    [
        ("unknown pruning", "which 2 of 4 heads layer 0 has kept is not known"),
        ("old layout", "since 2025"),
        ("positions", "'use_posi' is True; only false"),
        ("classes", "has 11 classes, but 3 speakers with 2 at once make 7"),
        ("left over", "1 parameter unknown (something)"),
        ("no weights", "pytorch_model.bin: no such file"),
        ("half a layer", "missing (encoder.transformer.layers.0.attention.v_proj.bias)"),
        ("other sizes", "'encoder.transformer.layers.0.attention.v_proj.weight' has the shape"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, mistake: str, says: str) -> None:
    """A model that would not compute what it was trained for is refused in one line."""
    kept = PRUNED if mistake == "unknown pruning" else WHOLE
    state = draw_state(kept, large=False)
    if mistake == "old layout":
        del state["wavlm_model.feature_extractor.dummy_weight"]
    if mistake == "left over":
        state["something"] = torch.zeros(1)
    if mistake == "half a layer":
        del state["wavlm_model.encoder.transformer.layers.0.attention.v_proj.bias"]
    if mistake == "other sizes":
        name = "wavlm_model.encoder.transformer.layers.0.attention.v_proj.weight"
        state[name] = state[name][:8]
    folder = write_diarizen(tmp_path / "model", state, "elsewhere.bin")
    text = (folder / "config.toml").read_text()
    if mistake == "positions":
        (folder / "config.toml").write_text(text.replace("use_posi = false", "use_posi = true"))
    if mistake == "classes":
        (folder / "config.toml").write_text(text.replace("per_chunk = 4", "per_chunk = 3"))
    if mistake == "no weights":
        (folder / "pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError) as error:
        read_diarizen(folder)
    assert says in str(error.value)
    assert "\n" not in str(error.value)
