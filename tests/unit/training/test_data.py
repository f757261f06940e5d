"""Batches from shards: within their seconds, labels in step with the audio, resumable anywhere."""

from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig

pytest.importorskip("lhotse", reason="shards need the extra 'train'")

from wavlm_meeting.pretraining.settings import BatchSettings
from wavlm_meeting.pretraining.task import PretrainingBatch
from wavlm_meeting.training.data import SpeechBatches
from wavlm_meeting.training.shards import folder_cuts, read_shards, write_field, write_shards

CONFIG = WavLMConfig(conv_layers=((8, 10, 5), (8, 8, 8), (8, 8, 8)), width=16, heads=2)
"""Frames of 320 samples."""
SETTINGS = BatchSettings(seconds=12.0, longest_s=4.0, shortest_s=1.5, buckets=3, buffer=50, block=2)
LENGTHS = [1.2, *np.linspace(1.5, 9.0, 30).round(2).tolist()]


@pytest.fixture(scope="module")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write speech whose samples tell where they are: frame t holds the value t / 1000."""
    root = tmp_path_factory.mktemp("speech")
    (root / "in").mkdir()
    for number, length in enumerate(LENGTHS):
        samples = (np.arange(int(length * 16_000)) // CONFIG.hop) / 1000
        soundfile.write(root / "in" / f"{number:02d}.flac", samples, 16_000, "PCM_24")
    paths = sorted((root / "in").iterdir())
    index = write_shards(folder_cuts(paths, root / "in"), root / "out", shard_cuts=8)
    for shard in index:
        cuts = read_shards(root / "out", numbers=[shard.number])
        frames = (
            (cut.id, np.arange(CONFIG.frame_count(cut.num_samples), dtype=np.uint16))
            for cut in cuts
        )
        write_field(root / "out", "labels", shard.number, frames)
    return root / "out"


def batches(shards: Path, count: int, first: int = 0, seed: int = 1) -> list[PretrainingBatch]:
    """Return some batches of the stream."""
    stream = SpeechBatches(shards, ("labels",), CONFIG, SETTINGS, seed, first)
    return list(islice(stream, count))


def test_labels_are_those_of_the_samples_they_stand_by(shards: Path) -> None:
    """Wherever a cut is cropped, frame t's label is what its samples say."""
    starts = set()
    for batch in batches(shards, 30):
        (labels,) = batch.labels
        for wave, length, row in zip(batch.waveforms, batch.lengths.tolist(), labels, strict=True):
            frames = CONFIG.frame_count(length)
            assert (row[frames:] == -1).all()
            assert not wave[length:].any()
            heard = (wave[:: CONFIG.hop][:frames] * 1000).round().long()
            assert heard.equal(row[:frames])
            starts.add(int(row[0]))
    assert len(starts) > 10  # crops begin all over the long ones


def test_batches_hold_their_seconds_and_little_padding(shards: Path) -> None:
    """By seconds, not by count; short cuts are left out; every other one comes up."""
    seen: set[str] = set()
    for batch in batches(shards, 60):
        assert batch.lengths.max() <= 4.0 * 16_000
        assert batch.lengths.min() >= 1.5 * 16_000
        assert batch.lengths.sum() <= 12.5 * 16_000
        seen |= set(batch.ids)
    assert seen == {f"{n:02d}.flac" for n in range(1, len(LENGTHS))}


def test_the_stream_begins_anywhere(shards: Path) -> None:
    """From batch 17 on, a new stream gives what the old one gave; another seed does not."""
    whole = batches(shards, 25)
    rest = batches(shards, 8, first=17)
    for old, new in zip(whole[17:], rest, strict=True):
        assert old.ids == new.ids
        assert old.waveforms.equal(new.waveforms)
        assert old.labels[0].equal(new.labels[0])
    other = batches(shards, 25, seed=2)
    assert [b.ids for b in other] != [b.ids for b in whole]


def test_workers_share_the_shards(shards: Path) -> None:
    """Two workers read different shards and together all of them; too many are refused."""
    stream = SpeechBatches(shards, ("labels",), CONFIG, SETTINGS, 1)
    loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2)
    found = list(islice(loader, 80))
    even, odd = ({i for b in found[start::2] for i in b.ids} for start in (0, 1))
    assert not even & odd
    assert len(even | odd) == len(LENGTHS) - 1
    many = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=5)
    with pytest.raises(SettingsError, match="4 shards are too few"):
        list(islice(many, 10))


def test_what_is_missing_is_said_at_once(shards: Path) -> None:
    """Labels that were never written, and settings that leave nothing, are a user's errors."""
    with pytest.raises(SettingsError, match=r"other\.000000\.tar is missing"):
        SpeechBatches(shards, ("other",), CONFIG, SETTINGS, 1)
    nothing = SETTINGS.model_copy(update={"shortest_s": 20.0, "longest_s": 30.0})
    with pytest.raises(SettingsError, match="lower shortest_s"):
        next(iter(SpeechBatches(shards, (), CONFIG, nothing, 1)))


@pytest.mark.parametrize("first", [7, 8])
def test_the_stream_begins_anywhere_with_workers_too(shards: Path, first: int) -> None:
    """Batches of two workers, from an odd or an even number on, come in the old order."""

    def loaded(begin: int, count: int) -> list[PretrainingBatch]:
        stream = SpeechBatches(shards, ("labels",), CONFIG, SETTINGS, 1, begin)
        loader = torch.utils.data.DataLoader(stream, batch_size=None, num_workers=2)
        return list(islice(loader, count))

    whole, rest = loaded(0, 16), loaded(first, 16 - first)
    assert [batch.ids for batch in rest] == [batch.ids for batch in whole[first:]]
    for old, new in zip(whole[first:], rest, strict=True):
        assert old.waveforms.equal(new.waveforms)


def test_noise_comes_with_each_batch(shards: Path, tmp_path: Path) -> None:
    """Pieces of the noise set, cropped, the same after a stop; without a set there are none."""
    (tmp_path / "in").mkdir()
    for number in range(6):
        samples = np.full(int((1.5 + number) * 16_000), (number + 1) / 10)
        soundfile.write(tmp_path / "in" / f"{number}.wav", samples, 16_000)
    paths = sorted((tmp_path / "in").iterdir())
    write_shards(folder_cuts(paths, tmp_path / "in"), tmp_path / "noise", shard_cuts=3)

    def stream(first: int) -> list[PretrainingBatch]:
        source = SpeechBatches(shards, (), CONFIG, SETTINGS, 1, first, tmp_path / "noise")
        return list(islice(source, 20 - first))

    whole, rest = stream(0), stream(13)
    values = set()
    for batch in whole:
        assert batch.noises is not None
        assert batch.noise_lengths is not None
        assert batch.noises.shape[0] == SETTINGS.noises
        assert batch.noise_lengths.max() <= 4.0 * 16_000
        for noise, length in zip(batch.noises, batch.noise_lengths.tolist(), strict=True):
            assert not noise[length:].any()
            assert noise[:length].std() < 1e-3
            values.add(round(float(noise[0]), 2))
    assert values == {0.1, 0.2, 0.3, 0.4, 0.5, 0.6}
    for old, new in zip(whole[13:], rest, strict=True):
        assert old.noises.equal(new.noises)
    assert batches(shards, 1)[0].noises is None
    with pytest.raises(SettingsError, match="no index"):
        SpeechBatches(shards, (), CONFIG, SETTINGS, 1, 0, tmp_path / "in")
