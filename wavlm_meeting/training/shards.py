"""Speech on disk as shards, in the Lhotse Shar layout: written once, then read from end to end.

A folder of shards holds `cuts.NNNNNN.jsonl.gz` and `recording.NNNNNN.tar` (FLAC, 16 kHz, mono), any
further fields as `<field>.NNNNNN.tar`, and `index.jsonl` with a line for each finished shard. A
shard is written under temporary names; its line in the index makes it part of the folder, so a
killed run goes on after the last whole shard.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

from lhotse import CutSet, MonoCut, Recording
from lhotse.array import Array
from lhotse.cut import Cut
from lhotse.shar.writers import ArrayTarWriter, SharWriter
from numpy.typing import NDArray

from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.units import SAMPLE_RATE

INDEX = "index.jsonl"
SHARD_CUTS = 1000
"""Cuts of a shard: about 400 MB of FLAC at 15 s each."""
LONGEST_S = 30.0
"""Longer recordings are cut into pieces of this length."""
SHORTEST_S = 1.0
"""Shorter pieces are left out; WavLM itself leaves out what is below 2 s."""
AUDIO, CUTS = "recording.%06d.tar", "cuts.%06d.jsonl.gz"


class Unreadable(NamedTuple):
    """A source that could not be read, and why."""

    name: str
    reason: str


Source: TypeAlias = "Cut | Unreadable"
"""A piece of audio to write, or one that is known not to be readable."""


@dataclass(frozen=True)
class Shard:
    """One line of the index."""

    number: int
    cuts: int
    """Cuts in the shard."""
    seconds: float
    """Their length together."""
    consumed: int
    """Sources that were read up to its end, the unreadable ones among them."""
    skipped: tuple[Unreadable, ...] = ()
    """Sources of this shard that could not be read, each with the reason."""


def folder_cuts(paths: Iterable[Path], root: Path) -> Iterator[Source]:
    """Give pieces of at most LONGEST_S of the first channel of each recording.

    Ids are the paths relative to `root`, and the number of the piece.
    """
    for path in paths:
        name = path.relative_to(root).as_posix()
        try:
            recording = Recording.from_file(path, recording_id=name)
        except Exception as error:  # noqa: BLE001 - whatever a decoder raises on a broken file
            yield Unreadable(name, _one_line(error))
            continue
        whole = MonoCut(
            id=name, start=0, duration=recording.duration, channel=0, recording=recording
        )
        if recording.duration <= LONGEST_S:
            yield whole
            continue
        for number, piece in enumerate(CutSet.from_cuts([whole]).cut_into_windows(LONGEST_S)):
            yield piece.with_id(f"{name}-{number:04d}")


def write_shards(
    sources: Iterable[Source], target: Path, shard_cuts: int = SHARD_CUTS
) -> list[Shard]:
    """Write cuts into shards at `target`, going on after those that are there.

    The order of `sources` must be the same in every run. What cannot be read is skipped and listed
    in the index. Returns the index. Raises AudioError if nothing at all could be read.
    """
    target.mkdir(parents=True, exist_ok=True)
    index = read_index(target) if (target / INDEX).exists() else []
    rest = islice(iter(sources), index[-1].consumed if index else 0, None)
    while shard := _write_shard(rest, target, index[-1] if index else None, shard_cuts):
        index.append(shard)
        with atomic_write(target / INDEX) as temporary:
            lines = (json.dumps(asdict(item)) + "\n" for item in index)
            temporary.write_text("".join(lines), encoding="utf-8")
    if not any(shard.cuts for shard in index):
        skipped = sum(len(shard.skipped) for shard in index)
        raise AudioError(f"{target}: no recording could be read; {skipped} were tried.")
    return index


def read_index(folder: Path) -> list[Shard]:
    """Read the index of a folder of shards; raises SettingsError if it has none."""
    path = folder / INDEX
    if not path.is_file():
        raise SettingsError(f"{folder}: no {INDEX}; make it with `wavlm-meeting manifest`.")
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [
        Shard(**row | {"skipped": tuple(Unreadable(*u) for u in row["skipped"])}) for row in rows
    ]


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


def _write_shard(
    sources: Iterator[Source], target: Path, last: Shard | None, shard_cuts: int
) -> Shard | None:
    """Write the next shard; None if there is nothing left to read."""
    number, consumed = (last.number + 1, last.consumed) if last else (0, 0)
    seconds: list[float] = []
    skipped: list[Unreadable] = []
    with TemporaryDirectory(prefix=".part-", dir=target) as part:
        with SharWriter(part, {"recording": "flac"}, shard_size=None) as writer:
            while len(seconds) < shard_cuts and (source := next(sources, None)) is not None:
                consumed += 1
                written = _write_cut(writer, source)
                if isinstance(written, Unreadable):
                    skipped.append(written)
                else:
                    seconds.append(written)
        if seconds:
            (Path(part) / "recording.tar").replace(target / (AUDIO % number))
            (Path(part) / "cuts.jsonl.gz").replace(target / (CUTS % number))
    if not seconds and not skipped:
        return None
    return Shard(number, len(seconds), round(sum(seconds), 3), consumed, tuple(skipped))


def _write_cut(writer: SharWriter, source: Source) -> float | Unreadable:
    """Write a cut as 16 kHz mono and return its seconds, or why it could not be written."""
    if isinstance(source, Unreadable):
        return source
    if source.duration < SHORTEST_S:
        return Unreadable(source.id, f"shorter than {SHORTEST_S:g} s")
    try:
        writer.write(source.resample(SAMPLE_RATE))
    except Exception as error:  # noqa: BLE001 - whatever a decoder raises on a broken file
        return Unreadable(source.id, _one_line(error))
    return float(source.duration)


def _one_line(error: Exception) -> str:
    """Return the last line that says something: decoders put long reports before it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:200] if lines else type(error).__name__
