"""How near separated tracks come to their talkers, and how much of a talker the wrong one holds.

R references (talkers), K tracks, N samples, S spans of a turn.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation
from scipy.optimize import linear_sum_assignment

from wavlm_meeting.errors import FormatError
from wavlm_meeting.units import SAMPLE_RATE

LIMIT_DB = 100.0
"""Ratios end here, above and below: a perfect track would have none."""

Samples = NDArray[np.float32]
Floats = NDArray[np.float64]
Quality = Callable[[Samples, Samples], Mapping[str, float | None]]
"""From a reference and its track, (N,) each, to figures by name; None where there is none."""


@dataclass(frozen=True)
class SeparationScore:
    """One recording, talker by talker in the order of the references."""

    tracks: tuple[int, ...]
    """The track of each talker, from 0."""
    figures: Mapping[str, tuple[float | None, ...]]
    """Of each talker `si_sdr`, `si_sdr_improvement` (if there is a mixture) and `sdr` in dB, and
    what else was asked for."""


@dataclass(frozen=True)
class Leakage:
    """Energies of tracks while one person speaks alone; they add up over recordings."""

    lone_s: float = 0.0
    """For how long somebody speaks alone."""
    energy: float = 0.0
    """Sum of squares of all tracks in that time."""
    leaked: float = 0.0
    """Sum of squares of all tracks but the right ones."""

    @property
    def decibels(self) -> float:
        """The share of the wrong tracks, 10 log10(leaked / energy); the lower the better."""
        return _decibels(self.leaked, self.energy)

    def __add__(self, other: "Leakage") -> "Leakage":
        return Leakage(
            self.lone_s + other.lone_s, self.energy + other.energy, self.leaked + other.leaked
        )


def score_separation(
    references: Sequence[Samples] | Samples,
    tracks: Sequence[Samples] | Samples,
    mixture: Samples | None = None,
    quality: Quality | None = None,
) -> SeparationScore:
    """Compare K tracks (N,) with R references (N,), as many tracks as references or more.

    With e a track and s its reference, both without their means:

        SI-SDR = 10 log10(|a s|^2 / |e - a s|^2),  a = <e, s> / |s|^2
        SDR = 10 log10(|s|^2 / |e - s|^2)

    The improvement is the SI-SDR of the track less that of the `mixture` (N,). Each reference gets
    a track of its own, so that the sum of SI-SDR is the highest. `quality` is asked about each
    pair. Source: Le Roux et al., "SDR: half-baked or well done?" (ICASSP 2019), equations 2 to 5.
    Raises FormatError for other shapes, and for a reference that is silent.
    """
    _check_shapes(references, tracks, mixture)
    moments = _moments([*references, *tracks, *([] if mixture is None else [mixture])])
    people, last = len(references), len(references) + len(tracks)
    energies = moments.diagonal()
    for number, energy in enumerate(energies[:people], 1):
        if not energy:
            raise FormatError(f"reference {number} is silent; leave it out.")
    invariant = _si_sdr(moments, people)  # (R, K), and the mixture behind
    rows, chosen = linear_sum_assignment(-invariant[:, : len(tracks)])
    own = people + chosen
    differences = energies[own] - 2 * moments[rows, own] + energies[rows]
    si_sdr = invariant[rows, chosen]
    figures: dict[str, tuple[float | None, ...]] = {"si_sdr": tuple(si_sdr.tolist())}
    if mixture is not None:
        gain = si_sdr - invariant[:, last - people]
        figures["si_sdr_improvement"] = tuple(gain.tolist())
    pairs = zip(energies[rows].tolist(), differences.tolist(), strict=True)
    figures["sdr"] = tuple(_decibels(energy, error) for energy, error in pairs)
    if quality is not None:
        found = [quality(references[row], tracks[track]) for row, track in enumerate(chosen)]
        figures |= {name: tuple(each[name] for each in found) for name in found[0]}
    return SeparationScore(tuple(chosen.tolist()), figures)


def mean_figures(scores: Iterable[SeparationScore]) -> dict[str, float | None]:
    """Return the mean of each figure over all talkers of all recordings that have it."""
    values: dict[str, list[float]] = {}
    for score in scores:
        for name, each in score.figures.items():
            values.setdefault(name, []).extend(value for value in each if value is not None)
    return {name: sum(each) / len(each) if each else None for name, each in values.items()}


def leakage(tracks: Iterable[Samples], turns: Annotation) -> Leakage:
    """Count what the wrong tracks hold while one person speaks alone, by who speaks when.

    `tracks` are (N,) each, at 16 kHz, and are taken one after the other. Of each turn, the spans
    count in which nobody else speaks; the track with the most energy in all of them together is the
    right one. A talker may thus come on another track with the next turn, but one who moves within
    a turn leaks; turns of a speaker that touch are one. Energy of the room's noise counts, on
    whichever track it is. Turns are cut where the tracks end. Raises FormatError where nobody ever
    speaks alone.
    """
    spans, turn = lone_spans(turns)
    energies: list[Floats] = []  # of each turn, an array for each track
    within = spans
    for track in tracks:
        within = np.minimum(spans, len(track))
        summed = np.concatenate([[0.0], np.cumsum(np.square(track, dtype=np.float64))])
        of_spans = summed[within[:, 1]] - summed[within[:, 0]]
        energies.append(np.bincount(turn, of_spans).astype(np.float64))
    lone = int(np.diff(within).sum())
    if not lone:
        raise FormatError(
            f"{turns.uri}: nobody speaks alone, so that it cannot be said what leaks; give turns "
            "of this recording."
        )
    by_turn = np.stack(energies)  # (K, turns)
    total = float(by_turn.sum())
    return Leakage(lone / SAMPLE_RATE, total, total - float(by_turn.max(axis=0).sum()))


def lone_spans(turns: Annotation) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return where one person speaks alone, in samples at 16 kHz (S, 2), and in which turn (S,).

    Turns are counted in their order, those of a speaker that overlap or touch as one.
    """
    lines = [
        (segment.start, segment.end, speaker)
        for segment, _, speaker in turns.support().itertracks(yield_label=True)
    ]
    times_s = np.array([line[:2] for line in lines]).reshape(-1, 2)
    bounds = np.rint(times_s * SAMPLE_RATE).astype(np.int64)
    edges = np.unique(bounds)
    first, last = np.searchsorted(edges, bounds).T
    # A speaker's own turns do not overlap any more: who speaks are as many as turns go on.
    speaking = np.zeros(len(edges) + 1, np.int64)
    np.add.at(speaking, first, 1)
    np.add.at(speaking, last, -1)
    alone = speaking.cumsum() == 1
    pieces = [
        (place, number)
        for number in range(len(lines))
        for place in range(first[number], last[number])
        if alone[place]
    ]
    places, turn = np.array(pieces, np.int64).reshape(-1, 2).T
    return np.stack([edges[places], edges[places + 1]], axis=1), turn


