"""The layout of a model is told by its content; what is none is refused in one line."""

from pathlib import Path

import pytest
import torch

from wavlm_meeting.checkpoints import load_encoder
from wavlm_meeting.checkpoints.bundle import Bundle
from wavlm_meeting.checkpoints.formats import LAYOUTS, read_model, write_model
from wavlm_meeting.checkpoints.torchaudio import MARK
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

ENCODERS = tuple(layout for layout in LAYOUTS if layout != "pyannote")
"""Layouts that an encoder without heads can be written in; test_pyannote.py has the other."""


@pytest.mark.parametrize("layout", ENCODERS)
def test_names_do_not_matter(tmp_path: Path, model: Bundle, layout: str) -> None:
    """Under a name that says nothing, each layout is recognised and holds the same encoder."""
    path = tmp_path / "download"
    write_model(path, model.encoder_only(), layout)
    found = read_model(path)
    assert found.card.encoder.conv_layers == model.card.encoder.conv_layers
    for name, tensor in model.state["encoder"].items():
        assert torch.equal(found.state["encoder"][name], tensor), name


@pytest.mark.parametrize("layout", ["huggingface", "bundle"])
def test_heads_travel(tmp_path: Path, model: Bundle, layout: str) -> None:
    """A head that the layout has a place for is written and read with its encoder."""
    write_model(tmp_path / "model", model, layout)
    found = read_model(tmp_path / "model")
    assert found.card.heads == model.card.heads
    for name, tensor in model.state["frame_classifier"].items():
        assert torch.equal(found.state["frame_classifier"][name], tensor), name


def test_pruned_encoders_are_bundles(tmp_path: Path, model: Bundle) -> None:
    """Layers of different sizes come back from a bundle; other layouts refuse them in one line."""
    sizes = {"layer_heads": ((1,), (0, 1)), "layer_ffn": (5, 24)}
    config = WavLMConfig.model_validate(model.card.encoder.model_dump() | sizes)
    card = model.card.model_copy(update={"encoder": config, "heads": {}})
    pruned = Bundle(card, {"encoder": WavLM(config).state_dict()})
    write_model(tmp_path / "model", pruned, "bundle")
    found = load_encoder(tmp_path / "model")
    assert found.config == config
    for name, tensor in pruned.state["encoder"].items():
        assert torch.equal(found.state_dict()[name], tensor), name
    for layout in ("huggingface", "microsoft"):
        with pytest.raises(CheckpointError, match="pruned, layer by layer, which only a bundle"):
            write_model(tmp_path / layout, pruned, layout)
        assert not (tmp_path / layout).exists()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_wrong_models_are_not_written(tmp_path: Path, model: Bundle, layout: str) -> None:
    """Parameters that are not those of the card are refused before there is a file."""
    state = model.state["encoder"]
    state["norm.bais"] = state.pop("norm.bias")
    with pytest.raises(CheckpointError, match=r"missing \(norm\.bias\) and .* \(norm\.bais\)"):
        write_model(tmp_path / "model", model.encoder_only(), layout)
    state["norm.bias"] = state.pop("norm.bais")[:3]
    with pytest.raises(CheckpointError, match=r"'norm\.bias' has the shape \(3,\)"):
        write_model(tmp_path / "model", model.encoder_only(), layout)
    assert not list(tmp_path.iterdir())


def test_wrong_heads_are_not_written(tmp_path: Path, model: Bundle) -> None:
    """Neither is a head whose numbers are not those of its weights."""
    card = model.card.model_copy(update={"heads": {"frame_classifier": {"classes": 3}}})
    with pytest.raises(CheckpointError, match=r"1 parameter unknown \(mix\.weights\)"):
        write_model(tmp_path / "model", Bundle(card, model.state), "huggingface")


def test_rights_are_those_of_any_new_file(tmp_path: Path, model: Bundle) -> None:
    """Whoever may read a new file in this folder may read the model."""
    (tmp_path / "any").touch()
    for layout in ENCODERS:
        write_model(tmp_path / layout, model.encoder_only(), layout)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) == 1 + 2 + 3 + 1
    assert len({path.stat().st_mode for path in files}) == 1


def test_unknown_layout(tmp_path: Path, model: Bundle) -> None:
    """There are four layouts to write."""
    with pytest.raises(SettingsError, match="of bundle, huggingface, microsoft, pyannote"):
        write_model(tmp_path / "model", model, "fairseq")


def test_folders_that_are_no_model(tmp_path: Path) -> None:
    """An empty folder, and settings without parameters, say what they lack."""
    with pytest.raises(CheckpointError, match=r"no model; a folder needs card\.toml .* or config"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "wavlm"}')
    with pytest.raises(CheckpointError, match=r"neither model\.safetensors nor pytorch_model\.bin"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type":')
    with pytest.raises(CheckpointError, match=r"config\.json: not readable as JSON"):
        read_model(tmp_path)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(CheckpointError, match=r"config\.json: not a table"):
        read_model(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.pt", b"", "no model; give a folder, or a file that torch.save wrote"),
        ("a.wav", b"RIFF....WAVE", "no model; give a folder, or a file that torch.save wrote"),
        ("a.safetensors", b"\x08\0\0\0\0\0\0\0{}      ", "give the folder around it"),
        ("a.pt", b"\x80\x02garbage", "damaged or cut short"),
    ],
)
def test_files_that_are_no_model(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    """Files of other kinds say what is expected instead."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        read_model(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"state_dict": {}, "epoch": 3}, r"holds state_dict, epoch \.\.\., which is neither"),
        ([torch.zeros(1)], "holds a list, not a model"),
        ({"cfg": None, "model": {}}, "'cfg' is not a table"),
        ({"cfg": {}, "model": {}}, "its settings lack 'normalize'"),
        ({MARK: 3}, f"'{MARK}' is a int, not a tensor"),
    ],
)
def test_pickles_that_are_no_model(tmp_path: Path, content: object, message: str) -> None:
    """Pickles of other content say what they hold."""
    torch.save(content, tmp_path / "a.pt")
    with pytest.raises(CheckpointError, match=message):
        read_model(tmp_path / "a.pt")


@pytest.mark.parametrize("layout", ["huggingface", "microsoft"])
@pytest.mark.parametrize("kept", [0.1, 0.9, 0.999])
def test_cut_short(tmp_path: Path, model: Bundle, layout: str, kept: float) -> None:
    """A download that broke off is one line, wherever it broke."""
    path = tmp_path / "model"
    write_model(path, model.encoder_only(), layout)
    file = path / "model.safetensors" if layout == "huggingface" else path
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(CheckpointError) as error:
        load_encoder(path)
    assert "fetch it again" in str(error.value) or "no model" in str(error.value)
    assert "\n" not in str(error.value)
