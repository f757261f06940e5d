"""`wavlm-meeting pretrain` as typed: it trains, survives a kill, and says what is wrong."""

import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from commands import COMMAND, Command, assert_refused
from wavlm_meeting import load_encoder
from wavlm_meeting.audio import read_audio

pytest.importorskip("lightning", reason="training needs the extra 'train'")
pytest.importorskip("torchaudio", reason="MFCC need the extra 'train'")

from wavlm_meeting.checkpoints.trainings import steps_done
from wavlm_meeting.pretraining.kmeans import KMeansSettings
from wavlm_meeting.pretraining.mfcc import mfcc_features
from wavlm_meeting.training.labelling import fit_clusters, label_shards
from wavlm_meeting.training.log import read_log
from wavlm_meeting.training.shards import write_shards
from wavlm_meeting.training.sources import folder_cuts

STEPS = 12
SETTINGS = f"""
seed = 5
[encoder]
conv_layers = [[16, 10, 5], [16, 8, 8], [16, 8, 8]]
width = 32
layers = 3
heads = 2
ffn = 48
position_kernel = 16
position_groups = 2
layer_drop = 0.2
[objective]
size = 16
[masks]
span = 4
[mixing]
probability = 0.7
noise_probability = 0.5
[optimizer]
steps = {STEPS}
learning_rate = 1e-3
[batches]
seconds = 8.0
longest_s = 3.0
shortest_s = 1.0
buckets = 2
noises = 2
block = 2
[trainer]
accumulate = 3
workers = 2
checkpoint_steps = 3
log_steps = 1
"""
WORDS = ("--shards", "speech", "--labels", "mfcc", "--noise", "noise")


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory, shared_dir: Path) -> Path:
    """Write real speech and noise as shards, with labels of the speech."""
    root = tmp_path_factory.mktemp("pretrain")
    samples = read_audio(shared_dir / "corpus" / "meetings" / "pyannote_sample.flac")
    for name, pieces in (("speech", 16), ("noise", 3)):
        (root / f"{name}-in").mkdir()
        for number, piece in enumerate(np.array_split(samples[: 29 * 16_000], pieces)):
            soundfile.write(root / f"{name}-in" / f"{number:02d}.wav", piece, 16_000)
        paths = sorted((root / f"{name}-in").iterdir())
        write_shards(folder_cuts(paths, root / f"{name}-in"), root / name, shard_cuts=4)
    features = mfcc_features(320)
    kmeans = KMeansSettings(clusters=8, restarts=1, passes=3, batch=200)
    fit_clusters(root / "speech", "mfcc", features, 1000, kmeans)
    label_shards(root / "speech", "mfcc", features)
    (root / "small.toml").write_text(SETTINGS)
    return root


def losses(folder: Path) -> list[tuple[float, ...]]:
    """Return what was logged of the losses, step by step."""
    return [(line["step"], line["loss/total"], line["loss/accuracy"]) for line in read_log(folder)]


def start(root: Path, out: str) -> subprocess.Popen[bytes]:
    """Begin a training without waiting for it, in a group of its own."""
    with (root / f"{out}.txt").open("a") as said:
        return subprocess.Popen(
            [COMMAND, "pretrain", "small.toml", *WORDS, "--out", out],
            cwd=root,
            stderr=said,
            start_new_session=True,
        )


@pytest.fixture(scope="module")
def whole(shards: Path) -> Path:
    """Train without a stop."""
    done = start(shards, "whole")
    assert done.wait(300) == 0, (shards / "whole.txt").read_text()
    return shards / "whole"


