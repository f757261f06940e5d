"""Shards hold what was read, go on where they were stopped, and name what could not be read."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavlm_meeting.audio import read_audio
from wavlm_meeting.errors import AudioError, SettingsError

pytest.importorskip("lhotse", reason="shards need the extra 'train'")

from lhotse import MonoCut, Recording, SupervisionSegment
from lhotse.supervision import AlignmentItem

from wavlm_meeting.training.shards import (
    INDEX,
    folder_cuts,
    read_index,
    read_shards,
    write_field,
    write_shards,
)

KILLED = """
import os, signal, sys
from pathlib import Path
from wavlm_meeting.training.shards import folder_cuts, write_shards

def killing(root):
    for number, cut in enumerate(folder_cuts(sorted((root / "in").iterdir()), root)):
        if number == 9:
            os.kill(os.getpid(), signal.SIGKILL)
        yield cut

root = Path(sys.argv[1])
write_shards(killing(root), root / "parts", 2, (1, 2))
"""
"""Part 1 of 2 is killed while it reads the source 9: in the middle of its third shard."""


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
    assert all(reason.startswith("Error opening") for reason in skipped.values()), skipped
    assert not any("\n" in reason for reason in skipped.values())
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


def held(folder: Path) -> dict[int, list[tuple[str, bytes]]]:
    """Return the names and samples of each shard's cuts."""
    return {
        shard.number: [
            (cut.id, cut.load_audio().tobytes())
            for cut in read_shards(folder, numbers=[shard.number])
        ]
        for shard in read_index(folder)
    }


def test_parts_together_are_the_whole(tmp_path: Path) -> None:
    """Each of three processes writes every third source, under numbers of its own."""
    tones(tmp_path / "in", [1.0 + 0.1 * n for n in range(11)])
    paths = sorted((tmp_path / "in").iterdir())
    write_shards(folder_cuts(paths, tmp_path), tmp_path / "whole", 2)
    for own in (2, 0, 1):
        index = write_shards(folder_cuts(paths, tmp_path), tmp_path / "parts", 2, (own, 3))
        assert [shard.number % 3 for shard in index] == [own, own]
    parts = held(tmp_path / "parts")
    assert list(parts) == [0, 1, 2, 3, 4, 5]
    assert [name for name, _ in parts[1] + parts[4]] == [f"in/{n:02d}.wav" for n in (1, 4, 7, 10)]
    together = sorted(cut for cuts in parts.values() for cut in cuts)
    assert together == sorted(cut for cuts in held(tmp_path / "whole").values() for cut in cuts)


def test_a_killed_part_goes_on(tmp_path: Path) -> None:
    """Killed hard in the middle of a shard, it ends as it would have without."""
    paths = tones(tmp_path / "in", [1.0 + 0.1 * n for n in range(13)])
    write_shards(folder_cuts(paths, tmp_path), tmp_path / "parts", 2, (0, 2))
    killed = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert [shard.number for shard in read_index(tmp_path / "parts")] == [0, 1, 2, 3, 4, 6]
    for own in range(2):
        write_shards(folder_cuts(paths, tmp_path), tmp_path / "parts", 2, (own, 2))
        write_shards(folder_cuts(paths, tmp_path), tmp_path / "whole", 2, (own, 2))
    assert read_index(tmp_path / "parts") == read_index(tmp_path / "whole")
    assert held(tmp_path / "parts") == held(tmp_path / "whole")
    names = {path.name for path in (tmp_path / "parts").iterdir()}
    assert names == {path.name for path in (tmp_path / "whole").iterdir()}


def test_another_number_of_parts_is_refused(tmp_path: Path) -> None:
    """Begun in two, it is not gone on with in one or three; a part that is missing is named."""
    paths = tones(tmp_path / "in", [1.0, 1.5, 2.0])
    write_shards(folder_cuts(paths, tmp_path), tmp_path / "out", part=(0, 2))
    for part in ((0, 1), (0, 3)):
        with pytest.raises(SettingsError, match="begun in 2 parts; go on in 2 parts, or write in"):
            write_shards(folder_cuts(paths, tmp_path), tmp_path / "out", part=part)
    with pytest.raises(SettingsError, match=r"part 1/2 is missing; .* --part 1/2"):
        read_index(tmp_path / "out")
    with pytest.raises(SettingsError, match="from 0 to N - 1"):
        write_shards(folder_cuts(paths, tmp_path), tmp_path / "out", part=(2, 2))
    write_shards(folder_cuts(paths, tmp_path), tmp_path / "one")
    with pytest.raises(SettingsError, match="begun without parts"):
        write_shards(folder_cuts(paths, tmp_path), tmp_path / "one", part=(0, 2))


