"""What torchaudio's WavLM models compute, ours compute from their state dictionaries."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from wavlm_meeting.checkpoints import load_encoder
from wavlm_meeting.checkpoints.formats import read_model
from wavlm_meeting.checkpoints.skeleton import NoInitialValues
from wavlm_meeting.errors import CheckpointError

try:
    from torchaudio.models import wavlm_base, wavlm_large, wavlm_model
except (ImportError, OSError) as error:  # compiled against another build of torch
    pytest.skip(f"parity is asked of torchaudio: {error}", allow_module_level=True)

TOLERANCE = 1e-4
"""Relative, by the largest value: what float32 allows."""
KERNELS = ((10, 5), (3, 2), (3, 2), (3, 2), (3, 2), (2, 2), (2, 2))


def small(
    mode: str, kernels: tuple[tuple[int, int], ...] = KERNELS, **changes: object
) -> nn.Module:
    """Make a small model of torchaudio with every parameter drawn at random."""
    torch.manual_seed(3)
    sizes = {
        "extractor_mode": mode,
        "extractor_conv_layer_config": [(24, *kernel) for kernel in kernels],
        "extractor_conv_bias": False,
        "encoder_embed_dim": 48,
        "encoder_projection_dropout": 0.0,
        "encoder_pos_conv_kernel": 32,
        "encoder_pos_conv_groups": 4,
        "encoder_num_layers": 3,
        "encoder_num_heads": 4,
        "encoder_num_buckets": 320,
        "encoder_max_distance": 800,
        "encoder_attention_dropout": 0.0,
        "encoder_ff_interm_features": 96,
        "encoder_ff_interm_dropout": 0.0,
        "encoder_dropout": 0.0,
        "encoder_layer_norm_first": mode == "layer_norm",
        "encoder_layer_drop": 0.0,
        "aux_num_out": None,
    }
    model = wavlm_model(**(sizes | changes))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def full(build: Callable[[], nn.Module]) -> nn.Module:
    """Make a model of a released size from a little noise: drawing its own values takes long."""
    with NoInitialValues():
        model = build()
    torch.manual_seed(3)
    noise = 0.05 * torch.randn(1_000_003)
    with torch.no_grad():
        for parameter in model.parameters():
            values = noise.repeat(-(-parameter.numel() // len(noise)))[: parameter.numel()]
            parameter.copy_(values.view_as(parameter) + (parameter.ndim == 1))
    return model


@pytest.mark.parametrize(
    "build",
    [
        pytest.param(lambda: small("group_norm"), id="small-base"),
        pytest.param(lambda: small("layer_norm"), id="small-large"),
        pytest.param(lambda: full(wavlm_base), id="wavlm_base"),
        pytest.param(lambda: full(wavlm_large), id="wavlm_large"),
    ],
)
@torch.inference_mode()
def test_every_layer(tmp_path: Path, build: Callable[[], nn.Module]) -> None:
    """Every layer's output is that of torchaudio; Large's last one passes the final norm here."""
    model = build().eval()
    torch.save(model.state_dict(), tmp_path / "model.pt")
    # Of zero mean and unit variance, since Large normalises and torchaudio leaves that to the user.
    wave = torch.nn.functional.layer_norm(torch.randn(1, 8_000), (8_000,))
    states = load_encoder(tmp_path / "model.pt")(wave).hidden_states
    (tmp_path / "model.pt").unlink()  # pytest keeps the folder, and Large has 1.3 GB
    layers, _ = model.extract_features(wave)
    output, _ = model(wave)
    assert len(states) == len(layers) + 1
    for ours, theirs in zip(states[1:], [*layers[:-1], output], strict=True):
        assert (ours - theirs).abs().max() <= TOLERANCE * theirs.abs().max()


def test_output_layer_is_kept(tmp_path: Path) -> None:
    """The linear layer that torchaudio calls `aux` becomes the part `ctc`."""
    model = small("group_norm", aux_num_out=7)
    torch.save(model.state_dict(), tmp_path / "model.pt")
    found = read_model(tmp_path / "model.pt")
    assert found.card.heads == {"ctc": {"classes": 7}}
    assert torch.equal(found.state["ctc"]["output.weight"], model.aux.weight)
    assert torch.equal(found.state["ctc"]["output.bias"], model.aux.bias)


def test_unknown_strides_are_not_guessed(tmp_path: Path) -> None:
    """A frontend of other kernels is refused: the state does not hold its strides."""
    model = small("group_norm", kernels=((12, 6), *KERNELS[1:]))
    torch.save(model.state_dict(), tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="does not tell the strides"):
        load_encoder(tmp_path / "model.pt")


def test_missing_parameter_is_named(tmp_path: Path) -> None:
    """A state dictionary without one of its parameters is refused, and the parameter named."""
    state = small("group_norm").state_dict()
    del state["encoder.transformer.layers.1.layer_norm.bias"]
    torch.save(state, tmp_path / "model.pt")
    with pytest.raises(
        CheckpointError, match=r"1 parameter missing \(encoder.*1\.layer_norm\.bias"
    ):
        load_encoder(tmp_path / "model.pt")
