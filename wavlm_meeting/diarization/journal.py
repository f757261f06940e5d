"""The windows of a recording on the disk: memory stays flat, and a crash loses nothing.

A journal is one line of JSON that says what it is about, then a record of fixed size for each
window: probabilities, embeddings, levels and features as float16, and a checksum. Whatever was cut
off or left unwritten by a crash fails its checksum and is dropped with all that follows.

T frames of a window, S local speakers, D embedding size, C channels of features.
"""

import hashlib
import json
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self, cast

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.diarization.heard import LocalSpeakers

FORMAT = 2
"""Number of the layout of records; another one is begun anew."""
AT_ONCE = 256
"""Records that are read at once: about half a megabyte without features."""
_ENDS = 1 << 16  # bytes at a file's beginning and end that it is known by, beside size and time

_CHECKSUM = 4  # bytes


class Shape(NamedTuple):
    """The sizes of a window's record."""

    frames: int
    """T, of a whole window."""
    speakers: int
    """S."""
    embedding: int
    """D."""
    features: int
    """C, 0 for none."""

    def record(self) -> np.dtype[np.void]:
        """Return how a window lies on the disk."""
        return np.dtype(
            [
                ("start", "<i8"),
                ("frames", "<i8"),
                ("activity", "<f2", (self.frames, self.speakers)),
                ("embeddings", "<f2", (self.speakers, self.embedding)),
                ("speech_s", "<f8", (self.speakers,)),
                ("levels", "<f2", (self.speakers,)),
                ("features", "<f2", (self.frames, self.features)),
                ("checksum", "<u4"),
            ]
        )


class Journal:
    """Windows that are appended, counted and read again, any number of times."""

    def __init__(self, file: BinaryIO, shape: Shape, begin: int) -> None:
        """Take over `file`, whose records start at byte `begin`; broken ones are cut off."""
        self._file, self._begin, self._record = file, begin, shape.record()
        self._count = 0
        self.keep(sum(len(records) for records in self._whole()))

    def append(self, local: LocalSpeakers) -> None:
        """Write a window, so that it outlives this process."""
        record = np.zeros((), self._record)
        length = len(local.activity)
        record["start"], record["frames"] = local.start, length
        record["activity"][:length] = local.activity
        record["embeddings"], record["speech_s"] = local.embeddings, local.speech_s
        record["levels"] = local.levels
        if local.features is not None:
            record["features"][:length] = local.features
        record["checksum"] = zlib.crc32(record.tobytes()[:-_CHECKSUM])
        self._file.seek(self._begin + self._count * self._record.itemsize)
        self._file.write(record.tobytes())
        self._file.flush()
        self._count += 1

    def keep(self, count: int) -> None:
        """Drop all but the first `count` windows."""
        self._file.truncate(self._begin + count * self._record.itemsize)
        self._count = count

    def __len__(self) -> int:
        """Return how many windows there are."""
        return self._count

    def __iter__(self) -> Iterator[LocalSpeakers]:
        """Read the windows in their order, a few at once."""
        for first in range(0, self._count, AT_ONCE):
            for record in self._read(first, min(AT_ONCE, self._count - first)):
                length = int(record["frames"])
                has_features = record["features"].shape[1] > 0
                yield LocalSpeakers(
                    start=int(record["start"]),
                    activity=record["activity"][:length].astype(np.float32),
                    embeddings=record["embeddings"].astype(np.float32),
                    speech_s=record["speech_s"].astype(np.float64),
                    levels=record["levels"].astype(np.float32),
                    features=record["features"][:length].astype(np.float32)
                    if has_features
                    else None,
                )

    def __enter__(self) -> Self:
        """Give the journal itself."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the file, which stays."""
        self._file.close()

    def _read(self, first: int, count: int) -> NDArray[np.void]:
        """Return up to `count` records from the `first` on, without one that is cut off."""
        size = self._record.itemsize
        self._file.seek(self._begin + first * size)
        data = self._file.read(count * size)
        return np.frombuffer(data[: len(data) // size * size], self._record)

    def _whole(self) -> Iterator[NDArray[np.void]]:
        """Give the records of the file up to the first that is broken."""
        first = 0
        while len(records := self._read(first, AT_ONCE)):
            sums = [zlib.crc32(record.tobytes()[:-_CHECKSUM]) for record in records]
            right = records["checksum"] == np.array(sums, np.uint32)
            yield records[: len(records) if right.all() else int(np.argmin(right))]
            if not right.all():
                return
            first += len(records)


def open_journal(path: Path | None, shape: Shape, about: Mapping[str, object]) -> Journal:
    """Open the journal at `path`, or one without a name that is gone when it is closed.

    A journal that is there goes on if it is `about` the same and of the same shape, else it is
    begun anew.
    """
    line = json.dumps({"journal": FORMAT, **shape._asdict(), **about}, sort_keys=True)
    header = line.encode() + b"\n"
    if path is None:
        file = cast("BinaryIO", tempfile.TemporaryFile(prefix="wavlm-meeting-"))  # noqa: SIM115
    else:
        path.touch(mode=0o600)  # voices are in it
        file = path.open("r+b")
    if file.read(len(header)) != header:
        file.seek(0)
        file.truncate()
        file.write(header)
    return Journal(file, shape, len(header))


def fingerprint(source: str | Path | NDArray[np.float32]) -> dict[str, object]:
    """Return what a recording is known by: a file's size, time and ends, or a hash of samples."""
    if isinstance(source, np.ndarray):
        return {"samples": hashlib.sha256(np.ascontiguousarray(source).data).hexdigest()}
    status = Path(source).stat()
    with Path(source).open("rb") as file:
        ends = file.read(_ENDS)
        file.seek(max(0, status.st_size - _ENDS))
        ends += file.read(_ENDS)
    ends_sha256 = hashlib.sha256(ends).hexdigest()
    return {"size": status.st_size, "modified_ns": status.st_mtime_ns, "ends": ends_sha256}
