"""Where diarization errors come from, and systems beside each other.

Every part is an `ErrorCounts`; those of one kind add up to the total of `score_diarization`.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import reduce
from operator import add
from typing import TypeAlias, TypeVar

import numpy as np
from pyannote.core import Annotation, Timeline

from wavlm_meeting.scoring.bootstrap import PairedInterval, paired_interval
from wavlm_meeting.scoring.diarization import ErrorCounts, pair_files
from wavlm_meeting.scoring.stretches import Floats, Stretches, cut

COLLARS_S = (0.0, 0.25)
"""The two collars that results are published with, on each side of a boundary."""

DEPTHS = ("0", "1", "2", "3+")
"""How many speakers the reference has at once."""

LENGTHS_S = (0.5, 1.0, 2.0, 5.0)
"""Bounds between the classes of turns; a turn as long as a bound is of the longer ones."""

LENGTHS = ("<0.5", "0.5-1", "1-2", "2-5", "5+", "no turn")
"""Classes of the reference's turns by seconds, then false alarms, which are of no turn."""

K = TypeVar("K", bound=Hashable)
AtCollars: TypeAlias = tuple[ErrorCounts, ...]
"""Counts at each of `COLLARS_S`."""
Pair: TypeAlias = tuple[str | None, str | None]
"""A speaker of the reference and the matched one of the hypothesis; None for nobody."""


@dataclass(frozen=True)
class RecordingBreakdown:
    """Counts of one recording, in total and in parts; each kind of parts adds up to the total.

    JER is over what is left by the collar, for speakers of whom something is left; parts by depth
    and by length have none.
    """

    total: AtCollars
    by_depth: Mapping[str, AtCollars]
    by_length: Mapping[str, AtCollars]
    by_speaker: Mapping[Pair, AtCollars]
    speakers: int
    """Speakers in the reference."""
    found: int
    """Speakers in the hypothesis."""


@dataclass(frozen=True)
class SystemBreakdown:
    """Counts of all recordings of one system."""

    recordings: Mapping[str, RecordingBreakdown]
    unscored: tuple[str, ...]
    """Recordings of the hypothesis that are not in the reference."""

    @property
    def total(self) -> AtCollars:
        """Counts of all recordings together."""
        return _add_all(each.total for each in self.recordings.values())

    @property
    def by_depth(self) -> dict[str, AtCollars]:
        """Counts by how many speakers the reference has at once."""
        return _add_parts(each.by_depth for each in self.recordings.values())

    @property
    def by_length(self) -> dict[str, AtCollars]:
        """Counts by the length of the reference's turns."""
        return _add_parts(each.by_length for each in self.recordings.values())

    @property
    def by_number(self) -> dict[int, AtCollars]:
        """Counts by how many speakers the reference has in a recording."""
        recordings = sorted(self.recordings.values(), key=lambda each: each.speakers)
        return _add_parts({each.speakers: each.total} for each in recordings)

    @property
    def numbers(self) -> dict[int, Counter[int]]:
        """How many recordings of so many speakers are found to have so many."""
        table: defaultdict[int, Counter[int]] = defaultdict(Counter)
        for each in sorted(self.recordings.values(), key=lambda each: (each.speakers, each.found)):
            table[each.speakers][each.found] += 1
        return dict(table)

    @property
    def right_numbers(self) -> int:
        """Of how many recordings the number of speakers is right."""
        return sum(each.found == each.speakers for each in self.recordings.values())

    @property
    def number_error(self) -> float:
        """Mean over recordings of how many speakers too many or too few are found."""
        errors = [abs(each.found - each.speakers) for each in self.recordings.values()]
        return sum(errors) / max(1, len(errors))


@dataclass(frozen=True)
class Comparison:
    """Systems on the same recordings."""

    systems: Mapping[str, SystemBreakdown]
    differences: tuple[PairedInterval | None, ...]
    """DER of the first system less that of the second at each collar, None without speech.

    Empty if there are not two systems and two recordings, or no bootstraps are asked for.
    """


def compare_diarization(
    reference: Mapping[str, Annotation],
    hypotheses: Mapping[str, Mapping[str, Annotation]],
    uem: Mapping[str, Timeline] | None = None,
    resamples: int = 1000,
    seed: int = 0,
) -> Comparison:
    """Break the errors of named systems down; what is scored and how is as in `score_diarization`.

    The difference of the first two systems' DER has an interval of 95 % from `resamples` bootstraps
    over recordings; it needs two of each. Raises FormatError as `score_diarization` does.
    """
    systems = {
        name: _break_down(name, reference, hypothesis, uem)
        for name, hypothesis in hypotheses.items()
    }
    first, second = (*systems.values(), None, None)[:2]
    if not resamples or first is None or second is None or len(first.recordings) < 2:
        return Comparison(systems, ())
    return Comparison(
        systems,
        tuple(
            paired_interval(_rates(first, collar), _rates(second, collar), resamples, seed)
            for collar in range(len(COLLARS_S))
        ),
    )


