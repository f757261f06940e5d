"""Manifests of recordings: Lhotse's cuts as `.jsonl.gz`, written and read one by one."""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from lhotse import AudioSource, CutSet, MonoCut, Recording, SupervisionSegment

from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes.reading import Found
from wavlm_meeting.units import SAMPLE_RATE


@dataclass(frozen=True)
class Row:
    """One line of a manifest."""

    name: str
    path: Path
    seconds: float
    speaker: str
    session: str
    source: str


class Write(Protocol):
    """Adds a recording to a manifest."""

    def __call__(self, found: Found, speaker: str = "", source: str = "") -> None:
        """Write a line; the session is the name's folder."""


@contextmanager
def write_manifest(path: Path) -> Iterator[Write]:
    """Give a function that adds to a manifest, which is there when the block succeeds."""
    with (
        atomic_write(path) as temporary,
        temporary.open("wb") as raw,
        # Without a name and a time in its head, the same lines give the same file.
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as file,
    ):

        def write(found: Found, speaker: str = "", source: str = "") -> None:
            file.write((json.dumps(_cut(found, speaker, source)) + "\n").encode())

        yield write


def read_manifest(path: Path) -> Iterator[Row]:
    """Give the lines of a manifest; a line is held at a time."""
    for cut in CutSet.from_jsonl_lazy(path):
        custom = cut.custom or {}
        speaker = cut.supervisions[0].speaker if cut.supervisions else ""
        yield Row(
            cut.id,
            Path(cut.recording.sources[0].source),
            cut.duration,
            speaker,
            custom.get("session", ""),
            custom.get("source", ""),
        )


def _cut(found: Found, speaker: str, source: str) -> dict[str, Any]:
    duration = found.samples / SAMPLE_RATE
    recording = Recording(
        id=found.name,
        sources=[AudioSource("file", [0], str(found.path))],
        sampling_rate=SAMPLE_RATE,
        num_samples=found.samples,
        duration=duration,
    )
    cut = MonoCut(
        id=found.name,
        start=0.0,
        duration=duration,
        channel=0,
        recording=recording,
        custom={"source": source},
    )
    if speaker:
        cut.supervisions = [
            SupervisionSegment(found.name, found.name, 0.0, duration, speaker=speaker)
        ]
        cut.custom["session"] = found.name.split("/")[-2]
    values: dict[str, Any] = cut.to_dict()
    return values
