"""Hidden states equal those of the released code, on its own miniatures."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

RENAMES = (
    (r"^mask_emb$", "mask_embedding"),
    (r"^feature_extractor\.conv_layers\.(\d+)\.0\.", r"frontend.layers.\1.conv."),
    (r"^feature_extractor\.conv_layers\.(\d+)\.2(\.1)?\.", r"frontend.layers.\1.norm."),
    (r"^layer_norm\.", "projection.norm."),
    (r"^post_extract_proj\.", "projection.linear."),
    (r"^encoder\.pos_conv\.0\.", "position."),
    (r"^encoder\.layers\.0\.self_attn\.relative_attention_bias\.", "bias_table."),
    (r"^encoder\.layer_norm\.", "norm."),
    (r"^encoder\.layers\.", "layers."),
    (r"\.self_attn\.grep_a$", ".attention.gate_scale"),
    (r"\.self_attn\.grep_linear\.", ".attention.gate."),
    (r"\.self_attn\.q_proj\.", ".attention.query."),
    (r"\.self_attn\.k_proj\.", ".attention.key."),
    (r"\.self_attn\.v_proj\.", ".attention.value."),
    (r"\.self_attn\.out_proj\.", ".attention.output."),
    (r"\.self_attn_layer_norm\.", ".attention_norm."),
    (r"\.fc1\.", ".ffn.up."),
    (r"\.fc2\.", ".ffn.down."),
    (r"\.final_layer_norm\.", ".ffn_norm."),
)


def load_golden(folder: Path, size: str, padding: str) -> tuple[WavLM, dict[str, Tensor]]:
    """Build the miniature with our names, and read the released code's outputs for it."""
    stored = torch.load(folder / f"wavlm_{size}_tiny.pt", weights_only=True)
    cfg = stored["cfg"]
    channels = stored["model"]["feature_extractor.conv_layers.0.0.weight"].shape[0]
    kernels = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))
    config = WavLMConfig(
        conv_layers=tuple((channels, kernel, stride) for kernel, stride in kernels),
        frontend_norm="group" if cfg["extractor_mode"] == "default" else "layer",
        normalize_waveform=cfg["normalize"],
        width=cfg["encoder_embed_dim"],
        layers=cfg["encoder_layers"],
        heads=cfg["encoder_attention_heads"],
        ffn=cfg["encoder_ffn_embed_dim"],
        pre_norm=cfg["layer_norm_first"],
    )
    state = {}
    for their_name, tensor in stored["model"].items():
        name = their_name
        for pattern, replacement in RENAMES:
            name = re.sub(pattern, replacement, name)
        state[name] = tensor.flatten() if name.endswith("gate_scale") else tensor
    model = WavLM(config, padding=padding).eval()
    model.load_state_dict(state)
    with np.load(folder / f"wavlm_{size}_tiny.npz") as arrays:
        return model, {name: torch.from_numpy(arrays[name]) for name in arrays}


def relative_error(ours: Tensor, golden: Tensor) -> float:
    """Return the largest difference as a share of the golden values' RMS."""
    return float((ours - golden).abs().max() / golden.square().mean().sqrt())


@pytest.mark.parametrize("padding", ["exact", "legacy"])
@pytest.mark.parametrize("size", ["base", "large"])
def test_single_utterance_equals_released_code(shared_dir: Path, size: str, padding: str) -> None:
    """Every hidden state of a lone utterance is the released code's, in both paddings."""
    model, golden = load_golden(shared_dir / "golden", size, padding)
    with torch.no_grad():
        output = model(golden["wav0"][None])
    assert len(output.hidden_states) == len(golden["single"])
    for ours, theirs in zip(output.hidden_states, golden["single"], strict=True):
        assert relative_error(ours, theirs) < 1e-4


@pytest.mark.parametrize("size", ["base", "large"])
def test_batch_equals_released_code_in_legacy(shared_dir: Path, size: str) -> None:
    """A padded batch gives the released code's valid frames, their number included."""
    model, golden = load_golden(shared_dir / "golden", size, "legacy")
    lengths = torch.tensor([len(golden["wav0"]), len(golden["wav1"])])
    waveforms = torch.nn.utils.rnn.pad_sequence([golden["wav0"], golden["wav1"]], batch_first=True)
    with torch.no_grad():
        output = model(waveforms, lengths)
    valid = ~golden["frame_padding"]
    assert output.frame_lengths.tolist() == valid.sum(dim=1).tolist()
    for ours, theirs in zip(output.hidden_states, golden["batch"], strict=True):
        assert relative_error(ours[valid], theirs[valid]) < 1e-4


@pytest.mark.parametrize("size", ["base", "large"])
def test_long_input_equals_released_code(shared_dir: Path, size: str) -> None:
    """Frames farther apart than the bias table reaches share its outermost bucket."""
    model, golden = load_golden(shared_dir / "golden", size, "exact")
    with torch.no_grad():
        states = model(golden["wav_long"][None]).hidden_states
    assert relative_error(states[1], golden["long_first"]) < 1e-4
    assert relative_error(states[-1], golden["long_last"]) < 1e-4


@pytest.mark.parametrize("size", ["base", "large"])
def test_bfloat16_stays_close_to_released_code(shared_dir: Path, size: str) -> None:
    """In bfloat16 every hidden state has a cosine above 0.999 to the released code's float32."""
    model, golden = load_golden(shared_dir / "golden", size, "exact")
    with torch.no_grad():
        states = model.to(torch.bfloat16)(golden["wav0"][None]).hidden_states
    for ours, theirs in zip(states, golden["single"], strict=True):
        pair = (ours.double().flatten(), theirs.double().flatten())
        assert torch.cosine_similarity(*pair, dim=0) > 0.999
