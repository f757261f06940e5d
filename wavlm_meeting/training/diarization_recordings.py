"""Recordings of conversations with references, as Lhotse's manifests, read piece by piece.

A cut is a recording, or the part of it that has a reference; its supervisions are turns, or, in
recordings of one speaker, where there is speech. N samples.
"""

import gzip
import json
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import soundfile
import soxr
from lhotse import AudioSource, CutSet, MonoCut, MultiCut, Recording, SupervisionSegment
from pyannote.core import Annotation, Segment, Timeline

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.audio.simulate import Samples
from wavlm_meeting.errors import AudioError, AudioWarning, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.units import SAMPLE_RATE

SEEKABLE = (".wav", ".flac", ".sph")
"""Formats in which a piece is read without decoding what lies before it."""
SHORTENED = b"shorten"
"""What the header of a SPHERE file says of samples that libsndfile does not read."""


class Said(NamedTuple):
    """A stretch of speech, in seconds from the start of the cut."""

    start_s: float
    end_s: float
    speaker: str


class Conversation(NamedTuple):
    """A line of a manifest."""

    name: str
    path: str
    start_s: float
    """Where the cut begins in its file."""
    duration_s: float
    channels: int
    """Channels of the file."""
    said: tuple[Said, ...]
    """In the order of their starts."""

    @property
    def samples(self) -> int:
        """Return N of the whole cut."""
        return int(self.duration_s * SAMPLE_RATE)

    @property
    def speakers(self) -> list[str]:
        """Return who speaks, in the order of the first turns."""
        return list(dict.fromkeys(each.speaker for each in self.said))

    def reference(self) -> Annotation:
        """Return who speaks when, in the time of the file."""
        found = Annotation(uri=self.name)
        for number, each in enumerate(self.said):
            segment = Segment(each.start_s + self.start_s, each.end_s + self.start_s)
            found[segment, number] = each.speaker
        return found

    def scored(self) -> Timeline:
        """Return the stretch that has a reference, in the time of the file."""
        return Timeline([Segment(self.start_s, self.start_s + self.duration_s)], uri=self.name)

    def read(self, offset: int, samples: int, channel: int | None = None) -> Samples:
        """Return (samples,) at 16 kHz from `offset` on, zeros after the end.

        `channel` counts from 1; without one all are averaged. Raises AudioError if the file cannot
        be read, or ends early.
        """
        wanted = min(samples, self.samples - offset)
        found = _read(Path(self.path), self.start_s + offset / SAMPLE_RATE, wanted, channel)
        return np.pad(found, (0, samples - len(found)))


def read_conversations(path: Path) -> list[Conversation]:
    """Read a manifest of cuts (`.jsonl.gz`) in its order.

    Raises SettingsError for a manifest that holds something else, or nothing.
    """
    if not path.is_file():
        raise SettingsError(f"{path}: no such manifest; run the stage that writes it.")
    try:
        found = [_conversation(cut) for cut in CutSet.from_jsonl_lazy(path)]
    except (AttributeError, KeyError, TypeError, ValueError, OSError, EOFError) as error:
        raise SettingsError(
            f"{path}: not a manifest of cuts with one file each ({error}); write it again."
        ) from None
    if not found:
        raise SettingsError(f"{path}: holds no recording; check what it was made from.")
    return found


