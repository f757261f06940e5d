"""Microsoft's layout, on the released code's miniatures."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wavlm_meeting.checkpoints import load_encoder
from wavlm_meeting.checkpoints.bundle import read_bundle
from wavlm_meeting.checkpoints.formats import read_model, write_model

SIZES = ("base", "large")


@pytest.mark.parametrize("size", SIZES)
@torch.inference_mode()
def test_outputs_are_those_of_the_released_code(shared_dir: Path, size: str) -> None:
    """A checkpoint goes in, the released code's hidden states come out."""
    golden = shared_dir / "golden"
    encoder = load_encoder(golden / f"wavlm_{size}_tiny.pt")
    with np.load(golden / f"wavlm_{size}_tiny.npz") as arrays:
        wave, expected = torch.from_numpy(arrays["wav0"]), torch.from_numpy(arrays["single"])
    states = encoder(wave.reshape(1, -1)).hidden_states
    assert len(states) == len(expected)
    for ours, theirs in zip(states, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-4 * theirs.abs().max()


@pytest.mark.parametrize("size", SIZES)
def test_round_trip_through_every_layout_is_exact(
    shared_dir: Path, tmp_path: Path, size: str
) -> None:
    """Microsoft -> bundle -> Hugging Face -> Microsoft gives every tensor and setting back."""
    source = shared_dir / "golden" / f"wavlm_{size}_tiny.pt"
    path = source
    for step, layout in enumerate(("bundle", "huggingface", "microsoft")):
        target = tmp_path / f"{step}.pt"
        write_model(target, read_model(path), layout)
        path = target
    before, after = (torch.load(file, weights_only=True) for file in (source, path))
    assert before["model"].keys() == after["model"].keys()
    for name, tensor in before["model"].items():
        assert torch.equal(tensor, after["model"][name]), name
    # Settings that are ours to keep; the list of convolutions is spelt out.
    kept = before["cfg"].keys() & after["cfg"].keys() - {"conv_feature_layers"}
    assert {key: before["cfg"][key] for key in kept} == {key: after["cfg"][key] for key in kept}
    needed = {"extractor_mode", "normalize", "layer_norm_first", "num_buckets", "gru_rel_pos"}
    assert needed <= kept
    assert read_model(source).card.encoder == read_bundle(tmp_path / "0.pt").card.encoder
