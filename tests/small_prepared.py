"""What `prepare` of the embedded model's recipe leaves, from waveforms of a test's own."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Prepared(NamedTuple):
    """One row of the table; rows with the same array of samples share their place."""

    samples: NDArray[np.int16]
    speaker: str
    source: str
    split: str
    kind: str = "speech"


def write_prepared(work: Path, rows: list[Prepared]) -> None:
    """Write `samples.npy` and `utterances.npz`; all of a recording counts as speech."""
    places: dict[int, int] = {}
    laid: list[NDArray[np.int16]] = []
    for row in rows:
        if id(row.samples) not in places:
            places[id(row.samples)] = sum(map(len, laid))
            laid.append(row.samples)
    work.mkdir(parents=True, exist_ok=True)
    np.save(work / "samples.npy", np.concatenate(laid))
    lengths = np.array([len(row.samples) for row in rows])
    np.savez(
        work / "utterances.npz",
        path=np.array([f"{number}.wav" for number in range(len(rows))]),
        speaker=np.array([row.speaker for row in rows]),
        source=np.array([row.source for row in rows]),
        split=np.array([row.split for row in rows]),
        kind=np.array([row.kind for row in rows]),
        start=np.array([places[id(row.samples)] for row in rows]),
        length=lengths,
        span_count=np.ones(len(rows), int),
        spans=np.stack([np.zeros_like(lengths), lengths], axis=1),
        teacher=np.zeros((len(rows), 256), np.float32),
    )
