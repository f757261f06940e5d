"""Speech on disk as shards, in the Lhotse Shar layout: written once, then read from end to end.

A folder of shards holds `cuts.NNNNNN.jsonl.gz` and `recording.NNNNNN.tar` (FLAC, 16 kHz, mono), any
further fields as `<field>.NNNNNN.tar`, and `index.jsonl` with a line for each finished shard. A
shard is written under temporary names; its line in the index makes it part of the folder, so a
killed run goes on after the last whole shard. Several processes write one folder in parts: number
i of n takes every n-th source and writes the shards i, n + i, 2 n + i, ..., with an index of its
own.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import soundfile
from lhotse import CutSet, MonoCut, Recording
from lhotse.array import Array
from lhotse.cut import Cut
from lhotse.shar.writers import ArrayTarWriter, SharWriter
from lhotse.utils import fastcopy
from numpy.typing import NDArray

from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.training.shard_index import (
    INDEX,
    Part,
    Shard,
    begin_part,
    read_index,
    write_part,
)
from wavlm_meeting.training.sources import Source, Unreadable, folder_cuts, reason_of
from wavlm_meeting.units import SAMPLE_RATE

__all__ = [
    "AUDIO",
    "CUTS",
    "INDEX",
    "Shard",
    "Source",
    "Unreadable",
    "folder_cuts",
    "read_index",
    "read_shards",
    "write_field",
    "write_shards",
]

SHARD_CUTS = 1000
"""Cuts of a shard: about 400 MB of FLAC at 15 s each."""
SHORTEST_S = 1.0
"""Shorter pieces are left out; WavLM itself leaves out what is below 2 s."""
AUDIO, CUTS = "recording.%06d.tar", "cuts.%06d.jsonl.gz"

# N samples, C channels


def write_shards(
    sources: Iterable[Source],
    target: Path,
    shard_cuts: int = SHARD_CUTS,
    part: Part = (0, 1),
) -> list[Shard]:
    """Write cuts into shards at `target`, going on after those that are there.

    The order of `sources` must be the same in every run. What cannot be read is skipped and listed
    in the index. Process i of n writes `part` (i, n), which may be empty. Returns the part's index.
    Raises AudioError if nothing at all could be read, SettingsError if the shards that are there
    were made from other sources, in other sizes or in another number of parts.
    """
    target.mkdir(parents=True, exist_ok=True)
    index = begin_part(target, part)
    own, count = part
    rest = _Counted(islice(sources, own, None, count))
    _pass_over(rest, index, target, shard_cuts)
    while shard := _write_shard(rest, target, len(index) * count + own, shard_cuts):
        index.append(shard)
        write_part(target, part, index)
    if count == 1 and not any(shard.cuts for shard in index):
        skipped = sum(len(shard.skipped) for shard in index)
        raise AudioError(f"{target}: no recording could be read; {skipped} were tried.")
    return index


def read_shards(
    folder: Path, fields: Iterable[str] = (), numbers: Iterable[int] | None = None
) -> CutSet:
    """Return the cuts of a folder with audio and further `fields`, read as they are asked for.

    `numbers` picks shards; all of them without. Raises SettingsError if there are no shards, or a
    field is missing in one.
    """
    whole = [shard.number for shard in read_index(folder) if shard.cuts]
    wanted = whole if numbers is None else list(numbers)
    names = {"cuts": CUTS, "recording": AUDIO} | {field: f"{field}.%06d.tar" for field in fields}
    paths = {
        field: [folder / (name % number) for number in wanted] for field, name in names.items()
    }
    missing = [path.name for own in paths.values() for path in own if not path.is_file()]
    if missing:
        raise SettingsError(
            f"{folder}: {missing[0]} is missing; run the stage that writes it again."
        )
    return CutSet.from_shar(fields={field: list(map(str, own)) for field, own in paths.items()})


def write_field(
    folder: Path, field: str, number: int, values: Iterable[tuple[str, NDArray[Any]]]
) -> None:
    """Write one array for each cut of shard `number`, in the shard's order, as a further field."""
    with (
        atomic_write(folder / f"{field}.{number:06d}.tar") as temporary,
        ArrayTarWriter(str(temporary), shard_size=None) as writer,
    ):
        for cut_id, value in values:
            writer.write(cut_id, value, Array("shar", "", "", list(value.shape)))


