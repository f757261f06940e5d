"""Pseudo-labels: features in step with the encoder's frames, fair samples, purity as defined."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import homogeneity_score

from wavlm_meeting.audio import read_audio
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.kmeans import KMeansSettings, assign, fit_kmeans
from wavlm_meeting.pretraining.labels import (
    UnitCounts,
    best_layer,
    label_frames,
    label_quality,
    layer_features,
    read_clusters,
    sample_frames,
    use_perplexity,
    write_clusters,
)
from wavlm_meeting.wavlm.config import BASE, WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

SMALL = WavLMConfig(
    conv_layers=((16, 10, 5), (16, 8, 8), (16, 8, 8)),
    width=16, layers=2, heads=2, ffn=16, position_kernel=16, position_groups=2,
)  # fmt: skip


@pytest.mark.parametrize("samples", [400, 719, 720, 16_000, 16_079, 16_080])
def test_mfcc_have_a_row_for_each_frame_of_base(samples: int) -> None:
    """39 numbers every 20 ms, as many rows as the released frontend has frames."""
    pytest.importorskip("torchaudio", reason="MFCC need the extra 'train'")
    from wavlm_meeting.pretraining.mfcc import mfcc_features

    rows = mfcc_features(BASE.hop)(torch.randn(samples))
    assert rows.shape == (BASE.frame_count(samples), 39)


def test_mfcc_rows_stand_where_the_frames_are() -> None:
    """A click changes the rows whose 25 ms it lies in (the derivatives look four rows around)."""
    pytest.importorskip("torchaudio", reason="MFCC need the extra 'train'")
    from wavlm_meeting.pretraining.mfcc import mfcc_features

    generator = torch.Generator().manual_seed(0)
    samples = 0.01 * torch.randn(16_000, generator=generator)
    clicked = samples.clone()
    clicked[8_100] += 0.5
    changed = (mfcc_features(320)(samples) - mfcc_features(320)(clicked)).abs()
    static = changed[:, :13].amax(dim=1) > 1e-3
    touched = [t for t in range(len(static)) if 320 * t <= 8_100 < 320 * t + 400]
    assert static.nonzero().flatten().tolist() == touched
    with pytest.raises(SettingsError, match="no multiple of 160"):
        mfcc_features(100)


@torch.inference_mode()
def test_layer_features_are_the_hidden_states() -> None:
    """Layer 0 is the input of the first layer; a layer too many is refused."""
    encoder = WavLM(SMALL).eval()
    samples = torch.randn(16_000)
    states = encoder(samples[None]).hidden_states
    for layer in range(3):
        assert layer_features(encoder, layer)(samples).equal(states[layer][0])
    with pytest.raises(SettingsError, match="layers 0 to 2"):
        layer_features(encoder, 3)


def test_every_frame_is_sampled_as_often() -> None:
    """A tenth of the frames of recordings of all lengths, each with the same probability."""
    lengths = [3, 40, 7, 50]
    recordings, first = [], 0
    for length in lengths:
        recordings.append(torch.arange(first, first + length).float())
        first += length
    count = torch.zeros(100)
    for seed in range(2000):
        chosen = sample_frames(recordings, lambda x: x[:, None], 10, seed).flatten().long()
        assert len(set(chosen.tolist())) == 10
        count[chosen] += 1
    assert (count / 2000 - 0.1).abs().max() < 5 * (0.1 * 0.9 / 2000) ** 0.5
    few = sample_frames(recordings, lambda x: x[:, None], 500)
    assert few.flatten().tolist() == list(range(100))


def test_speech_gets_labels_that_say_something(shared_dir: Path, tmp_path: Path) -> None:
    """On real speech MFCC labels are all in use, come back from disk, and tell loud from quiet."""
    pytest.importorskip("torchaudio", reason="MFCC need the extra 'train'")
    from wavlm_meeting.pretraining.mfcc import mfcc_features

    features = mfcc_features(320)
    path = shared_dir / "corpus" / "meetings" / "pyannote_sample.flac"
    samples = torch.from_numpy(read_audio(path))
    frames = sample_frames([samples], features, 1000)
    found = fit_kmeans(frames, KMeansSettings(clusters=20, batch=500, passes=10, restarts=2))
    write_clusters(tmp_path / "mfcc.safetensors", found, "mfcc")
    again, source = read_clusters(tmp_path / "mfcc.safetensors")
    assert source == "mfcc"
    assert again.centres.equal(found.centres)
    assert again.inertia == found.inertia
    ((name, labels),) = label_frames([("a", samples)], features, again.centres)
    assert name == "a"
    assert labels.tolist() == assign(features(samples), found.centres)[0].tolist()
    assert set(labels.tolist()) == set(range(20))
    energy = samples.unfold(0, 400, 320).square().mean(dim=1)
    loud = (energy > energy.median()).numpy().astype(int)
    assert label_quality(counted(labels, loud)).unit_purity > 0.8
    with pytest.raises(SettingsError, match="no clusters"):
        read_clusters(tmp_path / "none.safetensors")


def counted(labels: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Give the frames of each label and unit."""
    counts = UnitCounts(int(labels.max()) + 1)
    counts.add(labels, units)
    matrix = counts.matrix()
    assert matrix is not None
    return matrix


