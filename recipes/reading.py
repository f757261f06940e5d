"""Recordings as training reads them: by seeking, in 16 kHz and one channel.

WAV and FLAC of that kind stay where they are; all else is decoded once, into FLAC. What runs here
runs in many processes: none of it needs PyTorch, which takes long to load.
"""

import warnings
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import soundfile

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.errors import AudioError, AudioWarning
from wavlm_meeting.files import atomic_write
from wavlm_meeting.units import SAMPLE_RATE


@dataclass(frozen=True)
class Found:
    """A recording, ready to be read."""

    name: str
    path: Path
    samples: int
    """At 16 kHz."""


@dataclass(frozen=True)
class LeftOut:
    """A recording that cannot be read whole, and why."""

    name: str
    reason: str


def ready_recordings(
    files: Iterable[tuple[str, Path]], decoded: Path, channel: int | None = None
) -> list[Found | LeftOut]:
    """Make recordings, given as names and paths, ready; what needs it is decoded below `decoded`.

    What was decoded before is not decoded again. `channel` (from 1) is taken of several; without it
    their mean is.
    """
    return [_ready(name, path, decoded, channel) for name, path in files]


def decode(path: Path, target: Path, channel: int | None = None) -> Found | LeftOut:
    """Write a recording as FLAC at `target`: in one channel, at 16 kHz."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", AudioWarning)  # a damaged file is left out
            samples = read_audio(path, channel=channel)
    except (AudioError, AudioWarning) as problem:
        return LeftOut(path.stem, str(problem))
    target.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(target) as temporary:
        soundfile.write(temporary, np.clip(samples, -1.0, 1.0), SAMPLE_RATE, subtype="PCM_16")
    return Found(target.stem, target, len(samples))


def _ready(name: str, path: Path, decoded: Path, channel: int | None) -> Found | LeftOut:
    if samples := _ready_samples(path):
        return Found(name, path, samples)
    target = decoded / f"{name}.flac"
    if target.is_file() and (samples := _ready_samples(target)):
        return Found(name, target, samples)
    return replace(decode(path, target, channel), name=name)


def _ready_samples(path: Path) -> int:
    """Return the length of a file that can be read as it is, else 0."""
    if path.suffix.lower() not in {".wav", ".flac"}:
        return 0
    try:
        info = soundfile.info(path)
    except soundfile.SoundFileError:
        return 0  # `read_audio` says what is wrong with it
    return info.frames if (info.samplerate, info.channels) == (SAMPLE_RATE, 1) else 0
