"""`wavlm-meeting models` as typed."""

import json
from pathlib import Path

import pytest
import torch

from commands import Command, assert_refused
from wavlm_meeting.checkpoints.bundle import Bundle, read_bundle, write_bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.formats import read_model
from wavlm_meeting.files import sha256_of
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

OFFLINE = {"HF_HUB_OFFLINE": "1"}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """Give a bundle of a small random encoder and a part that only bundles have a place for."""
    torch.manual_seed(4)
    config = WavLMConfig(
        conv_layers=((8, 400, 320),), width=16, layers=1, heads=2, ffn=8, position_groups=4
    )
    card = Card(
        name="small",
        version="0.3",
        licence="CC0-1.0",
        description="Random.",
        encoder=config,
        heads={"own": {"size": 2}},
        figures={"DER": 99.5},
    )
    state = {"encoder": WavLM(config).state_dict(), "own": {"weight": torch.ones(2)}}
    write_bundle(tmp_path / "small", state, card)
    return tmp_path / "small"


def same(one: Bundle, other: Bundle) -> bool:
    """Tell whether two encoders are equal in every number."""
    states = one.state["encoder"], other.state["encoder"]
    return states[0].keys() == states[1].keys() and all(
        torch.equal(tensor, states[1][name]) for name, tensor in states[0].items()
    )


def test_list(command: Command) -> None:
    """Every embedded and every known model is listed, with where it is and its licence."""
    answer = command("models", "list", **OFFLINE)
    assert answer.returncode == 0, answer.stderr
    rows = json.loads(command("models", "list", "--json", **OFFLINE).stdout)
    names = [row["name"] for row in rows]
    assert names[:2] == ["mini", "tiny"]
    assert {"microsoft/wavlm-base-plus", "microsoft/wavlm-large"} < set(names)
    for row, line in zip(rows, answer.stdout.splitlines(), strict=True):
        assert line.startswith(row["name"])
        assert row["where"] in line
        assert row["licence"]
        assert row["licence"] in line


def test_show(command: Command, bundle: Path) -> None:
    """A model's card, its size and the hash of its file; as JSON too."""
    answer = command("models", "show", bundle)
    assert answer.returncode == 0, answer.stderr
    facts = json.loads(command("models", "show", bundle, "--json").stdout)
    hashed = sha256_of(bundle / "model.safetensors")
    assert facts["file"]["sha256"] == hashed
    count = sum(tensor.numel() for tensor in read_bundle(bundle).state["encoder"].values())
    assert facts["parameters"] == {"encoder": count, "own": 2}
    assert facts["encoder"]["conv_layers"] == [[8, 400, 320]]
    for part in ("small 0.3", "  licence  CC0-1.0\n", "1 layers of 16", hashed):
        assert part in answer.stdout
    ((name, figure),) = facts["figures"].items()
    assert answer.stdout.endswith(f"\nmeasured\n  {name}  {figure}\n")


def test_convert_there_and_back(command: Command, bundle: Path) -> None:
    """From layout to layout the encoder stays equal in every number; what was written is said."""
    words = [bundle, "small.pt", "--to", "microsoft", "--encoder-only"]
    answer = command("models", "convert", *words)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.startswith("small.pt: encoder 0.0")
    answer = command("models", "convert", "small.pt", "new/hf", "--to", "huggingface")
    assert answer.returncode == 0, answer.stderr
    assert sorted(entry.name for entry in command.folder.iterdir()) == ["new", "small.pt"]
    source = read_bundle(bundle)
    for name in ("small.pt", "new/hf"):
        assert same(source, read_model(command.folder / name)), name


def test_convert_drops_nothing_silently(command: Command, bundle: Path) -> None:
    """A part that the layout has no place for stops the conversion; nothing is written."""
    answer = command("models", "convert", bundle, "out", "--to", "microsoft")
    assert_refused(answer, "no place for 'own'", "--encoder-only")
    assert not list(command.folder.iterdir())


def test_convert_overwrites_only_when_told(command: Command, bundle: Path) -> None:
    """What is there stays there without --force, and is replaced with it."""
    words = ["models", "convert", bundle, "out", "--to", "bundle"]
    out = command.folder / "out"
    write_bundle(out, read_bundle(bundle).state, read_bundle(bundle).card)
    before = (out / "card.toml").stat().st_mtime_ns
    assert_refused(command(*words), "out: is there already", "--force")
    assert (out / "card.toml").stat().st_mtime_ns == before
    assert command(*words, "--force").returncode == 0
    assert (out / "card.toml").stat().st_mtime_ns != before


def test_fetch(command: Command, bundle: Path) -> None:
    """What is here already is found; what is not, and may not be fetched, is one line."""
    answer = command("models", "fetch", bundle)
    assert answer.returncode == 0, answer.stderr
    assert str(bundle) in answer.stdout
    empty = {"HF_HOME": str(command.folder / "cache"), **OFFLINE}
    answer = command("models", "fetch", "microsoft/wavlm-base-plus", **empty)
    assert_refused(answer, "not in the local cache", "HF_HUB_OFFLINE")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show", "tinny"), ("tinny: no such model", "'tiny'")),
        (("convert", "tiny", "out", "--to", "fairseq"), ("--to", "bundle", "microsoft")),
        (("convert", "tiny", "out"), ("--to",)),
        (("fetch", "nothing/"), ("no such model",)),
    ],
)
def test_mistakes(command: Command, words: tuple[str, ...], says: tuple[str, ...]) -> None:
    """Each mistake is one line that names it, and status 2."""
    assert_refused(command("models", *words, **OFFLINE), *says)
