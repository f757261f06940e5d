"""Diarization error rate (DER), counted by pyannote.metrics, and Jaccard error rate (JER).

The figures equal those of NIST's md-eval-22: speakers are matched over all that is scored before
any collar or overlap is taken out, and a collar is so many seconds on each side of a boundary.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from operator import add

import numpy as np
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.identification import IdentificationErrorRate
from scipy.optimize import linear_sum_assignment

from wavlm_meeting.errors import FormatError

_PIECE_S = 60.0
"""Counts add over time and pyannote.metrics takes quadratic time, so it counts piece by piece."""


@dataclass(frozen=True)
class ErrorCounts:
    """Seconds of speaker time, and speakers; they add up over files."""

    total_s: float = 0.0
    """Speech of the reference; two speakers at once count twice."""

    correct_s: float = 0.0
    missed_s: float = 0.0
    false_alarm_s: float = 0.0
    confusion_s: float = 0.0

    speakers: int = 0
    """Speakers in the reference."""

    speaker_errors: float = 0.0
    """Sum over them of their Jaccard errors, each from 0 to 1."""

    @property
    def errors_s(self) -> float:
        """Missed, false and confused speaker time together."""
        return self.missed_s + self.false_alarm_s + self.confusion_s

    @property
    def der(self) -> float:
        """Missed, false and confused speaker time over that of the reference.

        Without speech in the reference it is 0 if nothing was found, else 1.
        """
        return self.errors_s / self.total_s if self.total_s else float(self.errors_s > 0)

    @property
    def jer(self) -> float:
        """Mean Jaccard error of the reference's speakers; 0 if it has none.

        Source: Second DIHARD challenge evaluation plan (2019); without collar. The same figure as
        JaccardErrorRate of pyannote.metrics, from the seconds that the matching needs anyway.
        """
        return self.speaker_errors / self.speakers if self.speakers else 0.0

    def as_dict(self) -> dict[str, float]:
        """Return counts and rates as plain data; rates are fractions."""
        plain = {"der": self.der, "jer": self.jer, **asdict(self)}
        return {name: round(value, 6) for name, value in plain.items()}

    def __add__(self, other: "ErrorCounts") -> "ErrorCounts":
        return ErrorCounts(
            self.total_s + other.total_s,
            self.correct_s + other.correct_s,
            self.missed_s + other.missed_s,
            self.false_alarm_s + other.false_alarm_s,
            self.confusion_s + other.confusion_s,
            self.speakers + other.speakers,
            self.speaker_errors + other.speaker_errors,
        )


@dataclass(frozen=True)
class DiarizationScore:
    """Counts of each scored file, and hypothesis files that have no reference."""

    files: Mapping[str, ErrorCounts]
    unscored: tuple[str, ...]

    @property
    def total(self) -> ErrorCounts:
        """Counts of all files together."""
        return reduce(add, self.files.values(), ErrorCounts())


def score_diarization(
    reference: Mapping[str, Annotation],
    hypothesis: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None = None,
    collar: float = 0.0,
    skip_overlap: bool = False,
) -> DiarizationScore:
    """Score each file of `reference`, and of `uem` if given, by DER and JER.

    A file that the hypothesis lacks is all missed; one that `uem` names and the reference lacks
    holds no speech. Without `uem` a file is scored from the first to the last turn of reference and
    hypothesis. `collar` is in seconds on each side of every boundary of the reference (md-eval's
    meaning; pyannote.metrics takes twice that). `skip_overlap` leaves out where the reference has
    two speakers or more. JER takes neither. Raises FormatError if `uem` lacks a file, or reference
    and hypothesis name different files.
    """
    uris, unscored = pair_files(reference, hypothesis, uem)
    files = {
        uri: _score_file(
            reference.get(uri, Annotation(uri=uri)),
            hypothesis.get(uri, Annotation(uri=uri)),
            None if uem is None else uem[uri],
            collar,
            skip_overlap,
        )
        for uri in uris
    }
    return DiarizationScore(files, unscored)


def pair_files(
    reference: Mapping[str, Annotation],
    hypothesis: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None,
    name: str = "hypothesis",
) -> tuple[list[str], tuple[str, ...]]:
    """List the files to score, and those of the hypothesis that are not scored.

    Raises FormatError as `score_diarization` does; `name` is the hypothesis' in its line.
    """
    if uem is not None and (lacking := sorted(reference.keys() - uem.keys())):
        raise FormatError(f"the UEM lacks {', '.join(lacking)}; add what is to be scored of it.")
    uris = sorted(reference.keys() | (uem or {}).keys())
    unscored = tuple(sorted(hypothesis.keys() - set(uris)))
    if unscored and not hypothesis.keys() & set(uris):
        raise FormatError(
            f"reference ({', '.join(uris[:3]) or 'empty'}) and {name} "
            f"({', '.join(unscored[:3])}) have no file in common; give both the same names."
        )
    return uris, unscored


@dataclass(frozen=True)
class Alignment:
    """What is scored of one file, with speakers of the hypothesis matched to the reference's.

    Turns of one speaker that touch or overlap are one. Labels are of two types, so that one that is
    not matched cannot equal one of the reference.
    """

    uem: Timeline
    turns: Annotation
    """The reference's, with labels `str(index)` into `speakers`."""

    found: Annotation
    """The hypothesis', with labels `index` into `others`."""

    speakers: tuple[str, ...]
    others: tuple[str, ...]
    shared_s: Counter[tuple[str, int]]
    """Seconds for which each speaker of the reference and of the hypothesis speak together."""

    mapping: Mapping[int, str]
    """Labels of the hypothesis to the reference's, one to one; who matches nobody is not there."""