def test_a_part_may_be_empty(tmp_path: Path) -> None:
    """With more parts than sources, the rest is none and no mistake."""
    paths = tones(tmp_path / "in", [1.0])
    for own in range(2):
        write_shards(folder_cuts(paths, tmp_path), tmp_path / "out", part=(own, 2))
    assert [cut.id for cut in read_shards(tmp_path / "out")] == ["in/00.wav"]


def test_a_changed_folder_is_noticed(tmp_path: Path) -> None:
    """Gone, renamed, other in length, or more than at the end: never mixed with what is there."""
    paths = tones(tmp_path / "in", [1.0, 1.5, 2.0, 2.5])
    more = tones(tmp_path / "more", [1.2])
    longer = tones(tmp_path / "other" / "in", [1.0, 1.75])[1]

    def write(sources: list[Path], shard_cuts: int = 3) -> None:
        write_shards(folder_cuts(sources, tmp_path), tmp_path / "out", shard_cuts)

    write(paths)
    before = held(tmp_path / "out")
    renamed = paths[0].with_name("first.wav")
    renamed.write_bytes(paths[0].read_bytes())
    changes = [paths[:2], [renamed, *paths[1:]], [paths[1], paths[0], *paths[2:]], [*paths, *more]]
    for change in changes:
        with pytest.raises(SettingsError, match=r"other files than are there now.*new folder"):
            write(change)
    with pytest.raises(SettingsError, match="in another size"):
        write(paths, shard_cuts=5)
    paths[1].write_bytes(longer.read_bytes())
    with pytest.raises(SettingsError, match="other files than are there now"):
        write(paths)
    assert held(tmp_path / "out") == before


def test_all_channels_are_heard(tmp_path: Path) -> None:
    """A shard holds the mean of the channels, as `diarize` reads a file; pieces do, too."""
    rng = np.random.default_rng(0)
    time = np.arange(32 * 44_100) / 44_100
    voices = [np.sin(2 * np.pi * pitch * time) for pitch in (200, 310, 470)]
    channels = 0.9 * np.stack(voices, axis=1) + rng.normal(0, 0.01, (len(time), 3))
    path = tmp_path / "three.wav"
    soundfile.write(path, channels, 44_100, "FLOAT")
    write_shards(folder_cuts([path], tmp_path), tmp_path / "out")
    cuts = list(read_shards(tmp_path / "out"))
    assert [cut.duration for cut in cuts] == [30.0, 2.0]
    expected = read_audio(path)
    for cut, start in zip(cuts, (0, 30), strict=True):
        samples = cut.load_audio()[0]
        beside = expected[start * 16_000 :][: len(samples)]
        inner = slice(100, -100)  # the resamplers differ at the edges
        assert np.abs(samples - beside)[inner].max() < 0.01
        assert np.corrcoef(samples[inner], beside[inner])[0, 1] > 0.9999


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


def test_words_stay_where_they_are_spoken(tmp_path: Path) -> None:
    """A piece from the middle of a recording: its words' times count from its own start."""
    (path,) = tones(tmp_path / "in", [4.0])
    recording = Recording.from_file(path)
    word = AlignmentItem("word", 2.5, 0.5)
    said = SupervisionSegment("said", recording.id, 1.0, 2.0).with_alignment("word", [word])
    piece = MonoCut("piece", 1.0, 3.0, 0, recording=recording, supervisions=[said])
    write_shards([piece], tmp_path / "out")
    (found,) = read_shards(tmp_path / "out")
    (item,) = found.supervisions[0].alignment["word"]
    assert (item.start, item.duration) == (1.5, 0.5)
    assert found.supervisions[0].start == 1.0
    assert word.start == 2.5
