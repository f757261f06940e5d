"""The separation head inside a bundle: added, loaded, listed, refused."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from commands import Command
from wavlm_meeting.checkpoints.bundle import read_bundle, write_bundle
from wavlm_meeting.checkpoints.catalog import embedded_models
from wavlm_meeting.checkpoints.formats import write_model
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.separation.load import PART, add_separation, load_separator
from wavlm_meeting.separation.model import SeparationHead, build_head
from wavlm_meeting.separation.pipeline import SeparationPipeline
from wavlm_meeting.separation.settings import SeparationSettings

TINY = embedded_models()["tiny"]
SETTINGS = SeparationSettings(layers=1, width=16, heads=2, ffn=16, kernel=5, window_s=2.0)


def drawn_head(settings: SeparationSettings = SETTINGS) -> SeparationHead:
    """Make a head of random weights for the embedded encoder."""
    torch.manual_seed(0)
    return build_head(read_bundle(TINY).card.encoder, settings)


@pytest.fixture(scope="module")
def without(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give the embedded model as a bundle that does not separate."""
    bundle = read_bundle(TINY)
    card, state = bundle.card, dict(bundle.state)
    state.pop(PART, None)
    heads = {part: numbers for part, numbers in card.heads.items() if part != PART}
    folder = tmp_path_factory.mktemp("models") / "without"
    write_bundle(folder, state, card.model_copy(update={"heads": heads}), "float16")
    return folder


@pytest.fixture(scope="module")
def with_head(without: Path) -> Path:
    """Give the same with a separation head of random weights."""
    folder = without.with_name("with")
    add_separation(
        read_bundle(without), drawn_head(), SETTINGS, folder, {"description": "It separates."}
    )
    return folder


def test_a_head_that_was_added_separates(with_head: Path) -> None:
    """The loaded pipeline gives what the head gave before, but for 16 bits of its weights."""
    loaded = load_separator(str(with_head), "cpu")
    assert loaded.settings == SETTINGS
    assert (loaded.name, len(loaded.sha256)) == ("tiny", 64)
    before = SeparationPipeline(loaded.encoder, drawn_head(), SETTINGS, "", "")
    samples = np.random.default_rng(0).standard_normal(50_000).astype(np.float32)
    assert np.allclose(loaded.separate(samples), before.separate(samples), atol=0.02)


def test_the_other_parts_stay_as_they_are(without: Path, with_head: Path) -> None:
    """Encoder and diarization heads are the same to the bit, and diarization runs."""
    old, new = read_bundle(without), read_bundle(with_head)
    assert set(new.state) == {*old.state, PART}
    for part, state in old.state.items():
        assert all(torch.equal(new.state[part][name], tensor) for name, tensor in state.items())
        assert new.card.heads.get(part) == old.card.heads.get(part)
    assert new.card.figures == old.card.figures
    assert new.card.description == "It separates."
    assert new.card.weights is not None
    assert old.card.weights is not None
    assert new.card.weights.storage == old.card.weights.storage == "float16"
    assert load_pipeline(str(with_head), "cpu").settings == load_pipeline("tiny", "cpu").settings


def test_a_head_replaces_the_one_before(with_head: Path, tmp_path: Path) -> None:
    """A bundle has one separation head: the last that was added, even in the bundle's own place."""
    folder = tmp_path / "model"
    shutil.copytree(with_head, folder)
    settings = SETTINGS.model_copy(update={"features": False, "future_s": 0.2})
    add_separation(read_bundle(folder), drawn_head(settings), settings, folder)
    loaded = load_separator(str(folder), "cpu")
    assert loaded.settings == settings
    assert loaded.head.features is None


def test_a_head_leaves_what_has_eight_bits_as_it_is(without: Path, tmp_path: Path) -> None:
    """A model that was read from int8 is written to int8 again without a second rounding."""
    bundle = read_bundle(without)
    write_bundle(tmp_path / "int8", bundle.state, bundle.card, "int8")
    old = read_bundle(tmp_path / "int8")
    add_separation(old, drawn_head(), SETTINGS, tmp_path / "new", storage="int8")
    new = read_bundle(tmp_path / "new")
    weight = "layers.0.ffn.up.weight"
    assert not torch.equal(old.state["encoder"][weight], bundle.state["encoder"][weight])
    for part, state in old.state.items():
        assert all(torch.equal(new.state[part][name], tensor) for name, tensor in state.items())
    assert load_separator(str(tmp_path / "new"), "cpu").settings == SETTINGS


def test_a_head_of_other_sizes_is_not_written(without: Path, tmp_path: Path) -> None:
    """Settings and parameters that do not fit are refused, and nothing is left behind."""
    wider = SETTINGS.model_copy(update={"width": 32})
    with pytest.raises(CheckpointError, match="separation"):
        add_separation(read_bundle(without), drawn_head(), wider, tmp_path / "new")
    assert not list(tmp_path.iterdir())


def test_a_model_that_does_not_separate_says_what_to_do(without: Path) -> None:
    """The message names the model and the cure."""
    with pytest.raises(CheckpointError, match=r"without: has no separation head; take 'tiny'"):
        load_separator(str(without), "cpu")


def test_a_misspelt_setting_of_the_card_is_told(with_head: Path, tmp_path: Path) -> None:
    """Unknown keys under [heads.separation] are refused, with the nearest known one."""
    folder = tmp_path / "model"
    shutil.copytree(with_head, folder)
    card = folder / "card.toml"
    card.write_text(card.read_text().replace("kernel = 5", "kernell = 5"))
    with pytest.raises(SettingsError, match=r"separation: unknown key 'kernell'.*'kernel'"):
        load_separator(str(folder), "cpu")


def test_the_head_is_shown_and_carried_along(
    with_head: Path, tmp_path: Path, command: Command
) -> None:
    """`models show` lists it, a bundle keeps it, and layouts without a place for it say so."""
    shown = command("models", "show", with_head)
    assert shown.returncode == 0
    assert "separation" in shown.stdout
    model = load_model(with_head)
    write_model(tmp_path / "copy", model, "bundle")
    assert load_separator(str(tmp_path / "copy"), "cpu").settings == SETTINGS
    whole = load_model("mini")  # a pruned encoder has no place there either
    head = build_head(whole.card.encoder, SETTINGS)
    add_separation(whole, head, SETTINGS, tmp_path / "whole")
    with pytest.raises(CheckpointError, match="--encoder-only"):
        write_model(tmp_path / "other", load_model(tmp_path / "whole"), "huggingface")
    assert not (tmp_path / "other").exists()
