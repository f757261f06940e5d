"""Compression of a small random teacher: it learns, meets the size, survives a stop."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from wavlm_meeting.checkpoints.bundle import read_bundle, write_bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.loading import build_encoder, load_model
from wavlm_meeting.compression.settings import (
    BatchSettings,
    CompressionSettings,
    parse_share,
)
from wavlm_meeting.config import parse_settings
from wavlm_meeting.errors import AudioError, CheckpointError, SettingsError
from wavlm_meeting.training.compression import compress
from wavlm_meeting.training.compression_data import PieceBatches
from wavlm_meeting.training.log import read_log
from wavlm_meeting.training.recordings import read_recordings
from wavlm_meeting.training.shards import write_shards
from wavlm_meeting.training.sources import folder_cuts
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

ENCODER = WavLMConfig(
    conv_layers=((48, 400, 160), (32, 4, 4)),
    frontend_norm="layer",
    normalize_waveform=True,
    width=32,
    layers=2,
    heads=4,
    ffn=96,
    pre_norm=True,
    position_kernel=8,
    position_groups=4,
    bias_buckets=32,
    bias_max_distance=40,
)
SETTINGS = parse_settings(
    {
        "pruning": {"steps": 60, "learning_rate": 3e-3},
        "gates": {"learning_rate": 0.5},
        "recovery": {"steps": 40, "learning_rate": 3e-3},
        "batches": {"utterances": 2, "longest_s": 1.0, "shortest_s": 0.4},
        "trainer": {"workers": 0, "log_steps": 1, "checkpoint_steps": 15},
    },
    CompressionSettings,
    "test",
)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write an encoder with random weights, large enough for its layers to matter."""
    torch.manual_seed(6)
    encoder = WavLM(ENCODER)
    with torch.no_grad():
        for name, parameter in encoder.layers.named_parameters():
            if name.endswith("weight") and parameter.ndim == 2:
                parameter.mul_(8)
    folder = tmp_path_factory.mktemp("teacher") / "small"
    card = Card(name="small", version="1", licence="CC0-1.0", description="", encoder=ENCODER)
    write_bundle(folder, {"encoder": encoder.state_dict()}, card, "float16")
    return folder