def _rates(system: SystemBreakdown, collar: int) -> Floats:
    """Return errors and speech of each recording in seconds, (N, 2)."""
    totals = [each.total[collar] for each in system.recordings.values()]
    return np.array([(each.errors_s, each.total_s) for each in totals])


def _break_down(
    name: str,
    reference: Mapping[str, Annotation],
    hypothesis: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None,
) -> SystemBreakdown:
    """Break down one system's errors."""
    uris, unscored = pair_files(reference, hypothesis, uem, name)
    recordings = {}
    for uri in uris:
        nobody = Annotation(uri=uri)
        stretches = cut(
            reference.get(uri, nobody),
            hypothesis.get(uri, nobody),
            None if uem is None else uem[uri],
            COLLARS_S,
        )
        recordings[uri] = _count(stretches)
    return SystemBreakdown(recordings, unscored)


def _count(stretches: Stretches) -> RecordingBreakdown:
    """Count one recording's errors by every kind of part."""
    scored_s = [stretches.lengths_s * flags for flags in stretches.scored]
    by_speaker = _at_collars(_count_speakers(stretches, each_s) for each_s in scored_s)
    return RecordingBreakdown(
        _add_all(by_speaker.values()),
        _at_collars(_count_depths(stretches, each_s) for each_s in scored_s),
        _at_collars(_count_lengths(stretches, each_s) for each_s in scored_s),
        by_speaker,
        len(stretches.speakers),
        len(stretches.others),
    )


def _at_collars(counts: Iterable[Mapping[K, ErrorCounts]]) -> dict[K, AtCollars]:
    """Put the counts of a part at each collar side by side."""
    tables = list(counts)
    return {name: tuple(table[name] for table in tables) for name in tables[0]}


def _count_depths(stretches: Stretches, scored_s: Floats) -> dict[str, ErrorCounts]:
    """Count errors by overlap; `scored_s` are the seconds of each stretch that count, (K,)."""
    depth = np.minimum(stretches.speaking.sum(axis=0), len(DEPTHS) - 1)
    return {
        name: _sum(stretches, scored_s * (depth == place), scored_s * (depth == place))
        for place, name in enumerate(DEPTHS)
    }


def _count_lengths(stretches: Stretches, scored_s: Floats) -> dict[str, ErrorCounts]:
    """Count errors by the turn that they are of."""
    nothing = np.zeros(1)
    of_class = np.digitize(stretches.turn_s, LENGTHS_S)
    counts = {
        name: _sum(stretches, scored_s * (of_class == place), nothing)
        for place, name in enumerate(LENGTHS[:-1])
    }
    return counts | {LENGTHS[-1]: _sum(stretches, nothing, scored_s)}


def _count_speakers(stretches: Stretches, scored_s: Floats) -> dict[Pair, ErrorCounts]:
    """Count errors by speaker: those of the reference, then those who match none of them."""
    rows = np.arange(len(stretches.speakers))[:, None]
    other_rows = np.arange(len(stretches.others))[:, None]
    counts: dict[Pair, ErrorCounts] = {}
    for row, name in enumerate(stretches.speakers):
        other = stretches.matches.index(row) if row in stretches.matches else None
        of_speaker = scored_s * (rows == row)
        of_other = scored_s * (other_rows == (-1 if other is None else other))
        part = _sum(stretches, of_speaker, of_other)
        if part.total_s:
            said_s = float((stretches.found * of_other).sum())
            jaccard = 1.0 - part.correct_s / (part.total_s + said_s - part.correct_s)
            part = replace(part, speakers=1, speaker_errors=jaccard)
        counts[name, None if other is None else stretches.others[other]] = part
    for row, match in enumerate(stretches.matches):
        if match is None:
            of_other = scored_s * (other_rows == row)
            counts[None, stretches.others[row]] = _sum(stretches, np.zeros(1), of_other)
    return counts


def _sum(stretches: Stretches, of_speakers: Floats, of_others: Floats) -> ErrorCounts:
    """Add up seconds; those of each stretch that count are (R, K) and (H, K), or broadcast so."""
    errors = stretches.errors
    return ErrorCounts(
        total_s=float((stretches.speaking * of_speakers).sum()),
        correct_s=float((errors.correct * of_speakers).sum()),
        missed_s=float((errors.missed * of_speakers).sum()),
        false_alarm_s=float((errors.false_alarm * of_others).sum()),
        confusion_s=float((errors.confused * of_speakers).sum()),
    )


def _add_all(counts: Iterable[AtCollars]) -> AtCollars:
    """Add counts at each collar."""
    nothing: AtCollars = (ErrorCounts(),) * len(COLLARS_S)
    return reduce(lambda one, other: tuple(map(add, one, other)), counts, nothing)


def _add_parts(parts: Iterable[Mapping[K, AtCollars]]) -> dict[K, AtCollars]:
    """Add the parts of recordings by their names, in the order in which these come first."""
    named: defaultdict[K, list[AtCollars]] = defaultdict(list)
    for each in parts:
        for name, counts in each.items():
            named[name].append(counts)
    return {name: _add_all(counts) for name, counts in named.items()}
