"""Ids of the Hugging Face hub, from the local cache, in processes that may not use the network."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wavlm_meeting.checkpoints.bundle import Bundle
from wavlm_meeting.checkpoints.formats import write_model
from wavlm_meeting.checkpoints.hub import is_hub_id

REVISION = "0123456789abcdef0123456789abcdef01234567"


def put_into_cache(home: Path, name: str, model: Bundle, layout: str) -> Path:
    """Lay a model out as the hub's client keeps it: blobs, links to them, and a reference."""
    write_model(home / "made", model, layout)
    store = home / "hub" / f"models--{name.replace('/', '--')}"
    snapshot = store / "snapshots" / REVISION
    for folder in (store / "blobs", store / "refs", snapshot):
        folder.mkdir(parents=True)
    for number, file in enumerate(sorted((home / "made").iterdir())):
        blob = store / "blobs" / f"{number:040x}"
        file.rename(blob)
        (snapshot / file.name).symlink_to(Path("../../blobs") / blob.name)
    (store / "refs" / "main").write_text(REVISION)
    return snapshot


def run(home: Path, code: str) -> str:
    """Run Python with this cache and without network, and return what it printed."""
    environment = os.environ | {"HF_HOME": str(home), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    answer = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    return answer.stdout


LOAD = """
import json, torch
from wavlm_meeting.checkpoints import load_encoder, load_frame_classifier, load_model
from wavlm_meeting.checkpoints.hub import is_cached
name = "microsoft/wavlm-base-plus-sd"
encoder, head = load_frame_classifier(name)
card = load_model(name).card
print(json.dumps({
    "sum": float(sum(p.double().sum() for p in load_encoder(name).parameters())),
    "head": sorted(head.state_dict()),
    "card": [card.name, card.licence, card.training.recipe],
    "cached": [is_cached(name), is_cached("microsoft/wavlm-large")],
}))
"""


@pytest.mark.parametrize("layout", ["huggingface", "bundle"])
def test_model_in_the_cache(tmp_path: Path, model: Bundle, layout: str) -> None:
    """An id loads from the cache without network: encoder, head, and a card that says wherefrom."""
    put_into_cache(tmp_path, "microsoft/wavlm-base-plus-sd", model, layout)
    found = json.loads(run(tmp_path, LOAD))
    expected = sum(tensor.double().sum() for tensor in model.state["encoder"].values())
    assert found["sum"] == pytest.approx(float(expected), abs=1e-9)
    assert found["head"] == sorted(model.state["frame_classifier"])
    assert found["cached"] == [True, False]
    if layout == "huggingface":
        assert found["card"][0] == "wavlm-base-plus-sd"
        assert "unclear" in found["card"][1]
        assert found["card"][2] == "huggingface.co/microsoft/wavlm-base-plus-sd"
    else:
        assert found["card"] == ["small", "CC0-1.0", "this fixture"]


REFUSE = """
from wavlm_meeting.checkpoints import load_encoder
from wavlm_meeting.errors import CheckpointError
for name in ("microsoft/wavlm-large", "some/part", "a--b/c..d"):
    try:
        load_encoder(name)
    except CheckpointError as error:
        print(str(error))
"""


def test_model_not_in_the_cache(tmp_path: Path, model: Bundle) -> None:
    """Offline, a model that is not in the cache, or only in part, is one line with the cure."""
    snapshot = put_into_cache(tmp_path, "some/part", model, "huggingface")
    (snapshot / "model.safetensors").unlink()
    lines = run(tmp_path, REFUSE).splitlines()
    assert len(lines) == 3
    assert lines[0].startswith("microsoft/wavlm-large: not in the local cache, and HF_HUB_OFFLINE")
    assert lines[1].startswith("some/part: not in the local cache")
    assert lines[2].startswith("a--b/c..d: not a name that the hub allows")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("microsoft/wavlm-large", True),
        ("a/b.c_d-1", True),
        ("tiny", False),
        ("a/b/c", False),
        ("./a", False),
        ("../a", False),
        ("/a/b", False),
        ("~/models", False),
        ("https://huggingface.co/microsoft/wavlm-large", False),
    ],
)
def test_form_of_an_id(text: str, expected: bool) -> None:
    """An id is owner/name; paths and addresses are none."""
    assert is_hub_id(text) is expected
