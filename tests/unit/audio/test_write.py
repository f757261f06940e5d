"""Writing tracks: nothing is lost that the file can hold, and nothing is half there."""

from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from media import write_media
from wavlm_meeting.audio import open_audio, read_audio
from wavlm_meeting.audio import write as write_module
from wavlm_meeting.audio.spool import TrackSpool
from wavlm_meeting.audio.write import Container, GrowingTracks, TrackForm, form_of, write_tracks
from wavlm_meeting.errors import AudioError

Samples = NDArray[np.float32]
RATE = 16_000


def cut(tracks: Samples, size: int) -> Iterator[Samples]:
    """Give tracks (J, N) in blocks."""
    for start in range(0, tracks.shape[1], size):
        yield tracks[:, start : start + size]


@pytest.mark.parametrize(
    ("container", "subtype", "steps"),
    [
        *(("wav", name, steps) for name, steps in (("PCM_16", 2**15), ("PCM_24", 2**23))),
        *(("wav", name, None) for name in ("FLOAT", "DOUBLE")),
        *(("flac", name, steps) for name, steps in (("PCM_16", 2**15), ("PCM_24", 2**23))),
    ],
)
def test_what_is_written_reads_back(
    container: str, subtype: str, steps: int | None, tmp_path: Path, voice: Samples
) -> None:
    """Samples that the file can hold come back to the bit, in the form that was asked for."""
    draw = np.random.default_rng(0)
    noise = draw.uniform(-1, 1, len(voice)).astype(np.float32)
    tracks = np.stack([voice, noise if steps is None else np.floor(noise * steps) / steps])
    tracks = tracks.astype(np.float32)
    paths = [tmp_path / f"{number}.{container}" for number in (1, 2)]
    form = TrackForm(RATE, container, subtype)  # type: ignore[arg-type]
    write_tracks(paths, cut(tracks, 7777), form, len(voice))
    for path, track in zip(paths, tracks, strict=True):
        found = soundfile.info(path)
        assert (found.format.lower(), found.subtype) == (container, subtype)
        np.testing.assert_array_equal(soundfile.read(path, dtype="float32")[0], track)


@pytest.mark.parametrize(
    ("suffix", "subtype", "expected"),
    [
        ("wav", "PCM_16", ("wav", "PCM_16")),
        ("wav", "PCM_24", ("wav", "PCM_24")),
        ("wav", "FLOAT", ("wav", "FLOAT")),
        ("wav", "ULAW", ("wav", "PCM_16")),
        ("flac", "PCM_24", ("flac", "PCM_24")),
        ("aiff", "PCM_24", ("wav", "PCM_24")),
        ("aiff", "PCM_S8", ("wav", "PCM_U8")),
        ("caf", "ALAC_16", ("wav", "PCM_16")),
        ("caf", "ALAC_24", ("wav", "PCM_24")),
        ("ogg", "VORBIS", ("wav", "PCM_16")),
    ],
)
def test_tracks_are_like_their_recording(
    suffix: str, subtype: str, expected: tuple[str, str], tmp_path: Path, voice: Samples
) -> None:
    """Rate, kind of file and kind of samples are the recording's wherever tracks can have them."""
    path = tmp_path / f"x.{suffix}"
    soundfile.write(path, voice, 22_050, subtype)
    with open_audio(path) as reader:
        assert form_of(reader) == TrackForm(22_050, *expected)  # type: ignore[arg-type]


def test_a_kind_of_file_can_be_asked_for(tmp_path: Path, voice: Samples) -> None:
    """Float samples become 24 bits in FLAC, which holds no floats; video becomes WAV of 16 bits."""
    soundfile.write(tmp_path / "x.wav", voice, RATE, "FLOAT")
    with open_audio(tmp_path / "x.wav") as reader:
        assert form_of(reader, "flac") == TrackForm(RATE, "flac", "PCM_24")
    film = write_media(tmp_path / "x.mkv", voice, 48_000, "aac", video="mpeg4")
    with open_audio(film) as reader:
        assert form_of(reader) == TrackForm(48_000, "wav", "PCM_16")


def test_clipping_is_avoided_only_where_there_is_any() -> None:
    """The gain is 1 up to full scale and for floats; beyond, the peak comes to full scale."""
    form = TrackForm(RATE)
    assert (
        form.gain_for(0.5) == form.gain_for(1.0) == TrackForm(RATE, "wav", "FLOAT").gain_for(3) == 1
    )
    assert 3 * form.gain_for(3.0) == pytest.approx(1 - 2**-15)


def test_all_tracks_or_none(tmp_path: Path, voice: Samples) -> None:
    """Where the work stops, older files stay as they were, and nothing else is left."""
    paths = [tmp_path / "1.wav", tmp_path / "2.wav"]
    paths[0].write_text("mine")

    def broken() -> Iterator[Samples]:
        yield np.stack([voice, voice])
        raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="plug"):
        write_tracks(paths, broken(), TrackForm(RATE), 2 * len(voice))
    assert paths[0].read_text() == "mine"
    assert list(tmp_path.iterdir()) == [paths[0]]


