"""Labels of shards: parts equal the whole, stopped runs go on, clusters are not mixed."""

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import homogeneity_score

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.kmeans import KMeansSettings, assign
from wavlm_meeting.pretraining.labels import layer_features, read_clusters
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

pytest.importorskip("lhotse", reason="shards need the extra 'train'")

from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from wavlm_meeting.training import labelling
from wavlm_meeting.training.labelling import (
    fit_clusters,
    frame_units,
    label_report,
    label_shards,
)
from wavlm_meeting.training.shards import read_shards, write_field, write_shards

HOP = 320
FOUR = KMeansSettings(clusters=4, batch=200, passes=5, restarts=2)


def loudness(samples: torch.Tensor) -> torch.Tensor:
    """Give level and zero crossings of each frame, (T, 2)."""
    frames = samples.unfold(0, HOP, HOP)
    crossings = (frames[:, 1:] * frames[:, :-1] < 0).float().mean(dim=1)
    return torch.stack([frames.square().mean(dim=1).sqrt(), crossings], dim=1)


def spoken(path: Path, words: list[tuple[str, float, float]] | None = None) -> MonoCut:
    """Give a recording as a cut, its words (symbol, start, duration) aligned if there are any."""
    recording = Recording.from_file(path, recording_id=path.name)
    cut = MonoCut(path.name, 0, recording.duration, 0, recording=recording)
    text = SupervisionSegment(path.name, path.name, 0, recording.duration)
    if words is not None:
        text = text.with_alignment("word", [AlignmentItem(*word) for word in words])
    cut.supervisions = [text]
    return cut


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    """Give five shards of two recordings each: noise that grows and fades."""
    rng = np.random.default_rng(0)
    cuts = []
    for number in range(10):
        length = 16_000 + 1600 * number
        swell = np.abs(np.sin(np.arange(length) / (1000 + 300 * number)))
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, 0.2 * swell * rng.standard_normal(length), 16_000)
        cuts.append(spoken(path))
    write_shards(cuts, tmp_path / "shards", shard_cuts=2)
    return tmp_path / "shards"


def labels_in(folder: Path, field: str = "units") -> dict[str, list[int]]:
    """Read all labels."""
    return {cut.id: cut.load_custom(field).tolist() for cut in read_shards(folder, [field])}


def stopping(after: int) -> Callable[[torch.Tensor], torch.Tensor]:
    """Give features that are interrupted at a recording."""
    calls = iter(range(after))

    def features(samples: torch.Tensor) -> torch.Tensor:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return loudness(samples)

    return features


def test_parts_equal_the_whole(shards: Path) -> None:
    """Three processes write each shard once, and the labels that one process writes."""
    fit_clusters(shards, "units", loudness, 400, FOUR)
    written = [label_shards(shards, "units", loudness, (own, 3)) for own in (2, 0, 1)]
    assert written == [[2], [0, 3], [1, 4]]
    assert label_shards(shards, "units", loudness) == []
    fit_clusters(shards, "whole", loudness, 400, FOUR)
    assert label_shards(shards, "whole", loudness) == [0, 1, 2, 3, 4]
    assert labels_in(shards) == labels_in(shards, "whole")
    assert len(labels_in(shards)) == 10


def test_a_stopped_run_goes_on(shards: Path) -> None:
    """Stopped within the second shard: the first stays, nothing half is left, the end is whole."""
    fit_clusters(shards, "units", loudness, 400, FOUR)
    with pytest.raises(KeyboardInterrupt):
        label_shards(shards, "units", stopping(3))
    assert [path.name for path in shards.glob("*units.0*")] == ["units.000000.tar"]
    first = (shards / "units.000000.tar").stat().st_mtime_ns
    fit_clusters(shards, "units", loudness, 400, FOUR)
    assert label_shards(shards, "units", loudness) == [1, 2, 3, 4]
    assert (shards / "units.000000.tar").stat().st_mtime_ns == first
    fit_clusters(shards, "whole", loudness, 400, FOUR)
    label_shards(shards, "whole", loudness)
    assert labels_in(shards) == labels_in(shards, "whole")


