"""Rounds of the embedded models one after the other, as one command makes them."""

import re
from pathlib import Path

import pytest
import torch

from small_tiny import SMALL, lay_out
from wavlm_meeting.checkpoints.trainings import read_weights
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.recipes.tiny import train
from wavlm_meeting.recipes.tiny.__main__ import main

pytest.importorskip("speechbrain", reason="training needs the extra 'train'")
pytest.importorskip("silero_vad", reason="training needs the extra 'train'")


@pytest.fixture(scope="module")
def corpus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a corpus of a few files."""
    return lay_out(shared_dir, tmp_path_factory.mktemp("corpus"))


ROUNDS = {
    "first": SMALL,
    "other": 'base = "second.toml"\nseed = 5\naveraged_with = []\n',
    "second": """
base = "first.toml"
after = "first.toml"
seed = 4
start_share = 0.5
averaged_with = ["other"]
pretraining = false
separation = false
[task]
learning_rate = 1e-2
""",
    "third": """
base = "second.toml"
after = "second.toml"
averaged_with = []
start_share = 0.0
[task]
steps = 1
learning_rate = 1e-12
""",
    "small": """
base = "third.toml"
after = "third.toml"
[compression]
share = "70%"
batches = 2
distillation = { pruning = { steps = 3 }, recovery = { steps = 2 } }
""",
    "untrained": 'base = "third.toml"\n',
    "circle": 'base = "third.toml"\nafter = "rounds.toml"\n',
    "rounds": 'base = "third.toml"\nafter = "circle.toml"\n',
}


def test_one_command_makes_all_rounds(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Each begins with what the one before leaves: means of trainings and start, as stored."""
    pytest.importorskip("resemblyzer", reason="the teacher needs the extra 'train'")
    monkeypatch.setattr(train, "MAP_WINDOWS", 8)
    work = tmp_path / "work"
    for name, text in ROUNDS.items():
        (tmp_path / f"{name}.toml").write_text(text)

    def made(name: str) -> list[str]:
        caplog.clear()
        main(corpus, work, tmp_path / f"{name}.toml", stages="prepare,train", workers=1)
        return re.findall(r"round (\w+) is done", caplog.text)

    with caplog.at_level("INFO"):
        assert made("third") == ["first", "second"]
        assert made("third") == []
    with pytest.raises(SettingsError, match=r'rounds.toml: after = "circle.toml" closes a circle'):
        made("circle")
    with pytest.raises(CheckpointError, match="untrained"):
        main(corpus, work, tmp_path / "untrained.toml", stages="export", workers=1)
    first, second = (encoder_of(work / name / "left") for name in ("first", "second"))
    trained = [encoder_of(work / name) for name in ("second", "other", "third")]
    moved = 0.0
    for key, value in first.items():
        mean = 0.5 * (trained[0][key] + trained[1][key])
        expected = 0.5 * (mean + value)
        assert torch.allclose(second[key], expected, rtol=2e-3, atol=1e-4), key  # as float16
        assert torch.allclose(trained[2][key], second[key], atol=1e-6), key
        moved = max(moved, float((expected - value).abs().max()))
    assert moved > 1e-3


def test_a_round_can_make_the_model_before_it_smaller(corpus: Path, tmp_path: Path) -> None:
    """From the corpus to a bundle of the size that was asked for, heads as the round before had.

    What is done stays; a compression of nothing is refused.
    """
    pytest.importorskip("resemblyzer", reason="the teacher needs the extra 'train'")
    for name, text in ROUNDS.items():
        (tmp_path / f"{name}.toml").write_text(text)
    own = tmp_path / "small.toml"
    own.write_text(ROUNDS["small"].replace("third", "first"))
    work, out = tmp_path / "work", tmp_path / "out"
    main(corpus, work, own, target=out, stages="prepare,train,export", workers=1)
    before = load_pipeline(str(work / "first/left"), "cpu")
    after = load_pipeline(str(out), "cpu")
    counts = [sum(each.numel() for each in made.encoder.parameters()) for made in (before, after)]
    assert 0.6 < counts[1] / counts[0] < 0.8
    for key, value in before.heads.state_dict().items():
        assert torch.equal(after.heads.state_dict()[key], value), key
    heard = work / "small/conversations"
    rows = sorted(heard.iterdir())
    assert len(rows) == 2 * 2  # two windows in each of two batches
    written = rows[0].stat().st_mtime_ns
    main(corpus, work, own, target=out, stages="train", workers=1)
    assert rows[0].stat().st_mtime_ns == written
    own.write_text(ROUNDS["small"].replace('after = "third.toml"', 'after = ""'))
    with pytest.raises(SettingsError, match="nothing to compress; name a bundle with --start"):
        main(corpus, tmp_path / "other", own, stages="train", workers=1)


def encoder_of(path: Path) -> dict[str, torch.Tensor]:
    """Return the encoder's parameters in a bundle or in the newest checkpoint of a training."""
    if (path / "card.toml").exists():
        return dict(load_pipeline(str(path), "cpu").encoder.state_dict())
    weights = read_weights(path)
    own = {key: value for key, value in weights.items() if key.startswith("encoder.")}
    return {key.removeprefix("encoder."): value for key, value in own.items()}
