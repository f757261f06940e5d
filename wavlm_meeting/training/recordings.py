"""Many recordings on disk, of which pieces are read at random places.

M recordings, N samples.
"""

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import soxr
from lhotse import CutSet
from numpy.typing import NDArray

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.audio.simulate import Samples
from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.training.sources import files_below
from wavlm_meeting.units import SAMPLE_RATE

Ints = NDArray[np.integer]

SEEKABLE = (".wav", ".flac")
"""Formats in which a piece is read without decoding what lies before it."""
SUFFIXES = (*SEEKABLE, ".opus", ".ogg", ".mp3", ".m4a")
"""What is looked for in a folder."""


class Row(NamedTuple):
    """What a manifest says of a recording; names are empty where it says nothing."""

    path: str
    start_s: float
    duration_s: float
    speaker: str = ""
    session: str = ""
    source: str = ""


@dataclass(frozen=True)
class Recordings:
    """A manifest as arrays: a million recordings take a hundred megabytes, in any process.

    Numbers in `speakers`, `sessions` and `sources` point into the lists of names; nobody is -1.
    Sessions of different speakers are different ones.
    """

    paths: NDArray[np.bytes_]
    """(M,) as the file system has them."""
    starts_s: NDArray[np.float64]
    """(M,) where a recording begins in its file."""
    durations_s: NDArray[np.float64]
    """(M,) how long it is."""
    speakers: Ints
    """(M,) who speaks."""
    sessions: Ints
    """(M,) on which occasion; recordings that state none are occasions of their own."""
    sources: Ints
    """(M,) in which collection."""
    speaker_names: list[str]
    source_names: list[str]
    cache: dict[int, NDArray[np.int16]] | None = field(default=None, repr=False)
    """Where decoded recordings stay in memory, if they should."""

    def __len__(self) -> int:
        """Return M."""
        return len(self.paths)

    def length(self, index: int, speed: float = 1.0) -> int:
        """Return the samples of a recording that is played at `speed`."""
        return max(1, int(self.durations_s[index] * SAMPLE_RATE / speed))

    def read(self, index: int, offset: int, samples: int, speed: float = 1.0) -> Samples:
        """Return (samples,) at 16 kHz of a recording, played at `speed`, from `offset` on.

        A recording that ends before begins again. Raises AudioError if it cannot be read.
        """
        whole = self.length(index, speed)
        if offset + samples <= whole:
            return self._piece(index, offset, samples, speed)
        around = np.arange(offset, offset + samples) % whole
        return self._piece(index, 0, whole, speed)[around]

    def _piece(self, index: int, offset: int, samples: int, speed: float) -> Samples:
        path = Path(os.fsdecode(self.paths[index]))
        start_s = self.starts_s[index] + offset * speed / SAMPLE_RATE
        duration_s = samples * speed / SAMPLE_RATE
        if self.cache is not None:
            if index not in self.cache:
                whole = _decode(path, self.starts_s[index], self.durations_s[index])
                self.cache[index] = np.clip(np.round(whole * 32768), -32768, 32767).astype(np.int16)
            first = round(offset * speed)
            own = self.cache[index][first : first + int(np.ceil(samples * speed))]
            found, rate = own.astype(np.float32) / np.float32(32768), SAMPLE_RATE
        elif path.suffix.lower() in SEEKABLE:
            found, rate = _seek(path, start_s, duration_s)
        else:
            found, rate = _decode(path, start_s, duration_s), SAMPLE_RATE
        if not len(found):
            raise AudioError(
                f"{path}: nothing at {start_s:.2f} s, where the manifest says there is sound; "
                "write the manifest again."
            )
        if rate * speed != SAMPLE_RATE:
            found = soxr.resample(found, rate * speed, SAMPLE_RATE)
        # A sample or two can be missing after resampling, or more if the header promised too much.
        return found[:samples] if len(found) >= samples else np.resize(found, samples)


def read_recordings(path: Path, *, cache: bool = False) -> Recordings:
    """Read a manifest of Lhotse's (`.jsonl.gz`), or list the audio in a folder and those below.

    A cut's supervision names the speaker; `session` and `source` are fields of its own or of the
    supervision's. In a folder, the source of a file is the first folder on its way. Raises
    SettingsError for a manifest that holds something else, or nothing; AudioError for a folder
    without audio.
    """
    if path.is_dir():
        return gather(_rows_below(path), cache=cache)
    if not path.is_file():
        raise SettingsError(f"{path}: no such manifest; run the stage that writes it.")
    try:
        recordings = gather(_rows_of(path), cache=cache)
    except (AttributeError, KeyError, TypeError, ValueError, OSError, EOFError) as error:
        raise SettingsError(
            f"{path}: not a manifest of cuts with one file each ({error}); write it again."
        ) from None
    if not len(recordings):
        raise SettingsError(f"{path}: holds no recording; check what it was made from.")
    return recordings


