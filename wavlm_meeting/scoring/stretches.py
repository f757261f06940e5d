"""A recording cut into stretches within which nothing changes, and who is wrong in each.

K stretches, R speakers of the reference, H of the hypothesis.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Timeline

from wavlm_meeting.scoring.diarization import align

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]


_LEAST_S = 1e-6
"""Times that differ by less are one, as in pyannote.core."""


@dataclass(frozen=True)
class Errors:
    """How much of each stretch is wrong for whom.

    Where R' speak and H' are found to, of whom C are matched, R' - H' are missed, or H' - R' false
    alarms, and the lesser of both without C are confused (NIST's definition, which says of how many
    and not of whom). Those of the reference who are not matched share what is missed and confused
    alike, those of the hypothesis the false alarms.
    """

    correct: Flags
    """(R, K)."""
    missed: Floats
    """Shares of the stretch, (R, K)."""
    confused: Floats
    """(R, K)."""
    false_alarm: Floats
    """(H, K)."""


@dataclass(frozen=True)
class Stretches:
    """The stretches of a recording, one after the other; the speakers are matched as in scoring."""

    edges: Floats
    """Where stretches begin, and the last one ends, in seconds, (K + 1,)."""
    turn_s: Floats
    """How long the turn is that a speaker of the reference is in, 0 for the silent, (R, K)."""
    found: Flags
    """Whether a speaker of the hypothesis speaks, (H, K)."""
    scored: tuple[Flags, ...]
    """Whether a stretch is scored at each collar, (K,)."""
    speakers: tuple[str, ...]
    """Names in the reference, (R,)."""
    others: tuple[str, ...]
    """Names in the hypothesis, (H,)."""
    matches: tuple[int | None, ...]
    """Who in the reference a speaker of the hypothesis is, (H,)."""

    @cached_property
    def speaking(self) -> Flags:
        """Whether a speaker of the reference speaks, (R, K)."""
        return self.turn_s > 0

    @cached_property
    def lengths_s(self) -> Floats:
        """Seconds of each stretch, (K,); what rounding leaves between two equal times is none."""
        lengths_s = np.diff(self.edges)
        return lengths_s * (lengths_s > _LEAST_S)

    @cached_property
    def errors(self) -> Errors:
        """Who is wrong, and how much of each stretch."""
        correct = np.zeros_like(self.speaking)
        surplus = self.found.copy()
        for row, match in enumerate(self.matches):
            if match is not None:
                correct[match] = self.speaking[match] & self.found[row]
                surplus[row] &= ~correct[match]
        wrong = self.speaking & ~correct
        lacking = self.speaking.sum(axis=0) - self.found.sum(axis=0)
        missed = wrong * _shares(lacking, wrong)
        return Errors(correct, missed, wrong - missed, surplus * _shares(-lacking, surplus))


def cut(
    reference: Annotation,
    hypothesis: Annotation,
    uem: Timeline | None,
    collars: tuple[float, ...] = (0.0,),
) -> Stretches:
    """Cut a recording wherever a turn, a collar or what is scored begins or ends.

    Without `uem` it is scored from the first to the last turn of both; `collars` are in seconds on
    each side of every boundary of the reference.
    """
    aligned = align(reference, hypothesis, uem)
    boundaries = np.array([[turn.start, turn.end] for turn in reference.itersegments()]).ravel()
    segments = (*aligned.uem, *aligned.turns.itersegments(), *aligned.found.itersegments())
    bounds = [np.array([[segment.start, segment.end] for segment in segments]).ravel()]
    bounds += [boundaries + side * collar for collar in collars for side in (-1, 1)]
    edges = np.unique(np.concatenate(bounds))

    def place(start: float, end: float) -> slice:
        """Return the stretches between two times."""
        return slice(*np.searchsorted(edges, (start, end)).tolist())

    size = max(0, len(edges) - 1)
    inside = np.zeros(size, bool)
    for part in aligned.uem:
        inside[place(part.start, part.end)] = True
    turn_s = np.zeros((len(aligned.speakers), size))
    rows = {name: row for row, name in enumerate(aligned.speakers)}
    # Turns as long as they are, though the part that is scored may begin or end within them.
    for turn, _, name in reference.support().itertracks(yield_label=True):
        if name in rows:
            # 0.1 + 0.2 is 0.3, so that a turn of half a second is not of the shorter ones.
            turn_s[rows[name], place(turn.start, turn.end)] = round(turn.duration, 6)
    found = np.zeros((len(aligned.others), size), bool)
    for turn, _, row in aligned.found.itertracks(yield_label=True):
        found[row, place(turn.start, turn.end)] = True
    scored = [inside.copy() for _ in collars]
    for collar, flags in zip(collars, scored, strict=True):
        for boundary in boundaries if collar else ():
            flags[place(boundary - collar, boundary + collar)] = False
    matches = (aligned.mapping.get(row) for row in range(len(aligned.others)))
    return Stretches(
        edges,
        turn_s * inside,
        found,
        tuple(scored),
        aligned.speakers,
        aligned.others,
        tuple(None if match is None else int(match) for match in matches),
    )


def _shares(lacking: NDArray[np.integer], candidates: Flags) -> Floats:
    """Return the share of a stretch, (K,), for each candidate if `lacking` of them are to be."""
    return np.maximum(lacking, 0) / np.maximum(candidates.sum(axis=0), 1)
