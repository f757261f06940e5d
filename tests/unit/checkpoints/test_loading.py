"""Loaded modules are ready to run, where and as asked."""

from pathlib import Path

import pytest
import torch

import wavlm_meeting
from wavlm_meeting.checkpoints import load_encoder, load_frame_classifier, load_xvector
from wavlm_meeting.checkpoints.bundle import Bundle, write_bundle
from wavlm_meeting.checkpoints.catalog import embedded_models, resolve
from wavlm_meeting.errors import CheckpointError, DeviceError, SettingsError
from wavlm_meeting.wavlm.model import WavLM


@pytest.fixture
def bundle(tmp_path: Path, model: Bundle) -> Path:
    """Give a bundle on disk."""
    write_bundle(tmp_path / "small", model.state, model.card)
    return tmp_path / "small"


@torch.inference_mode()
def test_encoder_computes_what_was_saved(bundle: Path, model: Bundle) -> None:
    """The loaded encoder is in eval mode and gives what the saved one gave."""
    saved = WavLM(model.card.encoder).eval()
    saved.load_state_dict(model.state["encoder"])
    encoder = wavlm_meeting.load_encoder(bundle)
    assert not encoder.training
    wave = torch.randn(2, 1600)
    for ours, theirs in zip(encoder(wave).hidden_states, saved(wave).hidden_states, strict=True):
        assert torch.equal(ours, theirs)


def test_encoder_can_be_trained(bundle: Path) -> None:
    """Gradients reach every parameter that takes part, first to last."""
    encoder = load_encoder(bundle).train()
    encoder(torch.randn(1, 1600)).hidden_states[-1].square().mean().backward()
    without = {name for name, value in encoder.named_parameters() if value.grad is None}
    assert without == {"mask_embedding"}


@pytest.mark.parametrize("dtype", ["bfloat16", torch.float16])
@torch.inference_mode()
def test_half_precision(bundle: Path, dtype: str | torch.dtype) -> None:
    """A float32 waveform goes in; what comes out points the same way as in float32."""
    wave = torch.randn(1, 3200)
    exact = load_encoder(bundle)(wave).hidden_states
    for ours, theirs in zip(
        load_encoder(bundle, dtype=dtype)(wave).hidden_states, exact, strict=True
    ):
        assert torch.cosine_similarity(ours.float().flatten(), theirs.flatten(), dim=0) > 0.999


@torch.inference_mode()
def test_head_in_a_bundle(bundle: Path) -> None:
    """A bundle's frame classifier loads with its encoder."""
    encoder, head = load_frame_classifier(bundle)
    output = encoder(torch.randn(1, 1600))
    assert head(output.hidden_states).shape == (1, int(output.frame_lengths[0]), 3)
    assert not head.training


def test_head_that_is_not_there(bundle: Path) -> None:
    """A model without the head asked for says what it has."""
    with pytest.raises(
        CheckpointError, match="has no 'xvector'; its parts are 'encoder', 'frame_classifier'"
    ):
        load_xvector(bundle)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"weighted": True, "clases": 3}, "unknown key 'clases': did you mean 'classes'"),
        ({"weighted": False, "classes": 3}, r"1 parameter unknown \(mix\.weights\)"),
        ({"weighted": True, "classes": 4}, r"'classifier\.(weight|bias)' has the shape \(3"),
    ],
)
def test_head_that_is_not_as_described(
    tmp_path: Path, model: Bundle, numbers: dict[str, object], message: str
) -> None:
    """A card whose numbers are not those of its weights is refused."""
    card = model.card.model_copy(update={"heads": {"frame_classifier": numbers}})
    write_bundle(tmp_path / "small", model.state, card)
    with pytest.raises(CheckpointError, match=message):
        load_frame_classifier(tmp_path / "small")


def test_wrong_encoder_parameters(tmp_path: Path, model: Bundle) -> None:
    """A bundle with a parameter too few or too many names it."""
    del model.state["encoder"]["norm.bias"]
    model.state["encoder"]["norm.bais"] = torch.zeros(16)
    write_bundle(tmp_path / "small", model.state, model.card)
    with pytest.raises(
        CheckpointError,
        match=r"1 parameter missing \(norm\.bias\) and 1 parameter unknown \(norm\.bais\)",
    ):
        load_encoder(tmp_path / "small")


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), "auto"])
def test_devices(bundle: Path, device: str | torch.device) -> None:
    """Parameters are on the device that was asked for; "auto" takes a GPU if there is one."""
    place = next(load_encoder(bundle, device=device).parameters()).device.type
    assert place == ("cuda" if device == "auto" and torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("device", ["gpu", "meta", "cuda:99"])
def test_wrong_devices(bundle: Path, device: str) -> None:
    """A device that is unknown, of no use or not there is one line with the choices."""
    with pytest.raises(DeviceError, match=f"'{device}' .*choose auto"):
        load_encoder(bundle, device=device)


@pytest.mark.skipif(torch.cuda.is_available(), reason="asks what happens without a GPU")
def test_no_gpu(bundle: Path) -> None:
    """Asking for a GPU where there is none is an error, not a slow run on the CPU."""
    with pytest.raises(DeviceError, match="sees 0 GPUs"):
        load_encoder(bundle, device="cuda")


@pytest.mark.parametrize("dtype", ["int8", "float64", torch.int32, "fp16"])
def test_wrong_dtypes(bundle: Path, dtype: str | torch.dtype) -> None:
    """Number formats that the encoder is not made for are refused."""
    with pytest.raises(SettingsError, match="choose one of float32, bfloat16, float16"):
        load_encoder(bundle, dtype=dtype)


def test_embedded_model_loads() -> None:
    """The model inside the package loads by its name, with a card that names data and licences."""
    assert "tiny" in embedded_models()
    encoder = load_encoder("tiny")
    assert resolve("tiny") == embedded_models()["tiny"]
    assert encoder.config.layers + 1 == len(encoder(torch.randn(1, 8000)).hidden_states)


def test_path_before_hub(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What reads like an id of the hub, but is here, is taken from here."""
    monkeypatch.chdir(bundle.parent.parent)
    load_encoder(f"{bundle.parent.name}/{bundle.name}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("tinny", "did you mean 'tiny'"),
        ("whisper", "embedded are: .*tiny"),
        ("./nothing/here", "no such model"),
        ("/nothing/here", "no such model"),
        ("", "no such model"),
    ],
)
def test_unknown_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, message: str
) -> None:
    """A model that is nowhere is an error that says what there is, without asking the network."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(source)
