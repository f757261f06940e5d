"""Pieces of recordings: what stands at that place in the file, in every format, at any speed."""

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavlm_meeting.errors import AudioError, SettingsError

pytest.importorskip("lhotse", reason="training needs the extra 'train'")

from lhotse import CutSet, Recording, SupervisionSegment

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.training.recordings import Recordings, Row, gather, read_recordings

RATE = 16_000


def chirp(seconds: float, rate: int) -> np.ndarray:
    """Give a tone that rises from 200 Hz by 200 Hz a second: no two places are alike."""
    time = np.arange(int(seconds * rate)) / rate
    return 0.5 * np.sin(2 * np.pi * (200 * time + 100 * time**2))


def recording_of(path: Path, seconds: float, *, cache: bool = False) -> Recordings:
    """Give a file as the only recording."""
    return gather([Row(str(path), 0.0, seconds, "a")], cache=cache)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
@pytest.mark.parametrize("cache", [False, True])
def test_a_piece_is_what_stands_there(tmp_path: Path, suffix: str, *, cache: bool) -> None:
    """Sample for sample, whether the file is sought in or kept; all channels averaged."""
    samples = np.stack([chirp(4.0, RATE), -0.5 * chirp(4.0, RATE)], axis=1)
    soundfile.write(tmp_path / f"a.{suffix}", samples, RATE, "PCM_16")
    whole = read_audio(tmp_path / f"a.{suffix}")
    recordings = recording_of(tmp_path / f"a.{suffix}", 4.0, cache=cache)
    for offset, count in ((0, 100), (12_345, 20_000), (63_900, 100)):
        piece = recordings.read(0, offset, count)
        assert piece.dtype == np.float32
        assert np.abs(piece - whole[offset : offset + count]).max() < 2 / 32768


@pytest.mark.parametrize(("suffix", "rate"), [("ogg", 16_000), ("mp3", 16_000), ("wav", 44_100)])
def test_other_formats_and_rates_give_the_same_place(
    tmp_path: Path, suffix: str, rate: int
) -> None:
    """Compressed files are decoded, others resampled: the piece is where the whole has it."""
    soundfile.write(tmp_path / f"a.{suffix}", chirp(3.0, rate), rate)
    whole = read_audio(tmp_path / f"a.{suffix}")
    for cache in (False, True):
        piece = recording_of(tmp_path / f"a.{suffix}", 3.0, cache=cache).read(0, 20_000, 8000)
        assert np.abs(piece - whole[20_000:28_000])[100:-100].max() < 0.01


@pytest.mark.parametrize("speed", [0.9, 1.1])
@pytest.mark.parametrize("cache", [False, True])
def test_speed_moves_pitch_and_time_together(tmp_path: Path, speed: float, *, cache: bool) -> None:
    """At 0.9 a tone of 1,000 Hz is one of 900 Hz, and a recording is a ninth longer."""
    time = np.arange(3 * RATE) / RATE
    soundfile.write(tmp_path / "a.wav", 0.5 * np.sin(2 * np.pi * 1000 * time), RATE)
    recordings = recording_of(tmp_path / "a.wav", 3.0, cache=cache)
    assert recordings.length(0, speed) == pytest.approx(3 * RATE / speed, abs=1)
    piece = recordings.read(0, 5000, RATE, speed)
    assert len(piece) == RATE
    assert np.abs(np.fft.rfft(piece)).argmax() == round(1000 * speed)
    last = recordings.length(0, speed) - 8000
    assert np.abs(recordings.read(0, last, 8000, speed)).max() > 0.4


def test_a_short_recording_begins_again(tmp_path: Path) -> None:
    """From any place on, as often as it takes."""
    soundfile.write(tmp_path / "a.wav", chirp(0.5, RATE), RATE)
    recordings = recording_of(tmp_path / "a.wav", 0.5)
    whole = recordings.read(0, 0, 8000)
    expected = np.tile(whole, 4)[3000:23_000]
    assert np.array_equal(recordings.read(0, 3000, 20_000), expected)