@pytest.fixture(scope="module")
def audio(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write three recordings of gliding tones, and one that is too short to count."""
    folder = tmp_path_factory.mktemp("audio")
    rng = np.random.default_rng(7)
    for name, seconds in (("a", 3.0), ("b", 2.0), ("c", 0.7), ("short", 0.1)):
        pitch = 100 + 300 * np.cumsum(rng.standard_normal(int(16_000 * seconds))) / 300
        wave = np.sin(2 * np.pi * np.cumsum(pitch) / 16_000) + 0.1 * rng.standard_normal(len(pitch))
        soundfile.write(folder / f"{name}.wav", 0.3 * wave, 16_000)
    return folder


def test_it_learns_and_meets_the_size(teacher: Path, audio: Path, tmp_path: Path) -> None:
    """The loss falls, the size is met, what is left is really smaller and like its teacher."""
    found = compress(str(teacher), "40%", audio, tmp_path / "out", SETTINGS)
    assert found.near
    assert abs(found.after - 0.4 * found.before) < 0.02 * found.before

    log = read_log(tmp_path / "out/pruning")
    assert log[0]["size"] > 0.95
    assert log[-1]["size"] < 0.6
    losses = [line["loss/distillation"] for line in read_log(tmp_path / "out/recovery")]
    assert np.mean(losses[-8:]) < 0.9 * np.mean(losses[:8])
    assert np.mean(found.recovered) > np.mean(found.pruned)

    model = read_bundle(found.model)
    old = build_encoder(load_model(teacher))
    small = build_encoder(model)
    assert sum(parameter.numel() for parameter in small.parameters()) == found.after
    assert model.card.encoder.pruned
    assert model.card.weights is not None
    assert model.card.weights.storage == "float16"
    assert model.card.training.teachers[-1].name == "small"
    samples, _ = soundfile.read(audio / "a.wav", dtype="float32")
    waveforms = torch.from_numpy(samples)[None, :16_000]
    with torch.no_grad():
        pair = old(waveforms).hidden_states, small(waveforms).hidden_states
    cosines = [torch.cosine_similarity(a, b, dim=2).mean() for a, b in zip(*pair, strict=True)]
    expected = torch.tensor(found.recovered)
    torch.testing.assert_close(torch.stack(cosines), expected, atol=0.1, rtol=0)


class Stop:
    """Stops a run, as Ctrl-C does, after so many batches."""

    def __init__(self, batches: int) -> None:
        self.left = batches

    def __call__(self, _done: int, _total: int, _logged: Mapping[str, float]) -> None:
        """Count one."""
        self.left -= 1
        if not self.left:
            raise KeyboardInterrupt


@pytest.mark.filterwarnings("ignore:.*KeyboardInterrupt")
def test_a_stopped_run_goes_on(teacher: Path, audio: Path, tmp_path: Path) -> None:
    """Stopped in each stage, it ends with the weights of one that never was; so does a second."""
    brief = {"steps": 20, "learning_rate": 3e-3}
    changed = {"pruning": brief, "recovery": brief}
    settings = parse_settings(SETTINGS.model_dump() | changed, CompressionSettings, "test")
    whole = compress(str(teacher), 0.5, audio, tmp_path / "whole", settings)
    for batches in (17, 20):  # in the first stage, then 18 of the second
        with pytest.raises(KeyboardInterrupt):
            compress(str(teacher), 0.5, audio, tmp_path / "stopped", settings, Stop(batches))
        assert not (tmp_path / "stopped/model").exists()
    for _ in range(2):
        found = compress(str(teacher), 0.5, audio, tmp_path / "stopped", settings)
        expected = read_bundle(whole.model).state["encoder"]
        for name, tensor in read_bundle(found.model).state["encoder"].items():
            assert torch.equal(tensor, expected[name]), name
        assert found.recovered == whole.recovered
    with pytest.raises(SettingsError, match="holds another compression"):
        compress(str(teacher), 0.6, audio, tmp_path / "stopped", settings)


def test_shards_are_heard_too(teacher: Path, audio: Path, tmp_path: Path) -> None:
    """What `wavlm-meeting manifest` writes is data as well."""
    shards = tmp_path / "shards"
    write_shards(folder_cuts([audio / "a.wav", audio / "b.wav"], audio), shards)
    brief = {"pruning": {"steps": 2}, "recovery": {"steps": 1}}
    settings = parse_settings(SETTINGS.model_dump() | brief, CompressionSettings, "test")
    assert compress(str(teacher), "50%", shards, tmp_path / "out", settings).near


def test_batches_begin_anywhere(audio: Path) -> None:
    """Batch n is the same whatever was drawn before; pieces are pieces, short recordings whole."""
    recordings = read_recordings(audio)
    settings = BatchSettings(utterances=6, longest_s=1.0, shortest_s=0.4)
    stream = iter(PieceBatches(recordings, settings, seed=3))
    drawn = [next(stream) for _ in range(4)]
    again = next(iter(PieceBatches(recordings, settings, seed=3, first=3)))
    assert torch.equal(drawn[3].waveforms, again.waveforms)
    assert not torch.equal(drawn[2].waveforms, again.waveforms)
    assert {int(length) for batch in drawn for length in batch.lengths} == {16_000, 11_200}
    sources = [torch.from_numpy(recordings.read(n, 0, recordings.length(n))) for n in range(4)]
    for row, length in zip(drawn[0].waveforms, drawn[0].lengths.tolist(), strict=True):
        assert not row[length:].any()
        assert any((s.unfold(0, length, 1)[:, :64] == row[:64]).all(1).any() for s in sources[:3])


@pytest.mark.parametrize("size", ["0%", "150%", "100%", "-0.2", "1.5", "nan", "a fifth", "20"])
def test_sizes_that_cannot_be(size: str) -> None:
    """Anything but a share between 0 and 1 is refused in one line that says what to write."""
    with pytest.raises(SettingsError, match="the target size is") as caught:
        parse_share(size)
    assert "\n" not in str(caught.value)
    assert parse_share("20%") == parse_share(0.2) == parse_share(" 0.2 ") == 0.2


def test_what_does_not_fit_is_refused(teacher: Path, audio: Path, tmp_path: Path) -> None:
    """Each mistake is one line, and leaves nothing behind."""
    (tmp_path / "empty").mkdir()
    (tmp_path / "hush").mkdir()
    soundfile.write(tmp_path / "hush/a.wav", np.zeros(1600, np.float32), 16_000)
    out = tmp_path / "out"
    wrong = SETTINGS.model_dump() | {"objective": {"states": [0, 3]}}
    states = parse_settings(wrong, CompressionSettings, "test")
    for arguments, kind, says in (
        ((str(teacher), "5%", audio, out, SETTINGS), SettingsError, "cannot be pruned"),
        ((str(teacher), "40%", audio, out, states), SettingsError, "no hidden state 3"),
        (("teeny", "40%", audio, out, SETTINGS), CheckpointError, "teeny"),
        ((str(teacher), "40%", tmp_path / "empty", out, SETTINGS), AudioError, "no audio"),
        ((str(teacher), "40%", tmp_path / "hush", out, SETTINGS), SettingsError, "0.4 s or more"),
    ):
        with pytest.raises(kind, match=says) as caught:
            compress(*arguments)
        assert "\n" not in str(caught.value)
        assert not out.exists()
    with pytest.raises(SettingsError, match="nothing would be learned"):
        parse_settings(
            {"objective": {"l1_weight": 0, "cosine_weight": 0}}, CompressionSettings, "test"
        )