class _Counted(Iterator[Source]):
    """Sources, counted and hashed as they are taken."""

    def __init__(self, sources: Iterator[Source]) -> None:
        self.sources = sources
        self.taken = 0
        self._hash = hashlib.sha256()

    def __next__(self) -> Source:
        source = next(self.sources)
        self.taken += 1
        told = (
            (source.name, None)
            if isinstance(source, Unreadable)
            else (source.id, source.start, source.duration)
        )
        self._hash.update(repr(told).encode())
        return source

    @property
    def digest(self) -> str:
        """The hash of all that was taken."""
        return self._hash.hexdigest()


def _pass_over(rest: _Counted, index: list[Shard], target: Path, shard_cuts: int) -> None:
    """Take the sources whose shards are there; raises SettingsError if they are not the same."""
    if not index:
        return
    last = index[-1]
    for _ in islice(rest, last.consumed):
        pass
    same = (rest.taken, rest.digest) == (last.consumed, last.digest)
    sized = all(shard.cuts == shard_cuts for shard in index[:-1]) and last.cuts <= shard_cuts
    # A shard that is not full was the last one: more sources now would have filled it.
    ended = last.cuts < shard_cuts
    if not (same and sized) or (ended and next(rest, None) is not None):
        raise SettingsError(
            f"{target}: its shards were made from other files than are there now, or in another "
            "size; write into a new folder."
        )


def _write_shard(rest: _Counted, target: Path, number: int, shard_cuts: int) -> Shard | None:
    """Write the next shard; None if there is nothing left to read."""
    seconds: list[float] = []
    skipped: list[Unreadable] = []
    with _scratch(target / f".part-{number:06d}") as scratch:
        with SharWriter(scratch, {"recording": "flac"}, shard_size=None) as writer:
            while len(seconds) < shard_cuts and (source := next(rest, None)) is not None:
                written = _write_cut(writer, source)
                if isinstance(written, Unreadable):
                    skipped.append(written)
                else:
                    seconds.append(written)
        if seconds:
            (scratch / "recording.tar").replace(target / (AUDIO % number))
            (scratch / "cuts.jsonl.gz").replace(target / (CUTS % number))
    if not seconds and not skipped:
        return None
    total = round(sum(seconds), 3)
    return Shard(number, len(seconds), total, rest.taken, tuple(skipped), rest.digest)


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """Give an empty folder and remove it; what a killed run left there goes first."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _write_cut(writer: SharWriter, source: Source) -> float | Unreadable:
    """Write a cut as 16 kHz mono and return its seconds, or why it could not be written."""
    if isinstance(source, Unreadable):
        return source
    if source.duration < SHORTEST_S:
        return Unreadable(source.id, f"shorter than {SHORTEST_S:g} s")
    try:
        writer.write(_mono(_timed_from_start(source)).resample(SAMPLE_RATE))
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises on a broken file
        return Unreadable(source.id, reason_of(error))
    return float(source.duration)


def _timed_from_start(cut: Cut) -> Cut:
    """Return a cut whose alignments count from its own start.

    In Lhotse they count from the recording's, and in a shard the cut is the whole recording.
    """
    if not cut.start or not any(part.alignment for part in cut.supervisions):
        return cut
    moved = fastcopy(cut)
    moved.supervisions = [
        fastcopy(
            part,
            alignment={
                kind: [item.with_offset(-cut.start) for item in items]
                for kind, items in (part.alignment or {}).items()
            },
        )
        for part in cut.supervisions
    ]
    return moved


def _mono(cut: Cut) -> Cut:
    """Return a cut whose one channel is the mean of all, which is what the tasks hear.

    Lhotse's own downmix adds the channels, which clips.
    """
    if cut.num_channels == 1:
        return cut
    samples = cut.load_audio().mean(axis=0)  # (C, N) -> (N,)
    encoded = BytesIO()
    soundfile.write(encoded, samples, cut.sampling_rate, format="WAV", subtype="FLOAT")
    recording = Recording.from_bytes(encoded.getvalue(), recording_id=cut.recording_id)
    return MonoCut(
        id=cut.id,
        start=0,
        duration=recording.duration,
        channel=0,
        recording=recording,
        supervisions=[fastcopy(part, channel=0) for part in cut.supervisions],
    )
