"""What people hand over instead of a recording: one clear line each, and the cure in it."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile

from media import Samples, write_media, write_picture, write_silent_film
from wavlm_meeting.audio import open_audio, read_audio
from wavlm_meeting.errors import AudioError, AudioWarning

Writer = Callable[[Path], object]


def wav(samples: Samples, subtype: str = "FLOAT") -> Writer:
    """Make a writer of a WAV file at 16 kHz."""
    return lambda path: soundfile.write(path, samples, 16_000, subtype=subtype)


def with_fault(fault: float) -> Samples:
    """Give two seconds of faint noise with one impossible sample at 1.25 s."""
    samples = np.full(32_000, 0.01, np.float32)
    samples[20_000] = fault
    return samples


MISTAKES: list[tuple[str, Writer, str]] = [
    ("empty.wav", lambda path: path.touch(), r"empty \(0 bytes\)"),
    ("folder.wav", lambda path: path.mkdir(), "a folder, not a recording"),
    ("none.wav", lambda _: None, "no such file; check the path"),
    ("no_samples.wav", wav(np.zeros(0, np.float32)), "only 0.0000 s of audio; give at least 0.1 s"),
    ("short.wav", wav(np.zeros(1599, np.float32)), "only 0.0999 s of audio; give at least 0.1 s"),
    ("nan.wav", wav(with_fault(np.nan)), r"NaN or infinite samples at 1.250 s"),
    ("inf.wav", wav(with_fault(np.inf)), r"NaN or infinite samples at 1.250 s"),
    ("text.wav", lambda path: path.write_text("Good morning, ünï\n" * 99), "a text file"),
    ("text.mp3", lambda path: path.write_text("Good morning"), "a text file"),
    ("text.raw", lambda path: path.write_text("Good morning"), "a text file"),
    ("picture.png", write_picture, "a picture"),
    ("film.mp4", write_silent_film, "the video has no audio stream"),
    ("noise.wav", lambda path: path.write_bytes(NOISE), "convert it to WAV or FLAC first"),
    ("noise.mp3", lambda path: path.write_bytes(NOISE), "convert it to WAV or FLAC first"),
    ("zeros.ogg", lambda path: path.write_bytes(bytes(9999)), "convert it to WAV or FLAC first"),
    ("header.wav", lambda path: path.write_bytes(b"RIFF\x24\0\0\0WAVE"), "not audio that"),
]

NOISE = np.random.default_rng(3).bytes(50_000)


@pytest.mark.parametrize(("name", "write", "says"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_what_is_no_recording_is_told_in_one_line(
    tmp_path: Path, name: str, write: Writer, says: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The message names the file, says what it is, and no decoder writes to the terminal."""
    path = tmp_path / name
    write(path)
    capfd.readouterr()
    with pytest.raises(AudioError, match=says) as caught:
        read_audio(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    assert message.endswith(".")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "url", ["http://example.org/a.wav", "https://example.org/a", "s3://bucket/a.flac", "file:///a"]
)
def test_a_url_is_to_be_downloaded_first(url: str) -> None:
    """Nothing is fetched, whether the address comes as text or as a Path that lost a slash."""
    for source in (url, Path(url)):
        with pytest.raises(AudioError, match="a URL; download it first"):
            open_audio(source)