@pytest.mark.parametrize("container", ["wav", "flac"])
@pytest.mark.parametrize("missing", [200, 0.5])
def test_a_full_disk_leaves_nothing(container: Container, missing: float, tmp_path: Path) -> None:
    """Where the system takes no more, even of the last bytes, no track is called written.

    FLAC writes its last samples when it is closed.
    """
    resource = pytest.importorskip("resource", reason="needs a limit on the size of files")
    tracks = np.random.default_rng(0).uniform(-1, 1, (2, 2 * RATE)).astype(np.float32)
    paths = [tmp_path / f"{number}.{container}" for number in (1, 2)]
    asked = (paths, [tracks], TrackForm(RATE, container), tracks.shape[1])
    write_tracks(*asked)
    size = min(path.stat().st_size for path in paths)
    for path in paths:
        path.write_text("mine")
    room = size - missing if missing > 1 else size * missing
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(room), before[1]))
    try:
        with pytest.raises(AudioError, match=r"cannot be written.*free some space"):
            write_tracks(*asked)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert sorted(tmp_path.iterdir()) == paths
    assert [path.read_text() for path in paths] == ["mine", "mine"]


def test_long_tracks_are_rf64(
    tmp_path: Path, voice: Samples, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A WAV file whose sizes would not fit has 64-bit ones, and reads like any other."""
    monkeypatch.setattr(write_module, "WAV_LIMIT", 2 * len(voice) - 1)
    write_tracks([tmp_path / "x.wav"], [voice[None]], TrackForm(RATE), len(voice))
    assert soundfile.info(tmp_path / "x.wav").format == "RF64"
    np.testing.assert_array_equal(read_audio(tmp_path / "x.wav"), voice)


def test_a_folder_that_is_gone_is_an_error_of_the_system(tmp_path: Path, voice: Samples) -> None:
    """What the system says is passed on: its own name of the file and its own reason."""
    with pytest.raises(FileNotFoundError, match="gone"):
        write_tracks([tmp_path / "gone/x.wav"], [voice[None]], TrackForm(RATE), len(voice))


@pytest.mark.parametrize("rate", [8000, 11_025, 16_000, 22_050, 44_100, 48_000])
def test_a_spool_keeps_length_and_sound(rate: int, tmp_path: Path) -> None:
    """What was resampled to 16 kHz goes back to its rate at its place, level and exact length."""
    time_s = np.arange(round(1.7 * rate) + 1) / rate
    own = (0.5 * np.sin(2 * np.pi * 440 * time_s)).astype(np.float32)
    heard = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(len(own) * RATE / rate)) / RATE)
    tracks = np.stack([heard, -heard / 2]).astype(np.float32)
    with TrackSpool(2, tmp_path, rate) as spool:
        for block in cut(tracks, 3001):
            spool.append(block)
        spool.finish(len(own))
        for block_s in (0.01, 10.0):
            found = np.concatenate(list(spool.blocks(block_s)), axis=1)
            assert found.shape == (2, len(own))
            inner = slice(rate // 10, -rate // 10)
            np.testing.assert_allclose(found[0, inner], own[inner], atol=2e-3)
            np.testing.assert_allclose(found[1, inner], -own[inner] / 2, atol=2e-3)
        assert spool.peak == pytest.approx(np.abs(found).max(), abs=0.02)
        assert spool.peak_together == pytest.approx(0.75, abs=0.05)


def test_a_spool_at_16_khz_alters_nothing(voice: Samples, tmp_path: Path) -> None:
    """Without resampling the samples come back to the bit; what is missing at the end is silent."""
    tracks = np.stack([voice, voice[::-1]])
    with TrackSpool(2, tmp_path) as spool:
        for block in cut(tracks, 999):
            spool.append(block)
        assert spool.frames == len(voice)
        spool.finish(len(voice) + 3)
        found = np.concatenate(list(spool.blocks(0.3)), axis=1)
        assert spool.peak == np.abs(tracks).max()
    np.testing.assert_array_equal(found, np.pad(tracks, ((0, 0), (0, 3))))


def test_tracks_can_be_read_while_they_grow(tmp_path: Path, voice: Samples) -> None:
    """After each block the file is a whole WAV of what was written so far."""
    paths = [tmp_path / "1.wav", tmp_path / "2.wav"]
    tracks = np.stack([voice, 2.0 * np.ones_like(voice)])
    written = 0
    with GrowingTracks(paths) as growing:
        assert len(soundfile.read(paths[0])[0]) == 0
        for block in cut(tracks, 16_000):
            growing.append(block)
            written += block.shape[1]
            for path, track in zip(paths, np.clip(tracks, -1, 1 - 2**-15), strict=True):
                found, rate = soundfile.read(path, dtype="float32")
                assert rate == RATE
                np.testing.assert_array_equal(found, track[:written])
        assert growing.clipped == len(voice)


def test_tracks_that_cannot_grow_are_let_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If one of the files cannot be begun, those before it are closed."""
    opened, really = [], Path.open

    def remembered(path: Path, *how: Any, **more: Any) -> IO[Any]:
        opened.append(really(path, *how, **more))
        return opened[-1]

    (tmp_path / "2.wav").mkdir()
    monkeypatch.setattr(Path, "open", remembered)
    with pytest.raises(OSError, match=r"2\.wav"):
        GrowingTracks([tmp_path / "1.wav", tmp_path / "2.wav"])
    assert [file.closed for file in opened] == [True]


def test_a_reader_tells_what_it_reads(tmp_path: Path, voice: Samples) -> None:
    """Rate and kind are told from the start, and the number of frames once all are read."""
    soundfile.write(tmp_path / "x.flac", np.stack([voice, voice], axis=1), 44_100, "PCM_24")
    with open_audio(tmp_path / "x.flac") as reader:
        assert (reader.rate, reader.container, reader.subtype) == (44_100, "FLAC", "PCM_24")
        heard = sum(len(block) for block in reader.blocks())
        assert reader.frames == len(voice)
        assert heard == round(len(voice) * RATE / 44_100)
