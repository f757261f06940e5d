"""A bundle gives back what was put in, or says why not."""

from pathlib import Path

import pytest
import torch

from wavlm_meeting.checkpoints.bundle import Bundle, read_bundle, write_bundle
from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.files import sha256_of


def test_round_trip_is_exact(tmp_path: Path, model: Bundle) -> None:
    """Every tensor and every entry of the card come back; the hash is that of the file."""
    card = write_bundle(tmp_path / "a" / "small", model.state, model.card)
    found = read_bundle(tmp_path / "a" / "small")
    assert found.card == card
    assert card.model_copy(update={"weights": None}) == model.card
    assert card.weights is not None
    assert card.weights.sha256 == sha256_of(tmp_path / "a" / "small" / "model.safetensors")
    assert found.state.keys() == model.state.keys()
    for part, state in model.state.items():
        assert found.state[part].keys() == state.keys()
        for name, tensor in state.items():
            assert torch.equal(found.state[part][name], tensor), name


def test_same_weights_same_hash(tmp_path: Path, model: Bundle) -> None:
    """The hash names the weights: it does not change with time, place or order."""
    backwards = {part: dict(reversed(state.items())) for part, state in model.state.items()}
    cards = [
        write_bundle(tmp_path / name, state, model.card)
        for name, state in (("one", model.state), ("two", backwards))
    ]
    assert cards[0].weights == cards[1].weights


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_half_storage(tmp_path: Path, model: Bundle, storage: str) -> None:
    """16-bit storage halves the file, rounds once, and loads as float32; integers stay exact."""
    counter = {"steps": torch.tensor(2**40 + 1)}
    state = model.state | {"frame_classifier": model.state["frame_classifier"] | counter}
    for name, form in (("full", "float32"), ("half", storage)):
        write_bundle(tmp_path / name, state, model.card, form)
    full, half = (
        (tmp_path / name / "model.safetensors").stat().st_size for name in ("full", "half")
    )
    assert half < 0.65 * full
    found = read_bundle(tmp_path / "half").state
    assert found["frame_classifier"]["steps"] == 2**40 + 1
    for name, tensor in model.state["encoder"].items():
        assert found["encoder"][name].dtype == torch.float32
        assert torch.equal(found["encoder"][name], tensor.to(getattr(torch, storage)).float())


@pytest.mark.parametrize(("value", "storage"), [(1e6, "float16"), (float("nan"), "float32")])
def test_numbers_that_storage_cannot_hold(
    tmp_path: Path, model: Bundle, value: float, storage: str
) -> None:
    """A number that would become infinite, or is no number, is an error before it is a file."""
    model.state["encoder"]["norm.bias"].fill_(value)
    with pytest.raises(CheckpointError, match=r"encoder\.norm\.bias: holds NaN, or a number"):
        write_bundle(tmp_path / "small", model.state, model.card, storage)
    assert not list(tmp_path.iterdir())


def test_failed_write_leaves_the_older_model(tmp_path: Path, model: Bundle) -> None:
    """A bundle is replaced as a whole, or stays what it was."""
    folder = tmp_path / "small"
    card = write_bundle(folder, model.state, model.card)
    weights = {**model.state["encoder"], "norm.bias": object()}
    with pytest.raises(AttributeError):
        write_bundle(folder, {**model.state, "encoder": weights}, model.card)
    assert read_bundle(folder).card == card
    newer = model.card.model_copy(update={"version": "0.2"})
    write_bundle(folder, model.state, newer)
    assert read_bundle(folder).card.version == "0.2"
    assert [entry.name for entry in tmp_path.iterdir()] == ["small"]


def test_a_backend_goes_with_its_weights(tmp_path: Path, model: Bundle) -> None:
    """It stays where a write fails, and not beside weights that it was never fitted to."""
    folder = tmp_path / "small"
    write_bundle(folder, model.state, model.card)
    (folder / BACKEND).write_bytes(b"of these weights")
    with pytest.raises(AttributeError):
        write_bundle(folder, {**model.state, "encoder": {"norm.bias": object()}}, model.card)
    assert (folder / BACKEND).read_bytes() == b"of these weights"
    write_bundle(folder, model.state, model.card)
    assert not (folder / BACKEND).exists()


def test_other_folders_are_not_replaced(tmp_path: Path, model: Bundle) -> None:
    """A folder with anything but a model in it, and a file, are left alone."""
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work")
    with pytest.raises(CheckpointError, match=r"holds 'chapter\.tex', which is no part"):
        write_bundle(tmp_path / "thesis", model.state, model.card)
    with pytest.raises(CheckpointError, match="a file is in the way"):
        write_bundle(tmp_path / "thesis" / "chapter.tex", model.state, model.card)
    assert (tmp_path / "thesis" / "chapter.tex").read_text() == "years of work"


def test_parts_and_card_must_agree(tmp_path: Path, model: Bundle) -> None:
    """Heads that the card does not describe, or describes and lacks, are refused on both ways."""
    without = {"encoder": model.state["encoder"]}
    with pytest.raises(CheckpointError, match="the card describes 'encoder', 'frame_classifier'"):
        write_bundle(tmp_path / "small", without, model.card)
    write_bundle(tmp_path / "small", model.state, model.card)
    path = tmp_path / "small" / "card.toml"
    path.write_text(path.read_text().replace("heads.frame_classifier", "heads.other"))
    with pytest.raises(CheckpointError, match=r"card\.toml describes 'encoder', 'other'"):
        read_bundle(tmp_path / "small")


@pytest.mark.parametrize("damage", [b"", b"half a file", None])
def test_damaged_weights(tmp_path: Path, model: Bundle, damage: bytes | None) -> None:
    """Weights that are cut short, or one bit off, are never loaded."""
    write_bundle(tmp_path, model.state, model.card)
    path = tmp_path / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content if damage is None else damage)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: its SHA-256 is not the one"):
        read_bundle(tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("licence =", "license =", r"card\.toml: unknown key 'license': did you mean 'licence'"),
        ("width = 16", "width = 17", r"encoder: .*width 17 is not a multiple of heads"),
        ("width = 16", "widht = 16", r"unknown key 'encoder\.widht': did you mean 'width'"),
        ("[weights]", "[weights", r"card\.toml: not valid TOML"),
    ],
)
def test_wrong_cards(tmp_path: Path, model: Bundle, old: str, new: str, message: str) -> None:
    """A card with a mistake is one line that names the place."""
    write_bundle(tmp_path, model.state, model.card)
    path = tmp_path / "card.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    with pytest.raises(CheckpointError, match=message):
        read_bundle(tmp_path)


@pytest.mark.parametrize("name", ["card.toml", "model.safetensors"])
def test_missing_file(tmp_path: Path, model: Bundle, name: str) -> None:
    """A bundle without one of its files says which."""
    write_bundle(tmp_path, model.state, model.card)
    (tmp_path / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: no such file"):
        read_bundle(tmp_path)
