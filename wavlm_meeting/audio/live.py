"""Audio as it comes: a file played at its own speed, a pipe, or the microphone.

Each source is an iterator of mono blocks at 16 kHz that waits until the samples are there.
"""

import io
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np
import soxr
from numpy.typing import NDArray

from wavlm_meeting.audio.pcm import PcmFormat, Readable, read_exactly, read_wav_header, samples_of
from wavlm_meeting.audio.read import open_audio
from wavlm_meeting.errors import AudioError
from wavlm_meeting.units import SAMPLE_RATE

BLOCK_S = 0.1
"""Seconds of a block: far less than any latency."""

RAW = PcmFormat(kind="int", bits=16, rate=SAMPLE_RATE, channels=1)
"""What the microphone gives, and what a pipe without a header holds unless told otherwise."""

RECORDERS: Mapping[str, str] = {
    "parec": f"--raw --format=s16le --rate={SAMPLE_RATE} --channels=1 --latency-msec=50",
    "arecord": f"-q -t raw -f S16_LE -r {SAMPLE_RATE} -c 1",
    "rec": f"-q -t raw -e signed -b 16 -L -r {SAMPLE_RATE} -c 1 -",
}
"""Programs that write the microphone to standard output, of PulseAudio, ALSA and SoX; the first
that is installed is taken."""

OTHER_FILES = {b"fLaC": "FLAC", b"OggS": "Ogg", b"ID3\x03": "MP3", b"ID3\x04": "MP3"}
OTHER_FILES |= {b"FORM": "AIFF", b"RF64": "RF64", b"\x1aE\xdf\xa3": "WebM"}
"""First bytes of what cannot be mistaken for raw samples, and its name."""


def played(
    path: str | Path, *, channel: int | None = None, speed: float = 1.0
) -> Iterator[NDArray[np.float32]]:
    """Give the blocks of a file when they would have been heard; a `speed` of 0 does not wait.

    Raises AudioError as `open_audio` does.
    """
    with open_audio(path, channel=channel) as reader:
        begin, samples = time.monotonic(), 0
        size = int(BLOCK_S * SAMPLE_RATE)
        for chunk in reader.blocks(BLOCK_S):
            for start in range(0, len(chunk), size):
                block = chunk[start : start + size]
                samples += len(block)
                if speed:
                    due = begin + samples / SAMPLE_RATE / speed
                    time.sleep(max(0.0, due - time.monotonic()))
                yield block


def piped(
    stream: Readable, *, raw: PcmFormat = RAW, channel: int | None = None
) -> Iterator[NDArray[np.float32]]:
    """Give what a pipe holds as it comes: WAV by its header, anything else as `raw` samples.

    All channels are averaged unless `channel` (counted from 1) picks one. Raises AudioError for a
    pipe that is empty, holds a file of another kind, or has no such channel.
    """
    head = read_exactly(stream, 4)
    if not head:
        raise AudioError("standard input: nothing came; pipe WAV or raw samples into it.")
    if head in OTHER_FILES:
        raise AudioError(
            f"standard input: {OTHER_FILES[head]}, which is no stream of samples; "
            "put 'ffmpeg -i - -f wav -' before it."
        )
    form, size = raw, None
    if head == b"RIFF":
        form, size = read_wav_header(stream)
        head = b""
    if channel is not None and channel > form.channels:
        raise AudioError(f"standard input: no channel {channel}; it has {form.channels}.")
    resampler = soxr.ResampleStream(form.rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in samples_of(stream, form, size, head):
        mono = block.mean(axis=1) if channel is None else block[:, channel - 1]
        if form.rate == SAMPLE_RATE:
            yield mono
        else:
            yield resampler.resample_chunk(np.ascontiguousarray(mono))
    if form.rate != SAMPLE_RATE:
        yield resampler.resample_chunk(np.zeros(0, np.float32), last=True)


@contextmanager
def microphone() -> Iterator[Iterator[NDArray[np.float32]]]:
    """Record from the default microphone until the block ends; gives its blocks.

    Raises AudioError if there is no program to record with, or if it stops.
    """
    found = next(((path, name) for name in RECORDERS if (path := shutil.which(name))), None)
    if found is None:
        raise AudioError(
            f"microphone: none of {', '.join(RECORDERS)} is installed; install one of them, or "
            "pipe the sound into 'wavlm-meeting live -'."
        )
    program, name = found
    with (
        tempfile.TemporaryFile() as complaints,
        subprocess.Popen(  # noqa: S603 - a program of the table, found on the PATH
            [program, *RECORDERS[name].split()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            start_new_session=sys.platform != "win32",  # Ctrl-C is ours to pass on
        ) as recorder,
    ):
        try:
            yield _recorded(name, recorder, complaints)
        finally:
            recorder.terminate()


def _recorded(
    name: str, recorder: "subprocess.Popen[bytes]", complaints: BinaryIO
) -> Iterator[NDArray[np.float32]]:
    """Give the blocks of a recorder; raises AudioError when it ends by itself."""
    for block in samples_of(cast("io.BufferedReader", recorder.stdout), RAW):
        yield block[:, 0]
    recorder.wait()
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines() or ["no reason given"]
    raise AudioError(
        f"microphone: {name} has stopped: {lines[-1]}; try '{name}' alone, or pipe the sound in."
    )
