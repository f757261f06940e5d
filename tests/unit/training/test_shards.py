"""Shards hold what was read, go on where they were stopped, and name what could not be read."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavlm_meeting.errors import AudioError, SettingsError

pytest.importorskip("lhotse", reason="shards need the extra 'train'")

from wavlm_meeting.training.shards import (
    INDEX,
    folder_cuts,
    read_index,
    read_shards,
    write_field,
    write_shards,
)


def tones(folder: Path, seconds: list[float], rate: int = 16_000) -> list[Path]:
    """Write one file for each length, each a tone of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number, length in enumerate(seconds):
        time = np.arange(int(length * rate)) / rate
        paths.append(folder / f"{number:02d}.wav")
        soundfile.write(paths[-1], 0.3 * np.sin(2 * np.pi * (200 + 50 * number) * time), rate)
    return paths


def pitch(samples: np.ndarray) -> float:
    """Return the strongest frequency."""
    return float(np.abs(np.fft.rfft(samples)).argmax() * 16_000 / len(samples))


def test_what_is_read_is_what_was_written(tmp_path: Path) -> None:
    """Ids, lengths and sound, resampled; long files in pieces; short ones listed."""
    paths = [*tones(tmp_path / "a", [2.0, 0.5, 65.0]), *tones(tmp_path / "b", [3.0], 44_100)]
    index = write_shards(folder_cuts(paths, tmp_path), tmp_path / "out", shard_cuts=2)
    assert [shard.cuts for shard in index] == [2, 2, 1]
    assert index == read_index(tmp_path / "out")
    assert [u for shard in index for u in shard.skipped] == [("a/01.wav", "shorter than 1 s")]
    cuts = list(read_shards(tmp_path / "out"))
    assert [cut.id for cut in cuts] == [
        "a/00.wav", "a/02.wav-0000", "a/02.wav-0001", "a/02.wav-0002", "b/00.wav",
    ]  # fmt: skip
    assert [cut.duration for cut in cuts] == [2.0, 30.0, 30.0, 5.0, 3.0]
    assert sum(shard.seconds for shard in index) == 70.0
    for cut, expected in zip(cuts, (200, 300, 300, 300, 200), strict=True):
        samples = cut.load_audio()
        assert samples.shape == (1, round(cut.duration * 16_000))
        assert pitch(samples[0]) == pytest.approx(expected, abs=1)


def test_broken_files_are_listed_not_fatal(tmp_path: Path) -> None:
    """A text, an empty file and a cut header are in the index with a reason; the rest is there."""
    paths = tones(tmp_path / "in", [2.0, 2.0])
    broken = {
        "text.wav": b"not audio",
        "empty.flac": b"",
        "cut.wav": paths[0].read_bytes()[:30],
    }
    for name, content in broken.items():
        (tmp_path / "in" / name).write_bytes(content)
    everything = sorted((tmp_path / "in").iterdir())
    index = write_shards(folder_cuts(everything, tmp_path), tmp_path / "out")
    assert [shard.cuts for shard in index] == [2]
    skipped = {u.name: u.reason for shard in index for u in shard.skipped}
    assert skipped.keys() == {f"in/{name}" for name in broken}
    assert all(reason and "\n" not in reason for reason in skipped.values())
    with pytest.raises(AudioError, match="no recording could be read; 3 were tried"):
        write_shards(
            folder_cuts([tmp_path / "in" / name for name in broken], tmp_path), tmp_path / "none"
        )


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    """Stopped in the second shard: the first is kept, and the end is that of an unbroken run."""
    paths = tones(tmp_path / "in", [1.0 + 0.1 * n for n in range(7)])

    def stopping() -> object:
        for number, cut in enumerate(folder_cuts(paths, tmp_path)):
            if number == 5:
                raise KeyboardInterrupt
            yield cut

    with pytest.raises(KeyboardInterrupt):
        write_shards(stopping(), tmp_path / "out", shard_cuts=3)
    assert len(read_index(tmp_path / "out")) == 1
    first = (tmp_path / "out" / "recording.000000.tar").stat().st_mtime_ns
    write_shards(folder_cuts(paths, tmp_path), tmp_path / "out", shard_cuts=3)
    write_shards(folder_cuts(paths, tmp_path), tmp_path / "whole", shard_cuts=3)
    assert (tmp_path / "out" / "recording.000000.tar").stat().st_mtime_ns == first
    assert read_index(tmp_path / "out") == read_index(tmp_path / "whole")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {path.name for path in (tmp_path / "whole").iterdir()}
    ids = [cut.id for cut in read_shards(tmp_path / "out")]
    assert ids == [f"in/{number:02d}.wav" for number in range(7)]


def test_fields_come_back_with_their_cuts(tmp_path: Path) -> None:
    """Arrays of any length stand beside the audio, each with its own cut."""
    paths = tones(tmp_path / "in", [1.0, 1.5, 2.0])
    index = write_shards(folder_cuts(paths, tmp_path), tmp_path / "out", shard_cuts=2)
    for shard in index:
        cuts = read_shards(tmp_path / "out", numbers=[shard.number])
        values = ((c.id, np.arange(int(c.duration * 50), dtype=np.uint16)) for c in cuts)
        write_field(tmp_path / "out", "labels", shard.number, values)
    for cut in read_shards(tmp_path / "out", ["labels"]):
        assert cut.load_labels().tolist() == list(range(int(cut.duration * 50)))
    (tmp_path / "out" / "labels.000001.tar").unlink()
    with pytest.raises(SettingsError, match=r"labels\.000001\.tar is missing"):
        read_shards(tmp_path / "out", ["labels"])


def test_no_index_is_said(tmp_path: Path) -> None:
    """A folder that is no folder of shards names the command that makes one."""
    with pytest.raises(SettingsError, match="wavlm-meeting manifest"):
        read_index(tmp_path)
    (tmp_path / INDEX).write_text(json.dumps({"number": 0, "cuts": 0, "seconds": 0, "consumed": 1,
                                              "skipped": [["a", "b"]]}) + "\n")  # fmt: skip
    assert read_index(tmp_path)[0].skipped[0].reason == "b"
