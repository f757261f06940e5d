"""Microsoft's checkpoints: what is understood, what is refused, and that nothing runs."""

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from wavlm_meeting.checkpoints import load_encoder, load_model
from wavlm_meeting.checkpoints.bundle import Bundle
from wavlm_meeting.checkpoints.formats import write_model
from wavlm_meeting.checkpoints.microsoft import parse_conv_layers
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.wavlm.model import WavLM

Content = dict[str, Any]


@pytest.fixture
def checkpoint(tmp_path: Path, model: Bundle) -> Path:
    """Give a checkpoint in Microsoft's layout."""
    path = tmp_path / "small.pt"
    write_model(path, model.encoder_only(), "microsoft")
    return path


def change(path: Path, **settings: object) -> None:
    """Change settings in a checkpoint; None takes one out."""
    content = torch.load(path, weights_only=True)
    cfg = content["cfg"] | settings
    content["cfg"] = {name: value for name, value in cfg.items() if value is not None}
    torch.save(content, path)


@pytest.mark.parametrize(
    "text",
    [
        "[(512,10,5)] + [(512,3,2)] * 4 + [(512,2,2)] * 2",
        "[(512, 10, 5), (512, 3, 2), (512, 3, 2), (512, 3, 2), (512, 3, 2)] + 2 * [(512, 2, 2)]",
    ],
)
def test_convolutions(text: str) -> None:
    """The list is understood as Python means it."""
    layers = [(512, 10, 5)] + [(512, 3, 2)] * 4 + [(512, 2, 2)] * 2
    assert parse_conv_layers(text, "here") == tuple(layers)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')",
        "[(512,10,5)] * 10**9",
        "[(512,10,5)] * 1000000",
        "[(512,10,5)] * -1",
        "[(1,1,1)] + 3",
        "[3, 4]",
        "(512,10,5)",
        "[(512,10,",
        "[" * 500,
        "",
        "None",
    ],
)
def test_no_convolutions(text: str) -> None:
    """Anything else is refused, not run, and not expanded to any size."""
    with pytest.raises(CheckpointError, match="'conv_feature_layers' is not a list"):
        parse_conv_layers(text, "here")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"gru_rel_pos": False}, r"6 parameters unknown \(encoder\.layers\.0\.self_attn\.grep_a"),
        ({"relative_position_embedding": None}, "its settings lack 'relative_position_embedding'"),
        ({"conv_bias": True}, "'conv_bias' is True"),
        ({"extractor_mode": "batch"}, "'extractor_mode' is 'batch'; known are default, layer_norm"),
        ({"max_distance": 2}, "bias_max_distance must exceed"),
        ({"encoder_embed_dim": 32}, "has the shape"),
    ],
)
def test_other_architectures_are_refused(checkpoint: Path, settings: Content, message: str) -> None:
    """The switches in `cfg` are taken at their word: another architecture is an error."""
    change(checkpoint, **settings)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(checkpoint)


def test_bias_sizes_come_from_the_settings(checkpoint: Path) -> None:
    """The reach of the position bias is the checkpoint's, not a default."""
    change(checkpoint, max_distance=77)
    assert load_encoder(checkpoint).config.bias_max_distance == 77


def test_pretraining_head_is_kept(checkpoint: Path, tmp_path: Path) -> None:
    """The head of masked prediction is a part of its own, and is written back exactly."""
    content = torch.load(checkpoint, weights_only=True)
    content["model"] |= {
        "final_proj.weight": torch.randn(6, 16),
        "final_proj.bias": torch.randn(6),
        "label_embs_concat": torch.randn(10, 6),
    }
    torch.save(content, checkpoint)
    model = load_model(checkpoint)
    assert model.card.heads == {"pretraining": {"classes": 10, "size": 6}}
    write_model(tmp_path / "again.pt", model, "microsoft")
    again = torch.load(tmp_path / "again.pt", weights_only=True)["model"]
    assert again.keys() == content["model"].keys()
    assert all(torch.equal(again[name], tensor) for name, tensor in content["model"].items())
    load_encoder(checkpoint)

    del content["model"]["final_proj.bias"]
    torch.save(content, checkpoint)
    with pytest.raises(CheckpointError, match=r"1 parameter missing \(final_proj\.bias\)"):
        load_encoder(checkpoint)


def test_many_wrong_parameters_are_counted(checkpoint: Path) -> None:
    """Of many wrong names the first few are shown and all are counted."""
    content = torch.load(checkpoint, weights_only=True)
    content["model"] |= {f"spare.{index}": torch.zeros(1) for index in range(7)}
    torch.save(content, checkpoint)
    with pytest.raises(
        CheckpointError, match=r"7 parameters unknown \(spare\.0, spare\.1, spare\.2, \.\.\.\)"
    ):
        load_encoder(checkpoint)


@pytest.mark.parametrize(
    ("found", "message"), [(None, "holds a NoneType, not named"), ({"a": 1}, "'a' is a int, not")]
)
def test_no_parameters(checkpoint: Path, found: object, message: str) -> None:
    """Settings with something else than parameters beside them are refused."""
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"model": found}, checkpoint)
    with pytest.raises(CheckpointError, match=message):
        load_encoder(checkpoint)


def test_width_without_projection(tmp_path: Path, model: Bundle) -> None:
    """Where Microsoft's code would have no projection, the file is not written."""
    layers = ((16, 10, 5), (16, 8, 4))
    config = model.card.encoder.model_copy(update={"conv_layers": layers})
    card = model.card.model_copy(update={"encoder": config, "heads": {}})
    same = Bundle(card, {"encoder": WavLM(config).state_dict()})
    with pytest.raises(CheckpointError, match="has no projection where"):
        write_model(tmp_path / "x.pt", same, "microsoft")


class Trap:
    """Touches a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_pickled_code_does_not_run(checkpoint: Path, tmp_path: Path) -> None:
    """A pickle that would run code is refused, and the code has not run."""
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"trap": Trap(tmp_path / "sprung")}, checkpoint)
    with pytest.raises(CheckpointError, match="opening those can run code"):
        load_encoder(checkpoint)
    assert not (tmp_path / "sprung").exists()


def test_cure_of_refused_pickles_works(checkpoint: Path) -> None:
    """The command in the message turns a checkpoint with a settings object into one that loads."""
    expected = load_encoder(checkpoint).state_dict()
    content = torch.load(checkpoint, weights_only=True)
    torch.save(content | {"cfg": argparse.Namespace(**content["cfg"])}, checkpoint)
    with pytest.raises(CheckpointError) as refusal:
        load_encoder(checkpoint)
    words = shlex.split(str(refusal.value).partition("keep its plain values: ")[2])
    assert words[:2] == ["python", "-c"]
    subprocess.run([sys.executable, *words[1:]], cwd=checkpoint.parent, check=True)
    state = load_encoder(checkpoint.parent / "plain.pt").state_dict()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in state.items())
