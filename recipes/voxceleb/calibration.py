"""Trials of held-out speakers, drawn for calibration.

R recordings; their short pieces are numbered R to 2 R - 1. K trials.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from itertools import groupby
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.formats.trials import Trials
from wavlm_meeting.recipes.manifests import Row
from wavlm_meeting.recipes.voxceleb.embedding import Piece
from wavlm_meeting.recipes.voxceleb.lists import recording_name
from wavlm_meeting.recipes.voxceleb.settings import CalibrationSettings
from wavlm_meeting.verification.backend import Voices

KINDS = ((True, True), (True, False), (False, False))
"""Whether each side of a trial is a short piece; all three are as frequent."""


def some_of_each(rows: Iterable[Row], most: int, rng: np.random.Generator) -> list[Row]:
    """Draw up to `most` recordings of each speaker, whose rows follow each other."""
    kept: list[Row] = []
    for _, group in groupby(rows, key=attrgetter("speaker")):
        own = list(group)
        kept += [own[index] for index in sorted(rng.permutation(len(own))[:most])]
    return kept


def draw_trials(
    rows: Sequence[Row], settings: CalibrationSettings
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return pairs (K, 2) of recordings or pieces of them, and which are of one speaker (K,).

    Those of one speaker are of two sessions. Those of two are of one source, as far as there are
    several speakers of it: across sources the channel alone tells them apart. Raises SettingsError
    where no speaker has two sessions, or there is one speaker.
    """
    rng = np.random.default_rng(settings.seed)
    speakers = _Speakers(rows)
    targets = np.arange(settings.trials) % 2 == 0
    pairs = np.empty((settings.trials, 2), np.int64)
    for number, is_target in enumerate(targets.tolist()):
        sides = speakers.one(rng) if is_target else speakers.two(rng)
        chosen = np.array([side[rng.integers(len(side))] for side in sides])
        pairs[number] = chosen + len(rows) * np.array(KINDS[number // 2 % len(KINDS)])
    return pairs, targets


class _Speakers:
    """The recordings of each speaker, by session."""

    def __init__(self, rows: Sequence[Row]) -> None:
        self.sessions: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
        self.peers: dict[str, list[str]] = defaultdict(list)
        self.source: dict[str, str] = {}
        for number, row in enumerate(rows):
            if row.speaker not in self.sessions:
                self.peers[row.source].append(row.speaker)
                self.source[row.speaker] = row.source
            self.sessions[row.speaker][row.session].append(number)
        self.names = list(self.sessions)
        self.several = [name for name, own in self.sessions.items() if len(own) > 1]
        if not self.several or len(self.names) < 2:
            raise SettingsError(
                f"{len(self.names)} speakers are held out, {len(self.several)} of them with two "
                "sessions that can be read: calibration takes two of them; raise data.held_out or "
                "calibration.recordings."
            )

    def one(self, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Draw two sessions of a speaker, and return their recordings."""
        own = self.sessions[self.several[rng.integers(len(self.several))]]
        first, second = rng.permutation(list(own))[:2]
        return own[first], own[second]

    def two(self, rng: np.random.Generator) -> tuple[list[int], list[int]]:
        """Draw two speakers, and return their recordings."""
        name = self.names[rng.integers(len(self.names))]
        near = self.peers[self.source[name]]
        others = [each for each in (near if len(near) > 1 else self.names) if each != name]
        return self._all(name), self._all(others[rng.integers(len(others))])

    def _all(self, name: str) -> list[int]:
        return [number for own in self.sessions[name].values() for number in own]


def short_piece(seconds: float, settings: CalibrationSettings, rng: np.random.Generator) -> Piece:
    """Draw a short piece of a recording of so many seconds."""
    length = min(seconds, rng.uniform(*settings.short_s))
    return rng.uniform(0.0, seconds - length), length


def listed_trials(
    rows: Sequence[Row], lists: Sequence[Trials]
) -> tuple[list[Row], NDArray[np.int64], NDArray[np.bool_]]:
    """Return the recordings of some lists, and their trials between whole and short pieces.

    Each trial is there for each of KINDS; short pieces are counted after all whole recordings.
    """
    place = {row.name: number for number, row in enumerate(rows)}
    pairs = []
    for trials in lists:
        own = np.array([place[recording_name(name)] for name in trials.names])
        pairs.append(own[trials.pairs])
    used, counted = np.unique(np.concatenate(pairs), return_inverse=True)
    whole = counted.reshape(-1, 2).astype(np.int64)
    targets = np.concatenate([trials.targets for trials in lists])
    kinds = [whole + len(used) * np.array(kind) for kind in KINDS]
    return [rows[number] for number in used], np.concatenate(kinds), np.tile(targets, len(KINDS))


def called_too(
    voices: Voices, called: Voices, pairs: NDArray[np.int64], targets: NDArray[np.bool_]
) -> tuple[Voices, NDArray[np.int64], NDArray[np.bool_]]:
    """Return recordings and the same as `called`, each trial as it is, with one and with both so.

    The side that is called is the first one of two trials, then the second one of two, so that it
    tells nothing of whether they are of one speaker.
    """
    both = Voices(
        np.concatenate([voices.embeddings, called.embeddings]),
        np.concatenate([voices.speech_s, called.speech_s]),
    )
    count = len(voices.speech_s)
    turns = np.arange(len(pairs)) // 2 % 2
    one = np.column_stack([1 - turns, turns])
    return both, np.concatenate([pairs, pairs + count * one, pairs + count]), np.tile(targets, 3)