def gather(rows: Iterable[Row], *, cache: bool = False) -> Recordings:
    """Put rows into arrays; names are numbered in the order of `sorted`."""
    # As bytes and numbers at once: a list of a million rows would take a gigabyte.
    paths: list[bytes] = []
    times: list[tuple[float, float]] = []
    speakers, sources = _Numbers(), _Numbers()
    sessions = _Numbers()
    for number, row in enumerate(rows):
        paths.append(os.fsencode(row.path))
        times.append((row.start_s, row.duration_s))
        speakers.add(row.speaker)
        sources.add(row.source)
        sessions.add(f"{row.speaker}\n{row.session}" if row.session else f"\n{number}")
    speaker_names, speaker_numbers = speakers.sorted()
    source_names, source_numbers = sources.sorted()
    starts_s, durations_s = np.array(times, np.float64).reshape(-1, 2).T.copy()
    return Recordings(
        np.array(paths, np.bytes_),
        starts_s,
        durations_s,
        speaker_numbers,
        sessions.sorted()[1],
        source_numbers,
        speaker_names,
        source_names,
        {} if cache else None,
    )


class _Numbers:
    """Numbers names as they come, then in their order; the empty name is -1."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {"": -1}
        self.found: list[int] = []

    def add(self, name: str) -> None:
        self.found.append(self.known.setdefault(name, len(self.known) - 1))

    def sorted(self) -> tuple[list[str], Ints]:
        names = list(self.known)[1:]
        order = sorted(range(len(names)), key=names.__getitem__)
        place = np.full(len(names) + 1, -1)  # its last entry is what -1 picks
        place[order] = np.arange(len(names))
        found = np.array(self.found, np.int64)
        return [names[number] for number in order], place[found].astype(np.int32)


def _rows_of(path: Path) -> Iterator[Row]:
    for cut in CutSet.from_file(path):
        said = cut.supervisions[0] if cut.supervisions else None
        own = {**((said.custom if said else None) or {}), **(cut.custom or {})}
        (source,) = cut.recording.sources
        if source.type != "file":
            message = f"'{cut.id}' lies in a {source.type}"
            raise ValueError(message)
        yield Row(
            str(source.source),
            cut.start,
            cut.duration,
            str(said.speaker or "") if said else "",
            str(own.get("session") or ""),
            str(own.get("source") or ""),
        )


def _rows_below(folder: Path) -> Iterator[Row]:
    for path in files_below(folder, SUFFIXES):
        try:
            duration_s = float(soundfile.info(os.fsencode(path)).duration)
        except soundfile.SoundFileError:
            duration_s = len(read_audio(path)) / SAMPLE_RATE
        way = path.relative_to(folder).parts
        yield Row(str(path), 0.0, duration_s, source=way[0] if len(way) > 1 else "")


def _seek(path: Path, start_s: float, duration_s: float) -> tuple[Samples, int]:
    """Read a piece of a file at its own rate, all channels averaged."""
    try:
        with soundfile.SoundFile(os.fsencode(path)) as file:
            file.seek(min(round(start_s * file.samplerate), file.frames))
            frames = int(np.ceil(duration_s * file.samplerate - 1e-6))
            found = file.read(frames, dtype="float32", always_2d=True)
            rate = file.samplerate
    except soundfile.SoundFileError as error:
        raise AudioError(
            f"{path}: cannot be read ({error}); copy it again, or leave it out of the manifest."
        ) from None
    if not np.isfinite(found).all():
        raise AudioError(f"{path}: NaN or infinite samples; export the recording again.")
    return found[:, 0] if found.shape[1] == 1 else found.mean(axis=1), rate


def _decode(path: Path, start_s: float, duration_s: float) -> Samples:
    """Decode a whole file and cut a piece out."""
    first = round(start_s * SAMPLE_RATE)
    return read_audio(path)[first : first + int(np.ceil(duration_s * SAMPLE_RATE - 1e-6))]
