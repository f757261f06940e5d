"""The index of a folder of shards: what is finished, and from which sources it was made.

One process writes `index.jsonl`; n processes write `index.<i>-of-<n>.jsonl` each, i from 0.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.training.sources import Unreadable

INDEX = "index.jsonl"

Part = tuple[int, int]
"""Process i of n, i from 0."""


@dataclass(frozen=True)
class Shard:
    """One line of the index."""

    number: int
    cuts: int
    """Cuts in the shard."""
    seconds: float
    """Their length together."""
    consumed: int
    """Sources that its part had read up to its end, the unreadable ones among them."""
    skipped: tuple[Unreadable, ...] = ()
    """Sources of this shard that could not be read, each with the reason."""
    digest: str = ""
    """SHA-256 of all those sources' ids and lengths, by which a changed folder is noticed."""


def read_index(folder: Path) -> list[Shard]:
    """Read the index of a folder of shards, of all parts together, in the order of the numbers.

    Raises SettingsError if there is none, or that of a part is missing.
    """
    parts = _parts(folder)
    if not parts:
        raise SettingsError(f"{folder}: no {INDEX}; make it with `wavlm-meeting manifest`.")
    count = _count(folder, parts)
    missing = [own for own in range(count) if (own, count) not in parts]
    if missing:
        part = f"{missing[0]}/{count}"
        raise SettingsError(
            f"{folder}: part {part} is missing; write it with `wavlm-meeting manifest --part "
            f"{part}`."
        )
    shards = [shard for path in parts.values() for shard in _read(path)]
    return sorted(shards, key=lambda shard: shard.number)


def begin_part(folder: Path, part: Part) -> list[Shard]:
    """Return what a part has finished and make its index, so that others see that it was begun.

    Raises SettingsError if the part is none, or the folder was begun in another number of parts.
    """
    own, count = part
    if not 0 <= own < count:
        raise SettingsError(f"part {own}/{count}: in N parts, I goes from 0 to N - 1.")
    parts = _parts(folder)
    begun = _count(folder, parts) if parts else count
    if begun != count:
        cure = "without parts" if begun == 1 else f"in {begun} parts"
        raise SettingsError(
            f"{folder}: was begun {cure}; go on {cure}, or write into a new folder."
        )
    if part in parts:
        return _read(parts[part])
    write_part(folder, part, [])
    return []


def write_part(folder: Path, part: Part, shards: Sequence[Shard]) -> None:
    """Write the index of a part."""
    own, count = part
    name = INDEX if count == 1 else f"index.{own}-of-{count}.jsonl"
    with atomic_write(folder / name) as temporary:
        lines = (json.dumps(asdict(shard)) + "\n" for shard in shards)
        temporary.write_text("".join(lines), encoding="utf-8")


def _parts(folder: Path) -> dict[Part, Path]:
    """Find the indices in a folder."""
    found = {(0, 1): folder / INDEX} if (folder / INDEX).is_file() else {}
    for path in sorted(folder.glob("index.*-of-*.jsonl")):
        if match := re.fullmatch(r"index\.(\d+)-of-(\d+)\.jsonl", path.name):
            found[int(match[1]), int(match[2])] = path
    return found


def _count(folder: Path, parts: dict[Part, Path]) -> int:
    """Return how many parts a folder is written in."""
    counts = sorted({count for _, count in parts})
    if len(counts) > 1:
        raise SettingsError(
            f"{folder}: holds indices of {counts[0]} and of {counts[1]} parts; write the shards "
            "into a new folder."
        )
    return counts[0]


def _read(path: Path) -> list[Shard]:
    rows = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [
        Shard(**row | {"skipped": tuple(Unreadable(*u) for u in row["skipped"])}) for row in rows
    ]