def test_cuts_begin_within_their_files(tmp_path: Path) -> None:
    """A cut's first sample is that at its start, and it ends where it ends."""
    soundfile.write(tmp_path / "a.wav", chirp(4.0, RATE), RATE, "FLOAT")
    whole = chirp(4.0, RATE).astype(np.float32)
    recordings = gather([Row(str(tmp_path / "a.wav"), 1.5, 1.0)])
    assert np.array_equal(recordings.read(0, 0, RATE), whole[24_000:40_000])
    assert np.array_equal(recordings.read(0, 0, RATE + 10)[RATE:], whole[24_000:24_010])


def test_a_manifest_says_who_when_and_where(tmp_path: Path) -> None:
    """Speakers, sessions and sources as numbers; the unlabelled are nobody, on no occasion."""
    with CutSet.open_writer(tmp_path / "cuts.jsonl.gz") as writer:
        for number, (speaker, session, source) in enumerate(
            [("b", "s1", "x"), ("a", "s1", "y"), ("b", "s2", "x"), ("b", "s1", "x"), ("", "", "")]
        ):
            path = tmp_path / f"{number}.wav"
            soundfile.write(path, chirp(1.0 + number, RATE), RATE)
            cut = Recording.from_file(path, recording_id=str(number)).to_cut()
            own = {"session": session}
            if speaker:
                cut.supervisions = [
                    SupervisionSegment("s", cut.id, 0, cut.duration, speaker=speaker, custom=own)
                ]
            cut.custom = {"source": source}
            writer.write(cut)
    found = read_recordings(tmp_path / "cuts.jsonl.gz")
    assert found.speaker_names == ["a", "b"]
    assert found.speakers.tolist() == [1, 0, 1, 1, -1]
    assert found.source_names == ["x", "y"]
    assert found.sources.tolist() == [0, 1, 0, 0, -1]
    sessions = found.sessions.tolist()
    assert sessions[0] == sessions[3]
    assert len(set(sessions)) == 4  # "s1" of two speakers are two occasions
    assert [found.length(index) for index in range(5)] == [RATE * (1 + n) for n in range(5)]
    assert os.fsdecode(found.paths[2]) == str(tmp_path / "2.wav")


def test_a_folder_is_its_files_by_their_first_folder(tmp_path: Path) -> None:
    """As MUSAN lies on a disk: kind, collection, file."""
    for name in ("noise/free/a.wav", "music/b.flac", "c.ogg"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(tmp_path / name, chirp(1.0, RATE), RATE)
    found = read_recordings(tmp_path)
    names = [*found.source_names, ""]
    kinds = {
        Path(os.fsdecode(path)).name: names[source]
        for path, source in zip(found.paths, found.sources, strict=True)
    }
    assert kinds == {"a.wav": "noise", "b.flac": "music", "c.ogg": ""}
    assert found.speakers.tolist() == [-1, -1, -1]


def test_what_cannot_be_read_is_said(tmp_path: Path) -> None:
    """A missing manifest, one of something else, a missing or damaged file: each with its name."""
    with pytest.raises(SettingsError, match="no such manifest"):
        read_recordings(tmp_path / "cuts.jsonl.gz")
    (tmp_path / "other.jsonl").write_text('{"id": "a"}\n')
    with pytest.raises(SettingsError, match=r"other\.jsonl: not a manifest of cuts"):
        read_recordings(tmp_path / "other.jsonl")
    with pytest.raises(AudioError, match=r"gone\.wav: cannot be read"):
        recording_of(tmp_path / "gone.wav", 3.0).read(0, 0, 100)
    soundfile.write(tmp_path / "a.wav", chirp(1.0, RATE), RATE)
    with pytest.raises(AudioError, match="write the manifest again"):
        recording_of(tmp_path / "a.wav", 3.0).read(0, 2 * RATE, 100)
    broken = np.zeros(RATE, np.float32)
    broken[500] = np.nan
    soundfile.write(tmp_path / "b.wav", broken, RATE, "FLOAT")
    with pytest.raises(AudioError, match=r"b\.wav: NaN or infinite samples"):
        recording_of(tmp_path / "b.wav", 1.0).read(0, 400, 200)
    assert not recording_of(tmp_path / "b.wav", 1.0).read(0, 600, 200).any()