def test_labels_of_other_clusters_are_not_mixed(shards: Path) -> None:
    """Other clusters under the same name are refused, and new ones remove the labels of the old."""
    other = FOUR.model_copy(update={"seed": 1})
    fit_clusters(shards, "units", loudness, 400, FOUR)
    with pytest.raises(KeyboardInterrupt):
        label_shards(shards, "units", stopping(3))
    fit_clusters(shards, "others", loudness, 400, other)
    (shards / "units.safetensors").write_bytes((shards / "others.safetensors").read_bytes())
    with pytest.raises(SettingsError, match=r"remove units\.\*\.tar and units\.json"):
        label_shards(shards, "units", loudness)
    fit_clusters(shards, "units", loudness, 400, other)
    assert not list(shards.glob("units.0*.tar"))
    assert label_shards(shards, "units", loudness) == [0, 1, 2, 3, 4]


def test_labels_of_unknown_clusters_are_refused(shards: Path) -> None:
    """Arrays that were written by somebody else are neither kept as labels nor removed."""
    write_field(shards, "units", 0, [("0.wav", np.zeros(3))])
    fit_clusters(shards, "units", loudness, 400, FOUR)
    with pytest.raises(SettingsError, match="other clusters"):
        label_shards(shards, "units", loudness)
    assert (shards / "units.000000.tar").is_file()


def test_layer_labels_are_those_of_the_encoder_alone(shards: Path) -> None:
    """Each recording's labels are the nearest centres of its own hidden states."""
    torch.manual_seed(0)
    encoder = WavLM(
        WavLMConfig(
            conv_layers=((16, 10, 5), (16, 8, 8), (16, 8, 8)),
            width=16, layers=2, heads=2, ffn=16, position_kernel=16, position_groups=2,
        )
    ).eval()  # fmt: skip
    features = layer_features(encoder, 1)
    fit_clusters(shards, "units", features, 400, FOUR)
    label_shards(shards, "units", features)
    centres = read_clusters(shards / "units.safetensors")[0].centres
    for cut in read_shards(shards, ["units"]):
        with torch.no_grad():
            states = encoder(torch.from_numpy(cut.load_audio())).hidden_states[1][0]
        assert cut.load_units().tolist() == assign(states, centres)[0].tolist()