def _check_shapes(
    references: Sequence[Samples] | Samples,
    tracks: Sequence[Samples] | Samples,
    mixture: Samples | None,
) -> None:
    """Refuse what cannot be compared; raises FormatError."""
    if len(tracks) < len(references):
        raise FormatError(
            f"{len(references)} references, but {len(tracks)} tracks; give at least as many tracks."
        )
    lengths = {len(each) for each in (*references, *tracks)}
    if mixture is not None:
        lengths.add(len(mixture))
    if len(lengths) > 1:
        said = " and ".join(f"{each:,}" for each in sorted(lengths))
        raise FormatError(f"signals of {said} samples; all have to be of one length.")


def _moments(signals: Sequence[Samples]) -> Floats:
    """Return the products of all pairs of signals without their means."""
    centred = np.stack([each - each.mean(dtype=np.float64) for each in signals])
    return centred @ centred.T


def _si_sdr(moments: Floats, people: int) -> Floats:
    """Return the SI-SDR in dB of all signals behind the `people` references, for each of these.

    |a s|^2 = <e, s>^2 / |s|^2, and |e - a s|^2 is what is left of |e|^2.
    """
    energies = moments.diagonal()
    explained = np.square(moments[:people, people:]) / energies[:people, None]
    left = np.maximum(energies[people:] - explained, 0.0)
    found = [
        _decibels(part, rest)
        for part, rest in zip(explained.ravel().tolist(), left.ravel().tolist(), strict=True)
    ]
    return np.array(found).reshape(explained.shape)


def _decibels(part: float, rest: float) -> float:
    """Return 10 log10(part / rest) within the limits; nothing of nothing is the lower one."""
    lowest = 10 ** (-LIMIT_DB / 10)
    if part <= lowest * rest:
        return -LIMIT_DB
    return LIMIT_DB if rest <= lowest * part else float(10 * np.log10(part / rest))