def test_killed_in_mid_epoch_it_goes_on_as_if_it_had_not_been(shards: Path, whole: Path) -> None:
    """`kill -9` past a checkpoint, then the same command: each loss is that of an unbroken run.

    Noise, mixing, masks, dropout, dropped layers, two workers and accumulation are all on.
    """
    assert len(losses(whole)) == STEPS
    broken = start(shards, "broken")
    deadline = time.monotonic() + 300
    while len(read_log(shards / "broken")) < 5 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(broken.pid, signal.SIGKILL)
    broken.wait(60)
    assert 3 <= steps_done(shards / "broken") < STEPS
    again = start(shards, "broken")
    assert again.wait(300) == 0, (shards / "broken.txt").read_text()
    assert losses(shards / "broken") == losses(whole)
    encoders = [load_encoder(folder) for folder in (whole, shards / "broken")]
    for ours, theirs in zip(*(encoder.parameters() for encoder in encoders), strict=True):
        assert ours.equal(theirs)


def test_interrupted_it_says_so(shards: Path, whole: Path) -> None:
    """Ctrl-C ends it with one line and status 130; what it has written is whole."""
    running = start(shards, "interrupted")
    deadline = time.monotonic() + 300
    while len(read_log(shards / "interrupted")) < 4 and time.monotonic() < deadline:
        time.sleep(0.02)
    running.send_signal(signal.SIGINT)
    assert running.wait(200) == 130
    said = (shards / "interrupted.txt").read_text().splitlines()
    assert said[-1] == "error: interrupted; files already written are complete."
    assert losses(shards / "interrupted")[:3] == losses(whole)[:3]
    assert load_encoder(shards / "interrupted").config.layers == 3


def test_any_checkpoint_goes_out_in_all_layouts(command: Command, whole: Path) -> None:
    """An early one and the last: the bundle, transformers and Microsoft's layout hear the same."""
    transformers = pytest.importorskip("transformers", reason="it opens what is written")
    wave = torch.randn(1, 8000, generator=torch.Generator().manual_seed(0))
    sources = (whole / "checkpoints" / "step-00000009.ckpt", whole)
    heard = []
    for number, source in enumerate(sources):
        expected = load_encoder(source)(wave).hidden_states
        heard.append(expected[-1])
        for layout in ("bundle", "huggingface", "microsoft"):
            target = f"{layout}-{number}"
            answer = command("models", "convert", source, target, "--to", layout, "--encoder-only")
            assert answer.returncode == 0, answer.stderr
            found = load_encoder(command.folder / target)(wave).hidden_states
            for ours, reference in zip(found, expected, strict=True):
                assert ours.allclose(reference, atol=1e-5)
        model = transformers.WavLMModel.from_pretrained(command.folder / f"huggingface-{number}")
        theirs = model.eval()(wave, output_hidden_states=True).hidden_states
        for theirs_layer, reference in zip(theirs, expected, strict=True):
            assert theirs_layer.allclose(reference, atol=1e-4)
    assert not heard[0].equal(heard[1])


def test_another_model_does_not_go_on_from_it(command: Command, shards: Path, whole: Path) -> None:
    """Other sizes in the folder of a training are refused, and nothing there is touched."""
    other = command.folder / "other.toml"
    other.write_text(SETTINGS.replace("layers = 3", "layers = 2"))
    words = ("--shards", shards / "speech", "--labels", "mfcc", "--noise", shards / "noise")
    before = (whole / "run.toml").read_bytes()
    assert_refused(command("pretrain", other, *words, "--out", whole), "another model")
    assert (whole / "run.toml").read_bytes() == before
    assert len(losses(whole)) == STEPS


def test_mistakes_are_one_line(command: Command, shards: Path) -> None:
    """What is missing is named before anything is trained."""
    small, out = str(shards / "small.toml"), ("--out", "out")
    assert_refused(command("pretrain", small), "--shards", "--labels", "--out", "--plan")
    words = ("pretrain", small, *out, "--shards", str(shards / "speech"))
    noise = ("--noise", str(shards / "noise"))
    assert_refused(command(*words, *noise, "--labels", "phones"), "no clusters")
    assert_refused(command(*words, "--labels", "mfcc"), "no noise")
    nowhere = ("--shards", "nowhere", "--labels", "mfcc")
    assert_refused(command("pretrain", small, *out, *nowhere, *noise), "nowhere")
    assert not (command.folder / "out").exists() or not list(command.folder.glob("out/*"))