def align(reference: Annotation, hypothesis: Annotation, uem: Timeline | None) -> Alignment:
    """Cut a file to what is scored of it and match its speakers, as md-eval does: before a collar.

    Without `uem` it is scored from the first to the last turn of both.
    """
    if uem is None:
        extent = reference.get_timeline().extent() | hypothesis.get_timeline().extent()
        uem = Timeline([extent] if extent else [])
    uem = uem.support()
    turns = reference.support().crop(uem, mode="intersection")
    found = hypothesis.support().crop(uem, mode="intersection")
    speakers, others = tuple(turns.labels()), tuple(found.labels())
    turns = turns.rename_labels({label: str(index) for index, label in enumerate(speakers)})
    found = found.rename_labels({label: index for index, label in enumerate(others)})
    shared_s = _shared_seconds(_by_piece(turns), _by_piece(found))
    return Alignment(uem, turns, found, speakers, others, shared_s, _matching(shared_s))


def _score_file(
    reference: Annotation,
    hypothesis: Annotation,
    uem: Timeline | None,
    collar: float,
    skip_overlap: bool,
) -> ErrorCounts:
    """Count the errors of one file."""
    aligned = align(reference, hypothesis, uem)
    turns_in, found_in = _by_piece(aligned.turns), _by_piece(aligned.found)
    metric = IdentificationErrorRate()
    seconds = dict.fromkeys(metric.metric_components(), 0.0)
    # The reference as it was: turns of one speaker that touch keep the boundary between them.
    boundaries_in = _by_piece(reference, margin=collar)
    for index, piece in _pieces(aligned.uem):
        scored = metric.extrude(piece, boundaries_in[index], collar=2 * collar)
        scored = metric.extrude(scored, turns_in[index], skip_overlap=skip_overlap)
        matched = found_in[index].rename_labels(mapping=aligned.mapping)
        counts = metric.compute_components(turns_in[index], matched, uem=scored)
        for name, value in counts.items():
            seconds[name] += value
    return ErrorCounts(
        total_s=seconds["total"],
        correct_s=seconds["correct"],
        missed_s=seconds["missed detection"],
        false_alarm_s=seconds["false alarm"],
        confusion_s=seconds["confusion"],
        speakers=len(aligned.speakers),
        speaker_errors=_speaker_errors(aligned),
    )


def _pieces(uem: Timeline) -> Iterator[tuple[int, Timeline]]:
    """Cut what is scored into pieces, by their number from the recording's start."""
    extent = uem.extent()
    for index in range(math.ceil(extent.end / _PIECE_S) if extent else 0):
        if piece := uem.crop(Segment(index * _PIECE_S, (index + 1) * _PIECE_S)):
            yield index, piece


def _by_piece(annotation: Annotation, margin: float = 0.0) -> defaultdict[int, Annotation]:
    """Cut turns into the same pieces, each of which reaches into its neighbours by `margin`."""
    pieces: defaultdict[int, Annotation] = defaultdict(Annotation)
    for segment, track, label in annotation.itertracks(yield_label=True):
        first = math.floor((segment.start - margin) / _PIECE_S)
        last = math.floor((segment.end + margin) / _PIECE_S)
        for index in range(first, last + 1):
            limits = Segment(index * _PIECE_S - margin, (index + 1) * _PIECE_S + margin)
            pieces[index][segment & limits, track] = label
    return pieces


def _shared_seconds(
    turns_in: Mapping[int, Annotation], found_in: Mapping[int, Annotation]
) -> Counter[tuple[str, int]]:
    """Add up how long each speaker of the reference and each of the hypothesis speak together."""
    shared_s: Counter[tuple[str, int]] = Counter()
    for index in turns_in.keys() & found_in.keys():
        turns, found = turns_in[index], found_in[index]
        for speaker, row in zip(turns.labels(), turns * found, strict=True):
            for other, value in zip(found.labels(), row, strict=True):
                shared_s[speaker, other] += value
    return shared_s


def _matching(shared_s: Counter[tuple[str, int]]) -> dict[int, str]:
    """Match speakers one to one, so that they speak together longest: hypothesis to reference."""
    speakers = sorted({speaker for speaker, _ in shared_s})
    others = sorted({other for _, other in shared_s})
    table = np.array([[shared_s[speaker, other] for other in others] for speaker in speakers])
    rows, columns = linear_sum_assignment(table.reshape(len(speakers), len(others)), maximize=True)
    pairs = [(speakers[row], others[column]) for row, column in zip(rows, columns, strict=True)]
    return {other: speaker for speaker, other in pairs if shared_s[speaker, other] > 0}


def _speaker_errors(aligned: Alignment) -> float:
    """Add up each speaker's Jaccard error: 1 - intersection / union with the matched one."""
    turns, found = aligned.turns, aligned.found
    errors = float(len(aligned.speakers))
    for other, speaker in aligned.mapping.items():
        together_s = aligned.shared_s[speaker, other]
        either_s = turns.label_duration(speaker) + found.label_duration(other) - together_s
        errors -= together_s / either_s
    return errors
