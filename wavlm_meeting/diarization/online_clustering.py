"""Who is who while a recording is still going on: names that stay, in bounded memory.

S local speakers of a window, D embedding size, M voices remembered, K groups, N names.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from wavlm_meeting.diarization.clustering import ClusteringSettings, cluster

Floats = NDArray[np.floating]
Ints = NDArray[np.int64]

NOBODY = -1
"""In place of the name of who has none, and of the group of who is in none."""


@dataclass
class Voices:
    """Local speakers with speech: of a window that is not final yet, or remembered."""

    embeddings: Floats
    """(M, D) of unit length."""
    speech_s: Floats
    """(M,) seconds that each embedding rests on."""
    names: Ints
    """(M,) number that each was last printed with, or NOBODY."""
    windows: Ints
    """(M,) number of the window that each was heard in: two of one window are two people."""

    def __len__(self) -> int:
        return len(self.names)


@dataclass
class Groups:
    """What is known of the speakers at one moment."""

    names: list[int]
    """(K,) name of each group, NOBODY for who has not been printed yet."""
    members: list[Ints] = field(default_factory=list)
    """The group of each voice of each window, NOBODY where there is no group."""


class VoiceMemory:
    """Clusters the voices heard so far, and finds the names that they were printed with.

    All voices in memory are clustered anew whenever asked, as a recording's are, so that early
    mistakes do not last; then names go to the groups that share most speech with what was printed
    under them, each to one. A group without a name is a new speaker if it rests on enough speech.

    The memory holds `most` voices. One more makes the two most similar voices of the speaker with
    the most voices one, so that nobody is forgotten who has been silent for long.
    """

    def __init__(
        self,
        clustering: ClusteringSettings,
        *,
        most: int,
        newcomer_s: float,
        max_speakers: int | None = None,
    ) -> None:
        self.clustering, self.most = clustering, most
        self.newcomer_s, self.max_speakers = newcomer_s, max_speakers
        self.printed = 0
        self.past: Voices | None = None

    def group(self, founding: Sequence[Voices], others: Sequence[Voices]) -> Groups:
        """Group the remembered voices with those `founding`, then give `others` the nearest groups.

        The members returned are those of `others` alone, in their order; voices of one of them have
        different groups as long as there are enough.
        """
        known = joined_voices([*([self.past] if self.past else []), *founding])
        if not len(known):
            return Groups([], [np.full(len(voices), NOBODY) for voices in others])
        windows = np.unique(known.windows, return_inverse=True)[1]
        labels = cluster(
            known.embeddings,
            windows,
            known.speech_s,
            self.clustering,
            max_speakers=self.max_speakers,
        ).labels
        sums = np.zeros((labels.max() + 1, len(labels)))
        sums[labels, np.arange(len(labels))] = np.maximum(known.speech_s, 1e-3)
        names = _names(labels, known)
        kept = self._admitted(names, sums.sum(axis=1))
        centroids = sums[kept] @ known.embeddings
        centroids /= np.maximum(np.linalg.norm(centroids, axis=1, keepdims=True), 1e-8)
        members = [_nearest(voices.embeddings @ centroids.T) for voices in others]
        return Groups([int(name) for name in names[kept]], members)

    def new_name(self) -> int:
        """Return the number of a speaker who is printed for the first time."""
        self.printed += 1
        return self.printed - 1

    def remember(self, voices: Voices) -> None:
        """Take in voices that are final, and make room for them."""
        past = joined_voices([self.past, voices]) if self.past else voices
        while len(past) > self.most:
            past = _with_two_made_one(past)
        self.past = past

    def _admitted(self, names: Ints, speech_s: Floats) -> Ints:
        """Choose the groups that are speakers: all with a name, newcomers if there is room."""
        newcomers = np.flatnonzero((names == NOBODY) & (speech_s >= self.newcomer_s))
        if not len(newcomers) and not (names != NOBODY).any():
            newcomers = np.array([speech_s.argmax()])
        if self.max_speakers is not None:
            room = max(0, self.max_speakers - self.printed)
            newcomers = newcomers[np.argsort(-speech_s[newcomers], kind="stable")][:room]
        return np.sort(np.concatenate([np.flatnonzero(names != NOBODY), newcomers]))


def joined_voices(parts: Sequence[Voices]) -> Voices:
    """Return the voices of several windows as one list."""
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts]) if parts else np.zeros(0)
        for name in ("embeddings", "speech_s", "names", "windows")
    }
    return Voices(**joined)


def _names(labels: NDArray[np.integer], voices: Voices) -> Ints:
    """Give each group (K,) the name that most of its speech was printed with, one group a name."""
    names = np.full(labels.max() + 1, NOBODY)
    named = voices.names != NOBODY
    known, column = np.unique(voices.names[named], return_inverse=True)
    votes = np.zeros((len(names), len(known)))
    np.add.at(votes, (labels[named], column), voices.speech_s[named])
    rows, columns = linear_sum_assignment(-votes)
    won = votes[rows, columns] > 0
    names[rows[won]] = known[columns[won]]
    return names


def _nearest(similarity: Floats) -> Ints:
    """Give each voice of a window (S, K) a group, different ones as long as there are enough."""
    if not similarity.shape[1]:
        return np.full(len(similarity), NOBODY)
    groups = similarity.argmax(axis=1)
    rows, columns = linear_sum_assignment(-similarity)
    groups[rows] = columns
    return groups


def _with_two_made_one(voices: Voices) -> Voices:
    """Put the mean of two voices in their place: of the commonest name, the most similar ones."""
    names, counts = np.unique(voices.names, return_counts=True)
    own = np.flatnonzero(voices.names == names[counts.argmax()])
    if len(own) == 1:  # as many speakers as there is room for
        own = np.arange(len(voices))
    similarity = np.triu(voices.embeddings[own] @ voices.embeddings[own].T + 2.0, k=1)
    first, second = own[list(divmod(int(similarity.argmax()), len(own)))]
    kept, gone = (
        (first, second) if voices.speech_s[first] >= voices.speech_s[second] else (second, first)
    )
    mean = voices.speech_s[[kept, gone]] @ voices.embeddings[[kept, gone]]
    voices.embeddings[kept] = mean / max(float(np.linalg.norm(mean)), 1e-8)
    voices.speech_s[kept] += voices.speech_s[gone]
    rest = np.arange(len(voices)) != gone
    return Voices(
        *(each[rest] for each in (voices.embeddings, voices.speech_s, voices.names, voices.windows))
    )