@pytest.mark.parametrize("name", ["x" * 5000 + ".wav", "a\0b.wav"])
def test_impossible_names_are_refused(name: str) -> None:
    """Names that the system rejects are no crash."""
    with pytest.raises(AudioError, match=r"cannot be opened|no such file"):
        open_audio(name)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_refused(tmp_path: Path) -> None:
    """A recording is read more than once from its start, which a pipe cannot do."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AudioError, match="not a regular file"):
        open_audio(tmp_path / "pipe")


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_a_file_without_permission_is_refused(tmp_path: Path, voice: Samples) -> None:
    """It is there, so the message speaks of its rights."""
    path = tmp_path / "a.wav"
    soundfile.write(path, voice, 16_000)
    path.chmod(0)
    with pytest.raises(AudioError, match="permission"):
        open_audio(path)


def test_a_tenth_of_a_second_is_enough(tmp_path: Path) -> None:
    """The shortest recording that is read."""
    for rate, frames in ((16_000, 1600), (48_000, 4800), (8_000, 800)):
        soundfile.write(tmp_path / "a.wav", np.zeros(frames, np.float32), rate)
        assert len(read_audio(tmp_path / "a.wav")) == 1600


def test_a_fault_in_a_channel_that_is_not_used_is_no_fault(tmp_path: Path) -> None:
    """Picking the sound channel of a damaged file rescues it."""
    tracks = np.stack([with_fault(0.01), with_fault(np.nan)], axis=1)
    soundfile.write(tmp_path / "a.wav", tracks, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav", channel=1), tracks[:, 0])
    with pytest.raises(AudioError, match="NaN"):
        read_audio(tmp_path / "a.wav")


def write_by_sndfile(path: Path, samples: Samples) -> None:
    """Write a file that libsndfile reads."""
    kind = {".opus": "OGG", ".rf64": "RF64"}.get(path.suffix)
    subtype = "OPUS" if path.suffix == ".opus" else None
    soundfile.write(path, samples, 16_000, format=kind, subtype=subtype)


FASTSTART = {"movflags": "faststart"}  # the index comes first, so that a part can be played

CUT: dict[str, Callable[[Path, Samples], object]] = {
    "a.wav": write_by_sndfile,
    "a.rf64": write_by_sndfile,
    "a.aiff": write_by_sndfile,
    "a.flac": write_by_sndfile,
    "a.ogg": write_by_sndfile,
    "a.opus": write_by_sndfile,
    "a.mp3": lambda path, x: write_media(path, x, 16_000, "libmp3lame"),
    "a.m4a": lambda path, x: write_media(path, x, 16_000, "aac", options=FASTSTART),
    "a.mp4": lambda path, x: write_media(path, x, 16_000, "aac", video="mpeg4", options=FASTSTART),
    "a.mkv": lambda path, x: write_media(path, x, 16_000, "aac", video="mpeg4"),
    "a.mka": lambda path, x: write_media(path, x, 16_000, "flac"),
}


@pytest.mark.parametrize("name", list(CUT))
def test_a_cut_file_is_read_to_the_cut(
    tmp_path: Path, speech: Samples, name: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """A warning says at which second it breaks, and what comes before is as in the whole file."""
    path = tmp_path / name
    CUT[name](path, np.tile(speech, 2))
    whole = read_audio(path)
    path.write_bytes(path.read_bytes()[: int(0.6 * path.stat().st_size)])
    capfd.readouterr()
    with pytest.warns(AudioWarning, match="damaged or cut off at") as caught:
        part = read_audio(path)
    assert 0.4 < len(part) / len(whole) < 0.8
    np.testing.assert_allclose(part[:-4000], whole[: len(part) - 4000], atol=1e-6)
    [warning] = caught
    stated_s = float(str(warning.message).split("cut off at ")[1].split(" s")[0])
    assert stated_s == pytest.approx(len(part) / 16_000, abs=0.01)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", list(CUT))
def test_a_whole_file_gives_no_warning(tmp_path: Path, voice: Samples, name: str) -> None:
    """Warnings are errors in this test run: none may come from a sound file."""
    CUT[name](tmp_path / name, voice)
    read_audio(tmp_path / name)


def test_a_wav_of_unknown_length_is_whole(tmp_path: Path, voice: Samples) -> None:
    """Programs that write WAV to a pipe leave the largest length in the header."""
    path = tmp_path / "piped.wav"
    soundfile.write(path, voice, 16_000)
    data = bytearray(path.read_bytes())
    data[4:8] = data[40:44] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    np.testing.assert_array_equal(read_audio(path), voice)


def test_a_flac_of_unknown_length_is_whole(tmp_path: Path, voice: Samples) -> None:
    """So do FLAC encoders: they leave the number of samples at 0."""
    path = tmp_path / "piped.flac"
    soundfile.write(path, voice, 16_000)
    data = bytearray(path.read_bytes())
    data[21] &= 0xF0  # the lower 36 bits from here on count the samples
    data[22:26] = bytes(4)
    path.write_bytes(data)
    with open_audio(path) as reader:
        assert reader.duration_s is None
    np.testing.assert_array_equal(read_audio(path), voice)


def test_an_m4a_without_its_index_cannot_be_read(tmp_path: Path, voice: Samples) -> None:
    """Recorders write the index last; cut before it, nothing can be found."""
    path = write_media(tmp_path / "a.m4a", voice, 16_000, "aac")
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(AudioError, match=r"before its index \('moov'\)"):
        read_audio(path)


def test_almost_nothing_left_is_an_error(tmp_path: Path, voice: Samples) -> None:
    """A file cut within its first tenth of a second gives no warning but an error."""
    path = tmp_path / "a.wav"
    soundfile.write(path, voice, 16_000)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(AudioError, match="damaged from the start"):
        read_audio(path)


def test_an_mp3_with_a_large_picture_before_it_is_read(tmp_path: Path, voice: Samples) -> None:
    """Music players put covers there, in a tag whose size has seven bits to a byte."""
    path = write_media(tmp_path / "a.mp3", voice, 16_000, "libmp3lame")
    plain = read_audio(path)
    size = 300_000
    octets = bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    frame = b"PRIV" + (size - 10).to_bytes(4, "big") + b"\0\0" + bytes(size - 10)
    sound = path.read_bytes()
    assert sound[:3] == b"ID3"  # its own tag follows ours
    path.write_bytes(b"ID3\x03\0\0" + octets + frame + sound)
    np.testing.assert_array_equal(read_audio(path), plain)