def test_quality_is_as_defined() -> None:
    """Against scikit-learn's homogeneity and written-out purities; perfect labels are 1."""
    rng = np.random.default_rng(0)
    units = rng.integers(0, 6, 5000)
    labels = np.where(rng.random(5000) < 0.6, units * 2 + rng.integers(0, 2, 5000), 3)
    quality = label_quality(counted(labels, units))
    largest = sum(np.bincount(units[labels == k]).max() for k in np.unique(labels))
    assert quality.unit_purity == pytest.approx(largest / 5000)
    largest = sum(np.bincount(labels[units == u]).max() for u in range(6))
    assert quality.label_purity == pytest.approx(largest / 5000)
    assert quality.information == pytest.approx(homogeneity_score(units, labels))
    perfect = label_quality(counted(units, units))
    assert (perfect.unit_purity, perfect.label_purity) == (1.0, 1.0)
    assert perfect.information == pytest.approx(1.0)


def test_counts_add_up() -> None:
    """Recordings counted one by one give what they give together; unknown units do not count."""
    rng = np.random.default_rng(1)
    labels, units = rng.integers(0, 8, 900), rng.integers(-1, 5, 900)
    counts = UnitCounts(8)
    for piece in range(0, 900, 300):
        counts.add(labels[piece : piece + 300], units[piece : piece + 300])
    matrix = counts.matrix()
    assert matrix is not None
    assert matrix.sum() == (units >= 0).sum()
    known = units >= 0
    together = homogeneity_score(units[known], labels[known])
    assert label_quality(matrix).information == pytest.approx(together)
    nothing = UnitCounts(8)
    nothing.add(labels, np.full(900, -1))
    assert nothing.matrix() is None


def test_perplexity_counts_what_is_used() -> None:
    """Even use of k clusters is k, whatever else is there; uneven use is less."""
    assert use_perplexity(np.array([7, 7, 0, 7])) == pytest.approx(3)
    assert use_perplexity(np.array([9, 0])) == pytest.approx(1)
    assert 1 < use_perplexity(np.array([9, 1])) < 2


class Spoken(torch.nn.Module):
    """A layer that gives each frame's unit, or nothing but noise."""

    def __init__(self, units: list[torch.Tensor] | None) -> None:
        super().__init__()
        self.units = iter(units or [])
        self.knows = units is not None

    def forward(self, x: torch.Tensor, *_: object) -> torch.Tensor:
        """Return the next recording's units as directions, (1, T, D)."""
        noise = torch.randn(x.shape)
        if not self.knows:
            return noise
        known = next(self.units).clamp(min=0)
        return 10 * torch.nn.functional.one_hot(known, x.shape[2])[None] + noise


@pytest.mark.parametrize("knowing", [1, 2])
def test_the_layer_that_knows_the_units_is_found(knowing: int) -> None:
    """White noise, and one layer of which it is known that it holds the units."""
    torch.manual_seed(0)
    encoder = WavLM(SMALL).eval()
    frames = SMALL.frame_count(48_000)
    units = [torch.randint(-1, 6, (frames,)) for _ in range(6)]
    encoder.layers = torch.nn.ModuleList(
        Spoken(units if layer == knowing else None) for layer in (1, 2)
    )
    speech = [(torch.randn(48_000), own) for own in units]
    layer, known = best_layer(encoder, speech, clusters=10)
    assert layer == knowing
    assert len(known) == 3
    assert known[knowing] > 0.95
    assert max(known[:knowing] + known[knowing + 1 :]) < 0.3


def test_layers_are_compared_on_what_is_there() -> None:
    """No speech, units that do not fit and too few of them are said."""
    encoder = WavLM(SMALL).eval()
    frames = SMALL.frame_count(16_000)
    with pytest.raises(SettingsError, match="no speech"):
        best_layer(encoder, [], 4)
    with pytest.raises(SettingsError, match=f"3 units for {frames} frames"):
        best_layer(encoder, [(torch.randn(16_000), torch.zeros(3, dtype=torch.long))], 4)
    with pytest.raises(SettingsError, match="0 frames are fewer than 4"):
        best_layer(encoder, [(torch.randn(16_000), torch.full((frames,), -1))], 4)
