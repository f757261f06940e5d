"""Real conversations of the train split, as training material: turns by speaker, and pauses."""

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation

from wavlm_meeting.formats.rttm import read_rttm
from wavlm_meeting.units import SAMPLE_RATE

Ints = NDArray[np.integer]

LEAST_PAUSE_S = 2.0
"""Stretches without a word, at least so long, serve as background noise."""
PAUSE_MARGIN_S = 0.3
"""Kept away from the words at both ends of such a stretch."""


@dataclass(frozen=True)
class Meeting:
    """A recording, relative to the corpus, and the (start, end) samples of each speaker's turns."""

    path: str
    turns: dict[str, Ints]


def read_meetings(corpus: Path, split: str) -> list[Meeting]:
    """Return the conversations of a split, in a fixed order; none if the corpus has none."""
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        paths = sorted(
            row["path"]
            for row in csv.DictReader(file)
            if row["path"].startswith("meetings/") and row["split"] == split
        )
    return [Meeting(path, _turns(corpus / path)) for path in paths]


def alone(turns: dict[str, Ints], speaker: str, length: int) -> Ints:
    """Return the (start, end) samples at which `speaker` speaks and nobody else does."""
    own, others = np.zeros(length, bool), np.zeros(length, bool)
    for name, spans in turns.items():
        for start, end in spans:
            (own if name == speaker else others)[start:end] = True
    return _runs(own & ~others)


def pauses(turns: dict[str, Ints], length: int) -> Ints:
    """Return the (start, end) samples of the long stretches in which nobody speaks."""
    margin = int(PAUSE_MARGIN_S * SAMPLE_RATE)
    silent = np.ones(length, bool)
    for spans in turns.values():
        for start, end in spans:
            silent[max(0, start - margin) : end + margin] = False
    runs = _runs(silent)
    return runs[runs[:, 1] - runs[:, 0] >= LEAST_PAUSE_S * SAMPLE_RATE]


def _turns(path: Path) -> dict[str, Ints]:
    annotation = next(iter(read_rttm(path.with_suffix(".rttm")).values()), Annotation())
    return {
        str(name): np.array(
            [
                (round(turn.start * SAMPLE_RATE), round(turn.end * SAMPLE_RATE))
                for turn in annotation.label_timeline(name)
            ],
            np.int64,
        )
        for name in annotation.labels()
    }


def _runs(active: NDArray[np.bool_]) -> Ints:
    """Return the (start, end) of each run of True."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], active, [False]]).astype(np.int8)))
    return edges.reshape(-1, 2)
