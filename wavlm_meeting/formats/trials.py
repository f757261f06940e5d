"""Lists of verification trials and of their scores, one pair of recordings a line.

K trials, M recordings.
"""

import re
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.lines import open_text

_FIRST = {"1": True, "0": False}
"""VoxCeleb's layout: `<1 or 0> <enrol> <test>`."""
_LAST = {"target": True, "nontarget": False}
"""NIST's and Kaldi's: `<enrol> <test> <target or nontarget>`."""

_VOXCELEB = re.compile(r"(id\d{5})/")
"""How VoxCeleb's recordings begin: with their speaker."""

_BLOCK = 100_000
"""Lines that are turned to text at once."""


@dataclass(frozen=True)
class Trials:
    """Pairs of recordings, each by one speaker or by two."""

    targets: NDArray[np.bool_]
    """(K,): whether both recordings are of one speaker."""
    pairs: NDArray[np.int32]
    """(K, 2): places in `names`, enrolment then test."""
    names: tuple[str, ...]
    """(M,): each recording once, as they first come."""


@dataclass(frozen=True)
class Scores:
    """Pairs of recordings and how alike their voices are."""

    values: NDArray[np.float64]
    """(K,): the higher, the more alike."""
    pairs: NDArray[np.int32]
    """(K, 2): places in `names`, enrolment then test."""
    names: tuple[str, ...]
    """(M,): each recording once."""


def read_trials(path: str | Path) -> Trials:
    """Read a list of trials in VoxCeleb's layout or in NIST's; its first line says which.

    Lists may have millions of lines: names are kept once. Raises FormatError with the line's
    number.
    """
    targets, pairs, table = bytearray(), array("i"), dict[str, int]()
    kinds, place = _FIRST, 0
    for number, fields in _lines(path):
        if not targets and fields[0] not in _FIRST and fields[-1] in _LAST:
            kinds, place = _LAST, 2
        kind = kinds.get(fields[place]) if len(fields) == 3 else None
        if kind is None:
            layout = "<enrol> <test> <target or nontarget>" if place else "<1 or 0> <path> <path>"
            raise FormatError(f"{path}:{number}: not a trial; write '{layout}'.")
        targets.append(kind)
        for name in fields[:2] if place else fields[1:]:
            pairs.append(table.setdefault(name, len(table)))
    if not targets:
        raise FormatError(f"{path}: no trials; write one a line.")
    return Trials(np.frombuffer(targets, np.bool_), _as_pairs(pairs), tuple(table))


def read_scores(path: str | Path) -> Scores:
    """Read a list of `<enrol> <test> <score>` lines; raises FormatError with the line's number."""
    values, pairs, table = array("d"), array("i"), dict[str, int]()
    for number, fields in _lines(path):
        try:
            enrol, test, text = fields
            value = float(text)
        except ValueError:
            value = np.nan
        if not isfinite(value):
            raise FormatError(f"{path}:{number}: not a score; write '<enrol> <test> <number>'.")
        values.append(value)
        pairs.append(table.setdefault(enrol, len(table)))
        pairs.append(table.setdefault(test, len(table)))
    if not values:
        raise FormatError(f"{path}: no scores; write one a line.")
    return Scores(np.frombuffer(values), _as_pairs(pairs), tuple(table))


def write_scores(scores: Scores, path: str | Path) -> None:
    """Write scores in their order; raises FormatError for a name with spaces, which end a field."""
    for name in scores.names:
        if len(name.split()) != 1:
            raise FormatError(f"'{name}': a list of scores takes no spaces in a name; rename it.")
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for start in range(0, len(scores.values), _BLOCK):
            rows = slice(start, start + _BLOCK)
            places, values = scores.pairs[rows].tolist(), scores.values[rows].tolist()
            file.writelines(
                f"{scores.names[enrol]} {scores.names[test]} {value:.9g}\n"
                for (enrol, test), value in zip(places, values, strict=True)
            )


def read_speakers(path: str | Path) -> dict[str, str]:
    """Read who speaks: `<recording> <speaker>` on each line (Kaldi's utt2spk)."""
    speakers: dict[str, str] = {}
    for number, fields in _lines(path):
        if len(fields) != 2:
            raise FormatError(f"{path}:{number}: not a speaker; write '<recording> <speaker>'.")
        if speakers.setdefault(fields[0], fields[1]) != fields[1]:
            raise FormatError(f"{path}:{number}: '{fields[0]}' has a speaker already; keep one.")
    return speakers


def voxceleb_speakers(names: Sequence[str]) -> list[str] | None:
    """Return the speaker of each recording if all are named as VoxCeleb's, `id10270/...`."""
    found = [_VOXCELEB.match(name) for name in names]
    return [match[1] for match in found if match] if all(found) else None


def match_scores(
    trials: Trials, scores: Scores, where: str | Path = "the scores"
) -> NDArray[np.float64]:
    """Return the score of each trial, (K,), in whatever order the scores are.

    Scores that stand line by line as the trials do are theirs. Otherwise a pair has one score, and
    scores of other pairs are passed over. Raises FormatError for a trial without a score, and for a
    pair with two of them that differ; `where` says in its message where scores are from.
    """
    if trials.names == scores.names and np.array_equal(trials.pairs, scores.pairs):
        return scores.values
    place = {name: number for number, name in enumerate(scores.names)}
    # A name that no score has gets a place of no score's.
    places = np.array([place.get(name, len(place)) for name in trials.names])
    wanted = _keys(places[trials.pairs], len(place) + 1)
    scored = _keys(scores.pairs.astype(np.int64), len(place) + 1)
    order = np.argsort(scored, kind="stable")
    scored, values = scored[order], scores.values[order]
    twice = np.flatnonzero((scored[1:] == scored[:-1]) & (values[1:] != values[:-1]))
    if len(twice):
        pair = _pair(scores, order[twice[0]])
        raise FormatError(f"{where}: {pair} has two scores that differ; keep one.")
    found = np.minimum(np.searchsorted(scored, wanted), len(scored) - 1)
    lacking = np.flatnonzero(scored[found] != wanted)
    if len(lacking):
        pair = _pair(trials, lacking[0])
        raise FormatError(
            f"{where}: {len(lacking)} of {len(wanted)} trials have no score, the first is {pair}; "
            "score the whole list, with the names that it has."
        )
    return values[found]


def _lines(path: str | Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the number and the fields of each line that is not blank, without keeping any."""
    with open_text(path) as file:
        for number, line in enumerate(file, start=1):
            if fields := line.split():
                yield number, fields


def _as_pairs(flat: "array[int]") -> NDArray[np.int32]:
    return np.frombuffer(flat, np.int32).reshape(-1, 2)


def _keys(places: NDArray[np.int64], base: int) -> NDArray[np.int64]:
    """Give each pair of places (K, 2) a number of its own."""
    return places[:, 0] * base + places[:, 1]


def _pair(listed: Trials | Scores, row: int) -> str:
    """Name a pair for a message."""
    enrol, test = listed.pairs[row]
    return f"'{listed.names[enrol]}' '{listed.names[test]}'"
