"""Sources that are live: what comes through a pipe or a recorder is what is in the file."""

import io
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from wavlm_meeting.audio.live import RECORDERS, microphone, piped, played
from wavlm_meeting.audio.pcm import PcmFormat
from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.errors import AudioError

RATE = 16_000


class Pipe:
    """Bytes that come in pieces of any size, as from a pipe."""

    def __init__(self, data: bytes, seed: int = 0) -> None:
        self.stream = io.BytesIO(data)
        self.random = np.random.default_rng(seed)

    def read1(self, size: int = -1, /) -> bytes:
        """Return one byte or more, at most `size`."""
        return self.stream.read(min(size, int(self.random.choice([1, 3, 1000, 1 << 20]))))


def heard(blocks: Iterator[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return all blocks as one."""
    return np.concatenate([np.zeros(0, np.float32), *blocks])


def wav(samples: NDArray[np.float32], subtype: str, rate: int = RATE) -> bytes:
    """Return a WAV file."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, subtype=subtype, format="WAV")
    return file.getvalue()


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE"])
@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (8000, 2)])
def test_a_pipe_gives_what_the_file_gives(
    subtype: str, rate: int, channels: int, speech: NDArray[np.float32], tmp_path: Path
) -> None:
    """Any kind of samples, rate and number of channels are read as from a file on the disk."""
    samples = np.stack([speech[: 2 * RATE], -0.5 * speech[: 2 * RATE]][:channels], axis=1)
    path = tmp_path / "speech.wav"
    path.write_bytes(wav(samples, subtype, rate))
    for seed in range(2):
        found = heard(piped(Pipe(path.read_bytes(), seed)))
        np.testing.assert_allclose(found, read_audio(path), atol=1e-6)
    found = heard(piped(Pipe(path.read_bytes()), channel=channels))
    np.testing.assert_allclose(found, read_audio(path, channel=channels), atol=1e-6)


def test_raw_samples_are_those_of_the_file(speech: NDArray[np.float32]) -> None:
    """Without a header the format is what was said; a last sample cut in two is left out."""
    raw = (speech * 32768).astype("<i2").tobytes()
    np.testing.assert_array_equal(heard(piped(Pipe(raw + b"\x01"))), speech)
    stereo = PcmFormat("int", 16, RATE, 2)
    found = heard(piped(Pipe(raw), raw=stereo, channel=2))
    np.testing.assert_array_equal(found, speech[1::2])


@pytest.mark.parametrize("size", [0, 0x7FFFF000, 0xFFFFFFFF])
def test_a_stream_of_unknown_length_is_read_to_its_end(
    size: int, speech: NDArray[np.float32]
) -> None:
    """Who writes WAV into a pipe cannot know its length: such sizes are passed over."""
    data = bytearray(wav(speech, "PCM_16"))
    data[40:44] = size.to_bytes(4, "little")
    assert data[36:40] == b"data"
    np.testing.assert_array_equal(heard(piped(Pipe(bytes(data)))), speech)


def test_what_follows_the_samples_is_no_sound(speech: NDArray[np.float32]) -> None:
    """Chunks before and behind the samples, of odd lengths too, are passed over."""
    data = wav(speech, "PCM_16")
    note = b"note" + (3).to_bytes(4, "little") + b"abc\0"
    found = heard(piped(Pipe(data[:36] + note + data[36:] + note)))
    np.testing.assert_array_equal(found, speech)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "nothing came"),
        (b"fLaC\0\0\0\x22", "FLAC"),
        (b"RIFF\0\0\0\0AVI LIST", "broken"),
        (b"RIFF\0\0\0\0WAVEdata\x08\0\0\0", "broken"),
        (wav(np.zeros(99, np.float32), "ULAW"), "not plain samples"),
        (wav(np.zeros(99, np.float32), "PCM_16")[:30], "not plain samples"),
    ],
)
def test_what_is_no_stream_of_samples_is_refused(data: bytes, says: str) -> None:
    """The line says what it is and names the cure."""
    with pytest.raises(AudioError, match=says) as caught:
        heard(piped(Pipe(data)))
    assert "ffmpeg" in str(caught.value) or "pipe WAV" in str(caught.value)


def test_a_channel_that_is_not_there_is_refused() -> None:
    """The line says how many there are."""
    with pytest.raises(AudioError, match="no channel 2; it has 1"):
        heard(piped(Pipe(bytes(100)), channel=2))


def test_a_file_is_played_whole(conversation: Path) -> None:
    """As fast as it goes, all samples come, in blocks far shorter than any latency."""
    blocks = list(played(conversation, speed=0))
    assert max(map(len, blocks)) <= 0.1 * RATE
    np.testing.assert_array_equal(np.concatenate(blocks), read_audio(conversation))


def test_a_file_is_played_no_faster_than_asked(silence: Path) -> None:
    """No block comes before its end would have been heard."""
    begin = time.monotonic()
    samples = 0
    for block in played(silence, speed=10):
        samples += len(block)
        assert time.monotonic() - begin >= samples / RATE / 10
    assert samples == 5 * RATE


def recorder(folder: Path, name: str, says: str) -> None:
    """Write a program that stands for a recorder: a second of samples, then `says` and an end."""
    program = folder / name
    code = (
        f"#!{sys.executable}\nimport os, pathlib, sys, time\n"
        f"pathlib.Path({str(folder / 'pid')!r}).write_text(str(os.getpid()))\n"
        "sys.stdout.buffer.write(bytes(range(100)) * 320)\nsys.stdout.flush()\n"
        f"sys.stderr.write({says!r})\n" + ("" if says else "time.sleep(600)\n")
    )
    program.write_text(code)
    program.chmod(0o755)


@pytest.mark.parametrize("name", RECORDERS)
def test_the_microphone_is_what_a_recorder_writes(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The blocks are the recorder's samples, and it has ended when the listening has."""
    recorder(tmp_path, name, "")
    monkeypatch.setenv("PATH", str(tmp_path))
    found = np.zeros(0, np.float32)
    with microphone() as blocks:
        while len(found) < RATE:
            found = np.concatenate([found, next(blocks)])
    np.testing.assert_array_equal(found * 32768, np.frombuffer(bytes(range(100)) * 320, "<i2"))
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_a_recorder_that_stops_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own last line is passed on."""
    recorder(tmp_path, "arecord", "ALSA lib\naudio open error: No such device\n")
    monkeypatch.setenv("PATH", str(tmp_path))
    with (
        pytest.raises(AudioError, match=r"arecord has stopped: audio open error: No such device;"),
        microphone() as blocks,
    ):
        heard(blocks)


def test_without_a_recorder_the_cure_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing to record with: the line names what can be installed."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AudioError, match="none of parec, arecord, rec is installed"), microphone():
        pass