def write_conversations(conversations: Iterable[Conversation], path: Path) -> None:
    """Write a manifest; it is there when all of it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as raw,
        # Without a name and a time in its head, the same lines give the same file.
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file,
    ):
        for each in conversations:
            file.write((json.dumps(_cut_values(each)) + "\n").encode())


def conversation_of(
    name: str, path: Path, reference: Annotation, scored: Segment | None = None
) -> Conversation:
    """Describe a recording and its reference; only what lies in `scored` if that is given.

    Raises AudioError for a file that soundfile does not open.
    """
    rate, frames, channels = _header(path)
    whole = Segment(0.0, frames / rate)
    part = whole if scored is None else scored & whole
    said = [
        Said(turn.start - part.start, turn.end - part.start, str(label))
        for turn, _, label in reference.crop(part).itertracks(yield_label=True)
    ]
    return Conversation(name, str(path), part.start, part.duration, channels, tuple(sorted(said)))


def ready(path: Path, decoded: Path) -> Path:
    """Return a file of the recording that pieces can be read of: itself, or `decoded`.

    What does not seek is decoded once, into FLAC. Raises AudioError if it cannot be read whole.
    """
    if path.suffix.lower() in SEEKABLE:
        _header(path)
        return path
    if decoded.is_file():
        return decoded
    with warnings.catch_warnings():
        warnings.simplefilter("error", AudioWarning)
        try:
            samples = read_audio(path)
        except AudioWarning as problem:
            raise AudioError(str(problem)) from None
    decoded.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(decoded) as temporary:
        soundfile.write(temporary, np.clip(samples, -1.0, 1.0), SAMPLE_RATE, subtype="PCM_16")
    return decoded


def _header(path: Path) -> tuple[int, int, int]:
    """Return rate, frames and channels; raises AudioError."""
    try:
        info = soundfile.info(os.fsencode(path))
    except soundfile.SoundFileError as error:
        raise AudioError(_unreadable(path, error)) from None
    return info.samplerate, info.frames, info.channels


def _unreadable(path: Path, error: Exception) -> str:
    if not path.is_file():
        return f"{path}: no such file; check the path."
    with path.open("rb") as file:
        head = file.read(1024)
    if head.startswith(b"NIST_1A") and SHORTENED in head:
        return (
            f"{path}: a SPHERE file that is compressed with shorten; unpack it with "
            "'sph2pipe -f wav IN OUT' (LDC's tool) first."
        )
    return f"{path}: cannot be read ({error}); copy it again."


def _read(path: Path, start_s: float, samples: int, channel: int | None) -> Samples:
    """Read (samples,) of a file from a time on; the file may be shorter by a sample or two."""
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            rate = file.samplerate
            file.seek(min(round(start_s * rate), file.frames))
            frames = int(np.ceil(samples * rate / SAMPLE_RATE - 1e-6))
            found = file.read(frames, dtype="float32", always_2d=True)
    except soundfile.SoundFileError as error:
        raise AudioError(_unreadable(path, error)) from None
    if not len(found):
        raise AudioError(
            f"{path}: nothing at {start_s:.2f} s, where the manifest says there is sound; write "
            "the manifest again."
        )
    if not np.isfinite(found).all():
        raise AudioError(f"{path}: NaN or infinite samples; export the recording again.")
    mono = found.mean(axis=1) if channel is None else found[:, channel - 1]
    if rate != SAMPLE_RATE:
        mono = soxr.resample(mono, rate, SAMPLE_RATE)
    return mono[:samples]


def _conversation(cut: Any) -> Conversation:
    (source,) = cut.recording.sources
    if source.type != "file":
        message = f"'{cut.id}' lies in a {source.type}"
        raise ValueError(message)
    said = sorted(
        Said(max(each.start, 0.0), min(each.end, cut.duration), str(each.speaker))
        for each in cut.supervisions
        if each.speaker and each.end > 0 and each.start < cut.duration
    )
    channels = len(source.channels)
    return Conversation(cut.id, str(source.source), cut.start, cut.duration, channels, tuple(said))


def _cut_values(each: Conversation) -> dict[str, Any]:
    """Return a line: Lhotse's cut of a recording of one file."""
    rate, frames, _ = _header(Path(each.path))
    channels = list(range(each.channels))
    recording = Recording(
        id=each.name,
        sources=[AudioSource("file", channels, each.path)],
        sampling_rate=rate,
        num_samples=frames,
        duration=frames / rate,
    )
    turns = [
        SupervisionSegment(
            id=f"{each.name}-{number:05d}",
            recording_id=each.name,
            start=turn.start_s,
            duration=turn.end_s - turn.start_s,
            channel=channels[0] if len(channels) == 1 else channels,
            speaker=turn.speaker,
        )
        for number, turn in enumerate(each.said)
    ]
    kind, channel = (MonoCut, channels[0]) if len(channels) == 1 else (MultiCut, channels)
    cut = kind(each.name, each.start_s, each.duration_s, channel, turns, recording=recording)
    values: dict[str, Any] = cut.to_dict()
    return values
