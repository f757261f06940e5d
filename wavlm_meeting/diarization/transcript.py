"""Who said which word: words of a recogniser joined with the turns of a diarization.

N words, S speakers. How much of its time each speaker speaks is a word's evidence for them; the
speakers of all words in order are those with the most evidence, less a cost for every change
(Viterbi): a word alone within another speaker's run stays there while its evidence is weak, and
where speech overlaps, and both have the same evidence, whoever speaks goes on.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.formats.transcripts import Segment, Transcript, segment_of
from wavlm_meeting.formats.words import Word

UNKNOWN = "UNKNOWN"
"""Speaker of words that are too far from every turn."""

_SENTENCE_ENDS = tuple(".?!\u2026\u3002\uff1f\uff01")


class SpeakerTurnLike(Protocol):
    """A turn of a diarization or of any file."""

    @property
    def start(self) -> float:
        """Seconds from the beginning of the recording."""

    @property
    def end(self) -> float:
        """Seconds from the beginning of the recording."""

    @property
    def speaker(self) -> str:
        """Who speaks."""


def transcribe(
    words: Iterable[Word],
    turns: Iterable[SpeakerTurnLike],
    uri: str,
    nearest_s: float = 1.0,
    change_cost: float = 0.3,
    pause_s: float = 1.0,
) -> Transcript:
    """Give every word to a speaker and join those that one says without a pause.

    Words of several channels are decided by channel: whoever was recognised apart may speak at the
    same time.

    Args:
        words: In any order.
        turns: In any order; those of one speaker may overlap.
        uri: The recording's name.
        nearest_s: How far the nearest turn may be from a word during which nobody speaks, in
            seconds; words farther away go to the speaker UNKNOWN.
        change_cost: What a change of speakers costs, in words: a single word within another's run
            goes to its own speaker if twice this share of it, or more, is theirs alone. 0 takes
            each word by itself.
        pause_s: Silence that parts segments, in seconds. After one, and after a sentence, a change
            costs half.

    Raises:
        SettingsError: A number is outside of what it may be.
    """
    _check(nearest_s, change_cost, pause_s)
    said = sorted(turns, key=lambda turn: (turn.start, turn.end))
    speakers = list(dict.fromkeys(turn.speaker for turn in said))
    active = [_merged(turn for turn in said if turn.speaker == speaker) for speaker in speakers]
    segments: list[Segment] = []
    ordered = sorted(words, key=lambda word: (word.channel, word.start))
    for _, group in groupby(ordered, key=lambda word: word.channel):
        channel = list(group)
        evidence = evidence_of(channel, active, nearest_s)
        labels = best_sequence(evidence, _change_costs(channel, change_cost, pause_s))
        names = [speakers[label] if label >= 0 else UNKNOWN for label in labels]
        segments += _segments(channel, names, pause_s)
    return Transcript(uri=uri, segments=tuple(sorted(segments, key=lambda each: each.start)))


def evidence_of(
    words: Sequence[Word], active: Sequence[NDArray[np.float64]], nearest_s: float
) -> NDArray[np.float64]:
    """Return how much speaks for each speaker of each word, (N, S), from 0 to 1.

    It is the share of the word in which they speak. For a word during which nobody does it falls
    from 1 beside their nearest turn to 0 at `nearest_s` from it. `active` has each speaker's
    stretches, (K, 2) in seconds, in order and apart.
    """
    times = np.array([(word.start, word.end) for word in words]).reshape(-1, 2)
    shares = np.zeros((len(words), len(active)))
    gaps = np.full_like(shares, np.inf)
    for speaker, stretches in enumerate(active):
        starts, ends = stretches.T
        before = np.concatenate([[0.0], np.cumsum(ends - starts)])  # talk before each stretch
        talked = np.interp(times, stretches.ravel(), np.repeat(before, 2)[1:-1])
        # The first stretch that ends after the word begins: it, or the one before, is the nearest.
        following = np.searchsorted(ends, times[:, 0])
        later = np.append(starts, np.inf)[following] - times[:, 1]
        earlier = times[:, 0] - np.concatenate([[-np.inf], ends])[following]
        gaps[:, speaker] = np.maximum(np.minimum(later, earlier), 0.0)
        lengths = np.maximum(times[:, 1] - times[:, 0], 1e-9)
        shares[:, speaker] = np.clip((talked[:, 1] - talked[:, 0]) / lengths, 0.0, 1.0)
        points = times[:, 1] <= times[:, 0]
        shares[points, speaker] = gaps[points, speaker] == 0
    alone = ~shares.any(axis=1, keepdims=True)
    near = np.maximum(1 - gaps / nearest_s, 0.0) if nearest_s else np.zeros_like(gaps)
    return np.where(alone, near, shares)


def best_sequence(evidence: NDArray[np.float64], costs: NDArray[np.float64]) -> list[int]:
    """Return who says each word: the sequence of most evidence (N, S) less the costs of changes.

    `costs` (N,) are those of a change before each word. A word without evidence is nobody's, -1.
    """
    words, speakers = evidence.shape
    if not words or not speakers:
        return [-1] * words
    score = np.zeros(speakers)
    came = np.zeros(evidence.shape, np.intp)
    stay = np.arange(speakers)
    for place, (row, cost) in enumerate(zip(evidence, costs, strict=True)):
        best = int(score.argmax())
        # Of equals the late change is taken: whoever speaks goes on.
        came[place] = np.where(score[best] - cost >= score, best, stay)
        score = np.maximum(score[best] - cost, score) + row
    labels = [int(score.argmax())]
    for row in came[:0:-1]:
        labels.append(int(row[labels[-1]]))
    anybody = np.asarray(evidence.any(axis=1))
    return [label if some else -1 for label, some in zip(labels[::-1], anybody, strict=True)]


def _change_costs(words: Sequence[Word], cost: float, pause_s: float) -> NDArray[np.float64]:
    """Return what a change of speakers costs before each word, (N,)."""
    costs = np.full(len(words), cost)
    for place, (before, word) in enumerate(pairwise(words), start=1):
        if word.start - before.end > pause_s or before.text.endswith(_SENTENCE_ENDS):
            costs[place] = cost / 2
    return costs


def _check(nearest_s: float, change_cost: float, pause_s: float) -> None:
    """Refuse what cannot be meant; raises SettingsError."""
    for name, value in (("nearest", nearest_s), ("pause", pause_s)):
        if not 0 <= value < np.inf:
            raise SettingsError(f"--{name} {value:g}: give seconds, 0 or more.")
    if not 0 <= change_cost < 0.5:
        raise SettingsError(f"--change-cost {change_cost:g}: give a share from 0 to below 0.5.")


def _segments(words: Sequence[Word], names: Sequence[str], pause_s: float) -> list[Segment]:
    """Join the words that one speaker says without a pause."""
    runs: list[tuple[str, list[Word]]] = []
    for word, name in zip(words, names, strict=True):
        if runs and runs[-1][0] == name and word.start - runs[-1][1][-1].end <= pause_s:
            runs[-1][1].append(word)
        else:
            runs.append((name, [word]))
    return [segment_of(name, run) for name, run in runs]


def _merged(turns: Iterable[SpeakerTurnLike]) -> NDArray[np.float64]:
    """Return where one speaker speaks, (K, 2), from turns by start that may overlap."""
    stretches: list[list[float]] = []
    for turn in turns:
        if stretches and turn.start <= stretches[-1][1]:
            stretches[-1][1] = max(stretches[-1][1], turn.end)
        else:
            stretches.append([turn.start, turn.end])
    return np.array(stretches)
