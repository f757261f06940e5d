"""Laws of reading: resampling, channels, blocks, and what must not happen."""

import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from math import gcd
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import butter, resample_poly, sosfiltfilt

from media import LAYOUTS, Samples, write_media
from wavlm_meeting.audio import open_audio, read_audio
from wavlm_meeting.errors import AudioError

RATES = (8_000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000)


def in_speech_band(samples: Samples, rate: int) -> Samples:
    """Keep what lies under 3.4 kHz, without shifting it."""
    return np.asarray(sosfiltfilt(butter(10, 3400, fs=rate, output="sos"), samples), np.float32)


def by_scipy(samples: Samples, rate: int, new_rate: int) -> Samples:
    """Resample by another library's method, with a long filter."""
    common = gcd(rate, new_rate)
    up, down = new_rate // common, rate // common
    return np.asarray(resample_poly(samples, up, down, window=("kaiser", 12.0)), np.float32)


def stream(path: Path, block_s: float) -> Iterator[Samples]:
    """Read a file in blocks."""
    with open_audio(path) as reader:
        yield from reader.blocks(block_s)


@pytest.mark.parametrize("rate", RATES)
def test_resampling_agrees_with_scipy_in_the_speech_band(
    tmp_path: Path, voice: Samples, rate: int
) -> None:
    """At any rate the speech band comes through, 50 dB above the difference to scipy's way."""
    original = by_scipy(voice, 16_000, rate)
    path = tmp_path / "a.wav"
    soundfile.write(path, original, rate, subtype="FLOAT")
    found = read_audio(path)
    assert len(found) == round(len(original) * 16_000 / rate)
    expected = by_scipy(original, rate, 16_000)[: len(found)]
    found = found[: len(expected)]
    middle = slice(800, -800)  # filters see different things beyond the ends
    difference = in_speech_band(found - expected, 16_000)[middle]
    reference = in_speech_band(expected, 16_000)[middle]
    assert np.linalg.norm(difference) < 10 ** (-50 / 20) * np.linalg.norm(reference)


