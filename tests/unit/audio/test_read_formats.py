"""Every format that people record in, written from real speech and read back."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import correlate

from media import Samples, write_media
from wavlm_meeting.audio import open_audio, read_audio

LOSSLESS = [
    ("wav", "PCM_16"),
    ("wav", "PCM_24"),
    ("wav", "PCM_32"),
    ("wav", "FLOAT"),
    ("wav", "DOUBLE"),
    ("flac", "PCM_16"),
    ("flac", "PCM_24"),
    ("aiff", "PCM_16"),
]

LOSSLESS_BY_FFMPEG = [("m4a", "alac"), ("mka", "flac"), ("mov", "pcm_s16le"), ("mov", "pcm_s32le")]

LOSSY_BY_SNDFILE = [("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"), ("wav", "WAV", "ULAW")]

LOSSY = [
    ("mp3", "libmp3lame", 16_000, None),
    ("mp3", "libmp3lame", 44_100, None),
    ("m4a", "aac", 16_000, None),
    ("m4a", "aac", 44_100, None),
    ("webm", "libopus", 48_000, None),
    ("mp4", "aac", 48_000, "mpeg4"),
    ("mp4", "aac", 44_100, "libx264"),
    ("mkv", "aac", 48_000, "libx264"),
    ("avi", "libmp3lame", 44_100, "mpeg4"),
]


def assert_sounds_alike(found: Samples, expected: Samples, *, delay_s: float = 0.0) -> None:
    """Check that two recordings correlate above 0.97 when shifted by at most `delay_s`."""
    correlation = correlate(found, expected, mode="full", method="fft")
    shift = int(np.argmax(correlation)) - (len(expected) - 1)
    assert abs(shift) <= delay_s * 16_000
    assert correlation.max() > 0.97 * np.linalg.norm(found) * np.linalg.norm(expected)


@pytest.mark.parametrize(("suffix", "subtype"), LOSSLESS)
def test_lossless_files_are_read_to_the_bit(
    tmp_path: Path, speech: Samples, suffix: str, subtype: str
) -> None:
    """16 kHz mono passes unaltered, at whatever depth it is stored."""
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, speech, 16_000, subtype=subtype)
    samples = read_audio(path)
    assert samples.dtype == np.float32
    np.testing.assert_array_equal(samples, speech)


@pytest.mark.parametrize(("suffix", "codec"), LOSSLESS_BY_FFMPEG)
def test_lossless_files_are_read_to_the_bit_by_ffmpeg(
    tmp_path: Path, speech: Samples, suffix: str, codec: str
) -> None:
    """The same holds in containers that libsndfile does not know."""
    path = write_media(tmp_path / f"a.{suffix}", speech, 16_000, codec)
    np.testing.assert_array_equal(read_audio(path), speech)


@pytest.mark.parametrize(("suffix", "codec"), [("wav", None), ("mov", "pcm_u8")])
def test_8_bit_files_are_read_to_a_step_of_theirs(
    tmp_path: Path, speech: Samples, suffix: str, codec: str | None
) -> None:
    """Unsigned 8-bit samples come back centred and at full scale, by either decoder."""
    path = tmp_path / f"a.{suffix}"
    if codec is None:
        soundfile.write(path, speech, 16_000, subtype="PCM_U8")
    else:
        write_media(path, speech, 16_000, codec)
    assert np.abs(read_audio(path) - speech).max() <= 1 / 128


@pytest.mark.parametrize(("suffix", "kind", "subtype"), LOSSY_BY_SNDFILE)
def test_lossy_files_sound_alike(
    tmp_path: Path, speech: Samples, suffix: str, kind: str, subtype: str
) -> None:
    """Ogg Vorbis, Opus and telephone WAV are in time and as long as the original."""
    path = tmp_path / f"a.{suffix}"
    soundfile.write(path, speech, 16_000, format=kind, subtype=subtype)
    samples = read_audio(path)
    assert len(samples) == len(speech)
    assert_sounds_alike(samples, speech)


@pytest.mark.parametrize(("suffix", "codec", "rate", "video"), LOSSY)
def test_lossy_files_and_videos_sound_alike(
    tmp_path: Path, speech: Samples, suffix: str, codec: str, rate: int, video: str | None
) -> None:
    """MP3, M4A and the sound of videos; AVI alone keeps the encoder's delay."""
    from soxr import resample

    path = write_media(
        tmp_path / f"a.{suffix}", resample(speech, 16_000, rate), rate, codec, video=video
    )
    samples = read_audio(path)
    assert abs(len(samples) - len(speech)) <= 0.05 * 16_000
    assert_sounds_alike(samples, speech, delay_s=0.03 if suffix == "avi" else 0.002)


def test_the_duration_is_known_from_the_header(tmp_path: Path, speech: Samples) -> None:
    """A progress bar needs the length before the first sample is read."""
    soundfile.write(tmp_path / "a.flac", speech, 16_000)
    write_media(tmp_path / "a.m4a", speech, 16_000, "aac")
    for name in ("a.flac", "a.m4a"):
        with open_audio(tmp_path / name) as reader:
            assert reader.duration_s == pytest.approx(8.0, abs=0.1)


def test_corpus_files_are_read_as_libsndfile_reads_them(shared_dir: Path) -> None:
    """Real Opus, FLAC and, as published, an 8 kHz corpus brought to 16 kHz."""
    for folder in ("librispeech", "vctk", "fsdd"):
        path = min((shared_dir / "corpus/speech" / folder).rglob("*.opus"))
        expected, rate = soundfile.read(path, dtype="float32")
        assert rate == 16_000
        np.testing.assert_array_equal(read_audio(path), expected)
