"""Who is on which of the separated tracks: from turns and the tracks' energies to a track a person.

A separator keeps talkers apart, but does not know them: who speaks next may be on either track.
Diarization knows who speaks, but not on which track. Where one person speaks alone, both tracks are
theirs, and the energies say which one carries them. Where several speak at once, whoever a track
has carried before and after is carried by it in between: a separator goes on with a talker.

K speakers, J tracks, U units, P edges of gains, n samples of a block.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise, permutations
from math import exp
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

UNIT_S = 0.2
"""Longest time for which one decision holds."""
HOLD_S = 1.0
"""A speaker changes the track for no less than this many seconds alone on the other one."""
MEMORY_S = 1.0
"""Seconds of silence after which a speaker comes back on the same track for a third of that."""
FADE_S = 0.05
"""Length of the fades at which a track goes from one speaker to another."""

Turns = Sequence[tuple[float, float, str]]
"""Start and end in seconds, and the speaker."""
Owners = tuple[int | None, ...]
"""The speaker whom each of the J tracks carries, None for nobody."""


class Unit(NamedTuple):
    """A stretch in which the same people speak, nobody perhaps."""

    start: int
    """Its first sample."""
    end: int
    """The sample behind its last."""
    speakers: tuple[int, ...]
    """Who speaks, by number."""


@dataclass(frozen=True)
class Mix:
    """How loud each track is in each speaker's: linear between edges, so that nothing clicks."""

    edges: NDArray[np.int64]
    """(P,) samples, not falling."""
    gains: NDArray[np.float32]
    """(P, K, J); over the speakers of a track their sum is 1 wherever anybody speaks."""

    def __call__(self, first: int, tracks: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the speakers' samples (K, n) of the tracks (J, n) that begin at sample `first`."""
        places = np.arange(first, first + tracks.shape[1])
        # What lies between an edge before the block and one after it is all that it needs.
        begin = max(0, int(np.searchsorted(self.edges, first, "right")) - 1)
        end = int(np.searchsorted(self.edges, first + tracks.shape[1], "left")) + 1
        edges, gains = self.edges[begin:end], self.gains[begin:end]
        mixed = np.zeros((gains.shape[1], tracks.shape[1]), np.float32)
        for speaker, track in np.argwhere(gains.any(axis=0)):
            gain = np.interp(places, edges, gains[:, speaker, track])
            mixed[speaker] += gain.astype(np.float32) * tracks[track]
        return mixed


def mix_of(
    turns: Turns,
    speakers: Sequence[str],
    tracks: Iterable[NDArray[np.float32]],
    samples: int,
    rate: int,
) -> Mix:
    """Decide how each speaker's track is made of the separated ones.

    Args:
        turns: Who speaks when.
        speakers: Their names, in the order in which their tracks are wanted (K).
        tracks: The separated tracks (J, n), block by block.
        samples: How many there are of each.
        rate: How many of them a second.
    """
    units = units_of(turns, speakers, samples, rate)
    energies = energies_of(units, tracks)
    owners = owners_of(units, energies, rate)
    return _mix(units, owners, len(speakers), rate)


def units_of(turns: Turns, speakers: Sequence[str], samples: int, rate: int) -> list[Unit]:
    """Cut a recording of so many samples wherever a turn begins or ends, and what is left long."""
    number = {name: place for place, name in enumerate(speakers)}
    changes: dict[int, list[tuple[int, int]]] = {0: [], samples: []}
    for start, end, name in turns:
        for time_s, change in ((start, 1), (end, -1)):
            place = min(round(time_s * rate), samples)
            changes.setdefault(place, []).append((number[name], change))
    longest, speaking, units = max(1, round(UNIT_S * rate)), [0] * len(speakers), []
    for start, end in pairwise(sorted(changes)):
        for who, change in changes[start]:
            speaking[who] += change
        active = tuple(who for who, count in enumerate(speaking) if count)
        parts = -(-(end - start) // longest) if active else 1
        cuts = [start + (end - start) * part // parts for part in range(parts + 1)]
        units += [Unit(first, last, active) for first, last in pairwise(cuts)]
    return units


def energies_of(
    units: Sequence[Unit], tracks: Iterable[NDArray[np.float32]]
) -> NDArray[np.float64]:
    """Return the energy (U, J) of each track in each unit; `tracks` are (J, n), block by block."""
    starts = np.array([unit.start for unit in units])
    energies: NDArray[np.float64] | None = None
    first = 0
    for block in tracks:
        if energies is None:
            energies = np.zeros((len(units), len(block)))
        last = first + block.shape[1]
        begin = max(0, int(np.searchsorted(starts, first, "right")) - 1)
        end = int(np.searchsorted(starts, last, "left"))
        cuts = np.maximum(starts[begin:end] - first, 0)
        squares = np.square(block, dtype=np.float64)
        energies[begin:end] += np.add.reduceat(squares, cuts, axis=1).T
        first = last
    return np.zeros((len(units), 0)) if energies is None else energies


def owners_of(units: Sequence[Unit], energies: NDArray[np.float64], rate: int) -> list[Owners]:
    """Find whom each track carries in each unit by Viterbi's algorithm; (U, J) energies.

    The cost is the seconds for which those who speak alone are on another track than they are said
    to be, by the share of the energy, and a second for each change of track.
    """
    tracks = energies.shape[1]
    total = energies.sum(axis=1, keepdims=True)
    shares = np.divide(energies, total, out=np.full_like(energies, 1 / tracks), where=total > 0)
    states: list[list[Owners]] = []
    origins: list[list[int]] = []
    costs, before, end = [0.0], [(None,) * tracks], 0
    for unit, share in zip(units, shares, strict=True):
        if not unit.speakers:
            states.append([(None,) * tracks])
            origins.append([])
            continue
        now = _states(unit.speakers, tracks)
        hold = HOLD_S * exp(-(unit.start - end) / rate / MEMORY_S)
        reached = [
            min(
                (cost + hold * _changes(old, new), place)
                for place, (cost, old) in enumerate(zip(costs, before, strict=True))
            )
            for new in now
        ]
        length_s = (unit.end - unit.start) / rate
        costs = [
            cost + length_s * _astray(unit, new, share)
            for (cost, _), new in zip(reached, now, strict=True)
        ]
        states.append(now)
        origins.append([place for _, place in reached])
        before, end = now, unit.end
    return _path(states, origins, costs)


def _states(speakers: tuple[int, ...], tracks: int) -> list[Owners]:
    """List whom the tracks may carry: those who speak, each on one track, as far as these reach."""
    nobody = [None] * (tracks - len(speakers))
    return list(dict.fromkeys(permutations([*speakers, *nobody], tracks)))


def _changes(old: Owners, new: Owners) -> int:
    """Count who is on another track than before, among those on a track in both."""
    return sum(
        who is not None and who in old and old[track] != who for track, who in enumerate(new)
    )


def _astray(unit: Unit, owners: Owners, share: NDArray[np.float64]) -> float:
    """Return the share of the energy that is not on the track of who speaks alone."""
    if len(unit.speakers) > 1:
        return 0.0
    return float(1 - share[owners.index(unit.speakers[0])])


def _path(states: list[list[Owners]], origins: list[list[int]], costs: list[float]) -> list[Owners]:
    """Go back from the cheapest end."""
    place = int(np.argmin(costs))
    path = []
    for own, origin in zip(reversed(states), reversed(origins), strict=True):
        path.append(own[place] if origin else own[0])
        place = origin[place] if origin else place
    return path[::-1]


def _mix(units: Sequence[Unit], owners: Sequence[Owners], speakers: int, rate: int) -> Mix:
    """Make gains of whom the tracks carry."""
    steps = list(_steps(units, owners, speakers))
    fade = round(FADE_S * rate)
    edges, gains = [0], [steps[0][2]]
    for (start, middle, old), (_, end, new) in pairwise(steps):
        # Who speaks is heard in full: a fade lies on the side where fewer do.
        more = int(new.any(axis=1).sum()) - int(old.any(axis=1).sum())
        before = fade if more > 0 else fade // 2 if more == 0 else 0
        before, after = min(before, (middle - start) // 2), min(fade - before, (end - middle) // 2)
        edges += [middle - before, middle + after]
        gains += [old, new]
    return Mix(np.array(edges), np.stack(gains))


def _steps(
    units: Sequence[Unit], owners: Sequence[Owners], speakers: int
) -> Iterable[tuple[int, int, NDArray[np.float32]]]:
    """Give (start, end, gains (K, J)) of stretches, those without a change joined."""
    start, end, held = 0, 0, None
    for unit, own in zip(units, owners, strict=True):
        gains = np.zeros((speakers, len(own)), np.float32)
        for track, who in enumerate(own):
            if unit.speakers:
                # A track that carries nobody holds what is left of who speaks alone.
                gains[unit.speakers[0] if who is None else who, track] = 1.0
        if held is not None and not np.array_equal(gains, held):
            yield start, end, held
            start = unit.start
        held, end = gains, unit.end
    if held is not None:
        yield start, end, held
