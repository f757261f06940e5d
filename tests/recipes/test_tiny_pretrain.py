"""The chain from speech to a pretrained WavLM, scaled down, as typed."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from commands import COMMAND, Command, assert_refused
from wavlm_meeting import load_encoder
from wavlm_meeting.audio import read_audio
from wavlm_meeting.checkpoints.bundle import read_bundle

pytest.importorskip("lhotse", reason="training needs the extra 'train'")
pytest.importorskip("lightning", reason="training needs the extra 'train'")
pytest.importorskip("torchaudio", reason="MFCC need the extra 'train'")

from wavlm_meeting.training.log import read_log
from wavlm_meeting.training.shards import read_index

ENCODER = """
conv_layers = [[32, 400, 160], [24, 4, 4]]
frontend_norm = "layer"
normalize_waveform = true
width = 32
layers = 2
heads = 2
ffn = 48
pre_norm = true
position_kernel = 16
position_groups = 2
"""
TRAINING = """
[{model}.batches]
seconds = 12.0
longest_s = 4.0
shortest_s = 1.0
buckets = 2
[{model}.trainer]
workers = 1
log_steps = 1
[{model}.objective]
size = 16
[{model}.masks]
span = 4
[{model}.optimizer]
steps = {steps}
learning_rate = 1e-3
bfloat16 = false
"""
SETTINGS = f"""
name = "small"
shard_cuts = 2
licence = "CC0-1.0"
[mfcc]
frames = 2000
[mfcc.kmeans]
clusters = 10
restarts = 2
batch = 500
passes = 5
[units]
layer = 1
frames = 2000
[units.kmeans]
clusters = 12
restarts = 2
batch = 500
passes = 5
[first]
[first.encoder]
position_bias = "none"
{ENCODER}
{TRAINING.format(model="first", steps=4)}
[first.mixing]
probability = 0.0
[second]
[second.encoder]
{ENCODER}
{TRAINING.format(model="second", steps=5)}
"""


@pytest.fixture(autouse=True)
def _speech(command: Command, shared_dir: Path) -> None:
    """Make a folder with half a minute of real speech in pieces, and one broken file."""
    folder = command.folder / "speech"
    folder.mkdir()
    samples = read_audio(shared_dir / "corpus" / "meetings" / "pyannote_sample.flac")
    for number, piece in enumerate(np.split(samples[: 28 * 16_000], 7)):
        soundfile.write(folder / f"{number}.wav", piece, 16_000)
    (folder / "broken.wav").write_text("no")
    (command.folder / "small.toml").write_text(SETTINGS)


def test_from_speech_to_a_bundle(command: Command) -> None:
    """All stages run once; a change of the second model runs it alone; the bundle is a WavLM."""
    words = ("recipe", "run", "tiny-pretrain", "--data", "speech", "--out", "work")
    words += ("--settings", "small.toml")
    answer = command(*words)
    assert answer.returncode == 0, answer.stderr
    stages = ("shards", "mfcc", "first", "units", "second", "export")
    assert [f"note: {stage}: running" in answer.stderr for stage in stages] == [True] * 6
    assert "0.01 hours, 1 files or pieces left out" in answer.stderr
    model = read_bundle(command.folder / "work" / "bundle")
    assert model.card.heads == {"pretraining": {"classes": 12, "size": 16}}
    wave = torch.randn(1, 16_000)
    encoder = load_encoder(command.folder / "work" / "bundle")
    assert encoder.config.position_bias == "gated"
    assert len(encoder(wave).hidden_states) == 3
    again = command(*words)
    assert "running" not in again.stderr
    changed = SETTINGS.replace("steps = 5", "steps = 3")
    (command.folder / "small.toml").write_text(changed)
    third = command(*words, "--stages", "second..export")
    assert third.returncode == 0, third.stderr
    running = [line for line in third.stderr.splitlines() if line.endswith(": running")]
    assert running == ["note: second: running", "note: export: running"]
    for layout in ("huggingface", "microsoft"):
        target = f"{layout}.pt"
        answer = command(
            "models", "convert", "work/bundle", target, "--to", layout, "--encoder-only"
        )
        assert answer.returncode == 0, answer.stderr
        states = load_encoder(command.folder / target)(wave).hidden_states
        expected = load_encoder(command.folder / "work" / "bundle")(wave).hidden_states
        assert states[-1].allclose(expected[-1], atol=1e-5)


def test_two_processes_share_the_work(command: Command) -> None:
    """torchrun: both write shards and labels and train together; the result is one model."""
    torchrun = Path(sys.executable).with_name("torchrun")
    words = [torchrun, "--standalone", "--nproc-per-node=2", "--no-python", COMMAND]
    words += ["recipe", "run", "tiny-pretrain", "--data", "speech", "--out", "two"]
    answer = subprocess.run(
        [*words, "--settings", "small.toml"],
        cwd=command.folder, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.count("done.") == 1
    shards = command.folder / "two" / "shards"
    assert {path.name for path in shards.glob("index*")} == {
        "index.0-of-2.jsonl",
        "index.1-of-2.jsonl",
    }
    assert sum(shard.cuts for shard in read_index(shards)) == 7
    assert len(read_log(command.folder / "two" / "second")) == 5
    encoder = load_encoder(command.folder / "two" / "bundle")
    assert all(parameter.isfinite().all() for parameter in encoder.parameters())


def test_wrong_names_are_one_line(command: Command) -> None:
    """No such recipe, stage or data."""
    assert_refused(command("recipe", "run", "x", "--data", "speech", "--out", "o"), "tiny-pretrain")
    words = ("recipe", "run", "tiny-pretrain", "--settings", "small.toml", "--out", "o", "--data")
    assert_refused(command(*words, "speech", "--stages", "cook"), "no stage 'cook'")
    (command.folder / "empty").mkdir()
    answer = command(*words, "empty")
    assert answer.returncode == 2
    assert "no audio or video" in answer.stderr
    assert command("recipe", "list").stdout.startswith("tiny-pretrain: ")