@pytest.mark.parametrize("rate", [*RATES, 12_345, 44_101, 192_000])
def test_the_length_is_exact(tmp_path: Path, rate: int) -> None:
    """There are round(frames * 16000 / rate) samples, whatever the number of frames."""
    for frames in (rate // 5, rate // 5 + 1, rate // 4 + 7, rate // 3 + 2):
        path = tmp_path / "a.wav"
        soundfile.write(path, np.zeros(frames, np.float32), rate)
        exact = frames * 16_000 / rate
        assert abs(len(read_audio(path)) - exact) <= 0.5


@pytest.mark.parametrize(("rate", "channels"), [(16_000, 1), (44_100, 2), (8_000, 5)])
def test_blocks_of_any_size_are_the_whole(
    tmp_path: Path, voice: Samples, rate: int, channels: int
) -> None:
    """Streaming gives the same bits as reading at once."""
    tones = np.stack([voice * (k + 1) / channels for k in range(channels)], axis=1)
    path = tmp_path / "a.wav"
    soundfile.write(path, tones, rate, subtype="PCM_24")
    whole = read_audio(path)
    for block_s in (0.001, 0.37, 1.0, 100.0):
        np.testing.assert_array_equal(np.concatenate(list(stream(path, block_s))), whole)


def test_blocks_are_as_long_as_asked(tmp_path: Path, voice: Samples) -> None:
    """A caller bounds the memory by the block's length."""
    path = tmp_path / "a.flac"
    soundfile.write(path, np.tile(voice, 20), 16_000)  # 70 s, FLAC chunks of 0.256 s
    sizes = [len(block) for block in stream(path, 10.0)]
    assert max(sizes) <= 10.3 * 16_000
    assert min(sizes[:-1]) >= 10.0 * 16_000


@pytest.mark.parametrize("channels", list(LAYOUTS))
def test_channels_are_averaged_or_picked(tmp_path: Path, voice: Samples, channels: int) -> None:
    """Up to eight channels, by either decoder: `channel` counts from 1, the default is the mean."""
    parts = np.array_split(voice, channels)
    tracks = np.zeros((len(voice), channels), np.float32)
    for index, part in enumerate(parts):  # each channel sounds when the others are silent
        begin = sum(map(len, parts[:index]))
        tracks[begin : begin + len(part), index] = part
    soundfile.write(tmp_path / "a.wav", tracks, 16_000)
    write_media(tmp_path / "a.mka", tracks, 16_000, "flac")
    for name in ("a.wav", "a.mka"):
        np.testing.assert_allclose(read_audio(tmp_path / name) * channels, voice, atol=1e-6)
        for index in range(channels):
            picked = read_audio(tmp_path / name, channel=index + 1)
            np.testing.assert_array_equal(picked, tracks[:, index])


def test_a_channel_that_is_not_there_is_refused(tmp_path: Path, voice: Samples) -> None:
    """The message says which channels there are."""
    soundfile.write(tmp_path / "mono.wav", voice, 16_000)
    soundfile.write(tmp_path / "stereo.wav", np.stack([voice, voice], axis=1), 16_000)
    with pytest.raises(AudioError, match="no channel 2; the recording has one channel"):
        read_audio(tmp_path / "mono.wav", channel=2)
    for channel in (0, -1, 3):
        with pytest.raises(AudioError, match=f"no channel {channel}; .* channels 1 to 2"):
            read_audio(tmp_path / "stereo.wav", channel=channel)


def test_reading_is_linear(tmp_path: Path, voice: Samples) -> None:
    """Half as loud is half the samples; the sum of two recordings is the sum of their samples."""
    other = voice[::-1].copy()
    signals = {"a": voice, "half": 0.5 * voice, "b": other, "sum": voice + other}
    for name, signal in signals.items():
        soundfile.write(tmp_path / f"{name}.wav", signal, 44_100, subtype="FLOAT")
    read = {name: read_audio(tmp_path / f"{name}.wav") for name in signals}
    np.testing.assert_array_equal(read["half"], 0.5 * read["a"])
    np.testing.assert_allclose(read["sum"], read["a"] + read["b"], atol=1e-6)


def test_floats_beyond_full_scale_are_kept(tmp_path: Path) -> None:
    """Float files may be louder than 1; nothing is clipped or scaled."""
    samples = np.linspace(-3, 3, 16_000, dtype=np.float32)
    soundfile.write(tmp_path / "a.wav", samples, 16_000, subtype="FLOAT")
    np.testing.assert_array_equal(read_audio(tmp_path / "a.wav"), samples)


@pytest.mark.parametrize(
    "name", ["with space.wav", "ünï-文.wav", "#1 [a] 100%.wav", "-x.wav", "concat:a.wav", "a.raw"]
)
@pytest.mark.parametrize("codec", ["wav", "m4a"])
def test_odd_names_are_only_names(
    tmp_path: Path, voice: Samples, name: str, codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No character of a name has a meaning to a decoder."""
    monkeypatch.chdir(tmp_path)
    if codec == "wav":
        soundfile.write(tmp_path / "plain", voice, 16_000, format="WAV")
    else:
        write_media(tmp_path / "plain.m4a", voice, 16_000, "alac").rename(tmp_path / "plain")
    (tmp_path / "plain").rename(name)
    np.testing.assert_array_equal(read_audio(name), voice)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names themselves")
def test_a_name_that_is_not_utf_8_is_read(tmp_path: Path, voice: Samples) -> None:
    """Files from old disks have names in other encodings."""
    path = tmp_path / os.fsdecode(b"caf\xe9.wav")
    soundfile.write(tmp_path / "a.wav", voice, 16_000)
    (tmp_path / "a.wav").rename(path)
    np.testing.assert_array_equal(read_audio(path), voice)


def test_reading_changes_nothing(tmp_path: Path, voice: Samples) -> None:
    """The recording may be the only copy, on a disk that must not be written to."""
    soundfile.write(tmp_path / "a.wav", voice, 44_100)
    write_media(tmp_path / "b.m4a", voice, 16_000, "aac")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    for path in before:
        path.chmod(0o444)
    tmp_path.chmod(0o555)
    for path in before:
        read_audio(path)
    tmp_path.chmod(0o755)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("suffix", ["m3u8", "mp4", "wav"])
def test_a_playlist_leads_nowhere(tmp_path: Path, voice: Samples, suffix: str) -> None:
    """A file that names others, here or on the network, makes no one open them."""
    asked: list[str] = []

    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_error(404)

        def log_message(self, *_: object) -> None:
            pass

    soundfile.write(tmp_path / "local.wav", voice, 16_000)
    with http.server.HTTPServer(("127.0.0.1", 0), Server) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        for target in (f"http://127.0.0.1:{server.server_port}/a.ts", "local.wav"):
            path = tmp_path / f"list.{suffix}"
            path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{target}\n")
            with pytest.raises(AudioError):
                read_audio(path)
        server.shutdown()
    assert not asked


def test_blocks_are_given_once(tmp_path: Path, voice: Samples) -> None:
    """Reading twice from one reader is a mistake that is told, not an empty recording."""
    soundfile.write(tmp_path / "a.wav", voice, 16_000)
    with open_audio(tmp_path / "a.wav") as reader:
        list(reader.blocks())
        with pytest.raises(RuntimeError, match="open it again"):
            list(reader.blocks())


def test_a_long_recording_takes_little_memory(tmp_path: Path) -> None:
    """20 minutes at 48 kHz stereo, 77 MB as 16 kHz float32, pass through 32 MB."""
    path = tmp_path / "long.wav"
    soundfile.write(path, np.zeros((480, 2), np.int16), 48_000)
    size = 20 * 60 * 48_000 * 4
    with path.open("r+b") as file:  # the samples are a hole in the file: 230 MB that take no disk
        file.truncate(44 + size)
        file.seek(4)
        file.write((36 + size).to_bytes(4, "little"))
        file.seek(40)
        file.write(size.to_bytes(4, "little"))
    program = """
import resource, sys
from wavlm_meeting.audio import open_audio
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with open_audio(sys.argv[1]) as reader:
    blocks = reader.blocks()
    samples, start = len(next(blocks)), peak()
    samples += sum(map(len, blocks))
print(samples, (peak() - start) // 1024)
"""
    answer = subprocess.run(
        [sys.executable, "-c", program, path], capture_output=True, text=True, check=True
    )
    samples, growth_mib = map(int, answer.stdout.split())
    assert samples == 20 * 60 * 16_000
    assert growth_mib < 32
