"""The recipe of WavLM as published, from published layouts to a model, scaled down."""

from pathlib import Path

import pytest
import soundfile

from commands import Command, assert_refused
from wavlm_meeting import load_encoder
from wavlm_meeting.audio import read_audio
from wavlm_meeting.config import read_toml

pytest.importorskip("lhotse", reason="training needs the extra 'train'")
pytest.importorskip("lightning", reason="training needs the extra 'train'")
pytest.importorskip("torchaudio", reason="MFCC need the extra 'train'")
pytest.importorskip("transformers", reason="a HuBERT is made by transformers")

import transformers

import wavlm_meeting.recipes.mix94k as package
from wavlm_meeting.recipes.mix94k.recipe import Mix94kSettings
from wavlm_meeting.training.log import read_log
from wavlm_meeting.training.shards import read_index

HUBERT = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "intermediate_size": 48,
    "conv_dim": (16, 16, 16),
    "conv_kernel": (10, 8, 8),
    "conv_stride": (5, 8, 8),
    "num_feat_extract_layers": 3,
    "num_conv_pos_embeddings": 16,
    "num_conv_pos_embedding_groups": 2,
}
SETTINGS = """
name = "small-plus"
shard_cuts = 3
corpora = ["librispeech"]
noise = ["dns-noise"]
[units]
encoder = "hubert"
layer = 2
frames = 500
[units.kmeans]
clusters = 10
restarts = 1
passes = 3
batch = 200
[second]
size = "base-plus"
[second.encoder]
conv_layers = [[16, 10, 5], [16, 8, 8], [16, 8, 8]]
width = 32
layers = 2
heads = 2
ffn = 48
position_kernel = 16
position_groups = 2
[second.objective]
size = 16
[second.optimizer]
steps = 3
[second.batches]
seconds = 6.0
longest_s = 3.0
shortest_s = 1.0
buckets = 2
[second.trainer]
log_steps = 1
workers = 1
"""


@pytest.fixture
def _corpora(command: Command, shared_dir: Path) -> None:
    """Lay out speech as LibriSpeech and noise as the DNS challenge; make a HuBERT."""
    root = command.folder / "corpora"
    samples = read_audio(shared_dir / "corpus" / "meetings" / "pyannote_sample.flac")
    chapter = root / "librispeech" / "LibriSpeech" / "train-clean-100" / "103" / "1240"
    noise = root / "dns-noise" / "datasets" / "noise"
    chapter.mkdir(parents=True)
    noise.mkdir(parents=True)
    for number in range(8):
        piece = samples[number * 48_000 : (number + 1) * 48_000]
        soundfile.write(chapter / f"103-1240-{number:04d}.flac", piece, 16_000)
    lines = (f"103-1240-{number:04d} WORDS\n" for number in range(8))
    (chapter / "103-1240.trans.txt").write_text("".join(lines))
    (chapter / "103-1240-0007.flac").write_bytes(b"")
    soundfile.write(noise / "rain.wav", 0.1 * samples[:32_000][::-1], 16_000)
    hubert = transformers.HubertModel(transformers.HubertConfig(**HUBERT))
    hubert.save_pretrained(command.folder / "hubert")
    (command.folder / "small.toml").write_text(SETTINGS)


@pytest.mark.usefixtures("_corpora")
def test_from_published_folders_to_a_model(command: Command) -> None:
    """Units of a HuBERT's layer, no first iteration, noise in the mixtures; one file is broken."""
    words = ("recipe", "run", "mix94k", "--data", "corpora", "--out", "work")
    answer = command(*words, "--settings", "small.toml")
    assert answer.returncode == 0, answer.stderr
    running = [line for line in answer.stderr.splitlines() if line.endswith(": running")]
    stages = ("shards", "noise", "units", "second", "export")
    assert running == [f"note: {stage}: running" for stage in stages]
    index = read_index(command.folder / "work" / "shards")
    assert sum(shard.cuts for shard in index) == 7
    skipped = [unreadable.name for shard in index for unreadable in shard.skipped]
    assert any("103-1240-0007" in name for name in skipped)
    assert len(read_log(command.folder / "work" / "second")) == 3
    assert load_encoder(command.folder / "work" / "bundle").config.layers == 2


@pytest.mark.usefixtures("_corpora")
def test_what_is_missing_is_one_line(command: Command) -> None:
    """A corpus that is not there, settings that do not exist, no noise where some is asked for."""
    words = ("recipe", "run", "mix94k", "--out", "work", "--data")
    assert_refused(command(*words, "corpora", "--settings", "huge"), "base, base_plus, large")
    answer = command(*words, "hubert")
    assert answer.returncode == 2
    assert "LibriSpeech" in answer.stderr.splitlines()[-1]


def test_the_shipped_settings_are_those_of_the_paper() -> None:
    """All three are read; the method of each is the published one."""
    folder = Path(package.__path__[0])
    base, plus, large = (
        read_toml(folder / f"{name}.toml", Mix94kSettings)
        for name in ("base", "base_plus", "large")
    )
    assert base.first is not None
    assert base.first.encoder.position_bias == "none"
    assert base.first.mixing.probability == 0
    assert (base.mfcc.kmeans.clusters, base.units.layer, base.units.kmeans.clusters) == (
        100,
        6,
        500,
    )
    assert base.second.mixing.noise_probability == 0
    assert base.second.optimizer.steps == 400_000
    assert plus.first is None
    assert plus.second.encoder == base.second.encoder
    assert plus.second.mixing.noise_probability == large.second.mixing.noise_probability == 0.1
    assert (plus.units.layer, plus.second.optimizer.steps) == (9, 1_000_000)
    assert (large.second.encoder.layers, large.second.objective.size) == (24, 768)
    assert (large.second.optimizer.steps, large.second.optimizer.learning_rate) == (700_000, 1.5e-3)
    assert large.second.optimizer.gradient_clip == 1.0
    assert large.second.objective.frontend_gradient == 1.0
