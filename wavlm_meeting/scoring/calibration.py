"""Whether confidences of turns mean what they say.

N turns.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, Timeline

from wavlm_meeting.errors import FormatError
from wavlm_meeting.scoring.diarization import align

Floats = NDArray[np.float64]


class TurnLike(Protocol):
    """What is checked; `diarization.Turn` is one."""

    @property
    def start(self) -> float:
        """Seconds from the beginning of the recording."""

    @property
    def end(self) -> float:
        """Seconds from the beginning of the recording."""

    @property
    def speaker(self) -> str:
        """Who is taken to speak."""


def correct_shares(reference: Annotation, turns: Sequence[TurnLike]) -> Floats:
    """Return the share of each turn (N,) of a recording in which its speaker really speaks.

    Speakers are matched to the reference's one to one, so that they speak together longest, as in
    scoring. Who matches nobody is never right.
    """
    found = Annotation(uri=reference.uri)
    for track, turn in enumerate(turns):
        found[Segment(turn.start, turn.end), track] = turn.speaker
    aligned = align(reference, found, None)
    spoken = {
        aligned.others[other]: aligned.turns.label_timeline(speaker)
        for other, speaker in aligned.mapping.items()
    }
    shares = np.zeros(len(turns))
    for speaker, timeline in spoken.items():
        own = np.array([place for place, turn in enumerate(turns) if turn.speaker == speaker])
        bounds = np.array([(turns[place].start, turns[place].end) for place in own])
        before_s = _spoken_before(timeline, bounds)
        shares[own] = (before_s[:, 1] - before_s[:, 0]) / (bounds[:, 1] - bounds[:, 0])
    return shares.clip(0.0, 1.0)


def expected_calibration_error(
    confidence: Floats,
    correct_share: Floats,
    seconds: Floats,
    bins: int = 10,
    *,
    equal_count: bool = False,
) -> float:
    """Return how far confidences are from the truth: the mean over bins of their mean difference.

    Turns fall into `bins` intervals of confidence: of equal width from 0 to 1 (Naeini et al. 2015,
    Guo et al. 2017), or with as many turns in each (Nguyen and O'Connor 2015), those of the same
    confidence in the same one. A bin weighs as many seconds as its turns last.

    Args:
        confidence: (N,) from 0 to 1.
        correct_share: (N,) the share of each turn in which its speaker really speaks.
        seconds: (N,) lengths of the turns.
        bins: Number of intervals.
        equal_count: Whether they hold equally many turns, not equal stretches of confidence.

    Raises:
        FormatError: There are no turns.
    """
    if not np.sum(seconds) > 0:
        raise FormatError("no turns to check confidences of; give recordings with speech.")
    inner = np.linspace(0.0, 1.0, bins + 1)[1:-1]
    edges = np.quantile(confidence, inner) if equal_count else inner
    place = np.searchsorted(edges, confidence, side="right")
    surplus_s = np.bincount(place, weights=(confidence - correct_share) * seconds)
    return float(np.abs(surplus_s).sum() / np.sum(seconds))


def _spoken_before(timeline: Timeline, times: Floats) -> Floats:
    """Return how many seconds of a timeline without overlaps lie before each time."""
    bounds = np.array([(segment.start, segment.end) for segment in timeline])
    spoken_s = np.concatenate([[0.0], np.cumsum(bounds[:, 1] - bounds[:, 0])])
    steps = np.column_stack([spoken_s[:-1], spoken_s[1:]])
    before_s: Floats = np.interp(times, bounds.ravel(), steps.ravel())
    return before_s