def test_few_frames_need_few_recordings(shards: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Recordings are drawn by the seed before they are decoded, from a limited number of shards."""
    heard: list[int] = []

    def features(samples: torch.Tensor) -> torch.Tensor:
        heard.append(len(samples))
        return loudness(samples)

    def lengths(frames: int, seed: int) -> list[int]:
        """Return the lengths of what clusters were made from; the first tells the frame rate."""
        heard.clear()
        fit_clusters(shards, "units", features, frames, FOUR.model_copy(update={"seed": seed}))
        return heard[1:]

    every = [16_000 + 1600 * number for number in range(10)]
    assert lengths(100_000, 0) == every
    few = {seed: lengths(60, seed) for seed in range(3, 8)}
    assert all(0 < len(drawn) < 10 for drawn in few.values())
    assert len(set(map(tuple, few.values()))) > 1
    assert lengths(60, 3) == few[3]
    monkeypatch.setattr(labelling, "SAMPLE_SHARDS", 2)
    drawn = lengths(100_000, 0)
    assert len(drawn) == 4
    assert set(drawn) < set(every)


def test_units_are_found_in_the_middle_of_frames(tmp_path: Path) -> None:
    """A frame has the word in which its middle lies; pieces of recordings keep their times."""
    soundfile.write(tmp_path / "a.wav", np.zeros(32_000), 16_000)
    cut = spoken(tmp_path / "a.wav", [("yes", 0.03, 0.04), ("no", 0.5, 9.0)])
    units = frame_units(cut, "word", HOP, 99)
    assert units is not None
    for frame, unit in enumerate(units):
        middle = (frame + 0.5) * 0.02
        assert unit == ("yes" if 0.03 <= middle < 0.07 else "no" if middle >= 0.5 else None)
    later = cut.truncate(offset=0.4, duration=1.0)
    assert frame_units(later, "word", HOP, 49) == units[20:69]
    assert frame_units(cut, "phone", HOP, 99) is None
    assert frame_units(spoken(tmp_path / "a.wav"), "word", HOP, 99) is None


def test_the_report_adds_counts_over_shards(shards: Path, tmp_path: Path) -> None:
    """Use and information are those of all frames together; cuts without words count for use."""
    rng = np.random.default_rng(2)
    cuts = []
    for number in range(5):
        soundfile.write(tmp_path / f"{number}.wav", 0.01 * rng.standard_normal(32_000), 16_000)
        words = [("one", 0.2, 0.8), ("two" if number % 2 else "three", 1.2, 0.5)]
        cuts.append(spoken(tmp_path / f"{number}.wav", words if number < 4 else None))
    folder = tmp_path / "spoken"
    write_shards(cuts, folder, shard_cuts=2)
    fit_clusters(folder, "units", loudness, 500, FOUR)
    label_shards(folder, "units", loudness)
    labels, words = [], []
    for cut in read_shards(folder, ["units"]):
        own = cut.load_units()
        labels += own.tolist()
        words += frame_units(cut, "word", HOP, len(own)) or [None] * len(own)
    pairs = [(word, label) for word, label in zip(words, labels, strict=True) if word]
    report = label_report(folder, "units", HOP)
    assert report.frames == len(labels) == 5 * 100
    assert (report.clusters, report.used) == (4, len(set(labels)))
    assert 1 < report.perplexity <= report.used
    assert (report.aligned_frames, report.units) == (len(pairs), 3)
    assert report.quality is not None
    assert report.quality.information == pytest.approx(homogeneity_score(*zip(*pairs, strict=True)))
    fit_clusters(shards, "units", loudness, 400, FOUR)
    label_shards(shards, "units", loudness)
    assert label_report(shards, "units", HOP).quality is None
    (folder / "units.000001.tar").unlink()
    with pytest.raises(SettingsError, match=r"units\.000001\.tar is missing"):
        label_report(folder, "units", HOP)


def test_mfcc_labels_know_something_of_words(shared_dir: Path, tmp_path: Path) -> None:
    """Real commands, a second each: labels tell words far better than chance does."""
    pytest.importorskip("torchaudio", reason="MFCC need the extra 'train'")
    from wavlm_meeting.pretraining.mfcc import mfcc_features

    corpus = shared_dir / "corpus"
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["source"] == "speech_commands"][:20]
    cuts = [
        spoken(
            corpus / row["path"],
            [(word, number, 1.0) for number, word in enumerate(row["transcript"].split())],
        )
        for row in rows
    ]
    for cut, row in zip(cuts, rows, strict=True):
        cut.id = row["path"]
    folder = tmp_path / "commands"
    write_shards(cuts, folder, shard_cuts=15)
    features = mfcc_features(HOP)
    settings = KMeansSettings(clusters=20, restarts=2)
    fit_clusters(folder, "mfcc", features, 4000, settings)
    label_shards(folder, "mfcc", features)
    report = label_report(folder, "mfcc", HOP)
    assert report.used == 20
    assert report.quality is not None
    # The information that as many labels have by chance, in nats: (K - 1) (U - 1) / 2 T.
    chance = 19 * (report.units - 1) / (2 * report.aligned_frames)
    assert report.quality.information > 5 * chance / np.log(report.units)


def test_mistakes_are_said(shards: Path) -> None:
    """Names that would touch the audio, parts that are none, and labels before clusters."""
    for field in ("recording", "cuts", "../x", ""):
        with pytest.raises(SettingsError, match="cannot name labels"):
            fit_clusters(shards, field, loudness, 400, FOUR)
        with pytest.raises(SettingsError, match="cannot name labels"):
            label_shards(shards, field, loudness)
    with pytest.raises(SettingsError, match="no clusters"):
        label_shards(shards, "units", loudness)
    with pytest.raises(SettingsError, match="part 3/3"):
        label_shards(shards, "units", loudness, (3, 3))
