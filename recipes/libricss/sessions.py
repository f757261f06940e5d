"""Conversations in which a given share of the speech overlaps, as those of LibriCSS.

Source: Chen et al., "Continuous speech separation: dataset and analysis" (ICASSP 2020, arXiv
2001.11482), section 3: utterances follow each other, and the next talker begins after a pause or
before the last one has ended. At most two talk at once.

K talkers, P places.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from wavlm_meeting.audio.simulate import (
    ConversationSettings,
    Placement,
    Utterance,
    draw_scene,
)
from wavlm_meeting.training.separation_mixtures import TALKERS, MixturePlan
from wavlm_meeting.training.separation_rooms import RoomPool
from wavlm_meeting.units import SAMPLE_RATE


class Condition(NamedTuple):
    """How the talkers of a session follow each other."""

    overlap: float
    """Share of the time with speech in which two talk."""
    pause_s: tuple[float, float]
    """Shortest and longest pause where they do not (uniform)."""


CONDITIONS: Mapping[str, Condition] = {
    "0L": Condition(0.0, (2.9, 3.0)),
    "0S": Condition(0.0, (0.1, 0.5)),
    **{f"OV{share}": Condition(share / 100, (0.1, 1.0)) for share in (10, 20, 30, 40)},
}
"""Those of LibriCSS: no overlap with long and short pauses, 10 to 40 % of overlap."""

JOINS = 0.6
"""Share of the changes of talker that overlap; more by as much as the share of overlap itself."""
MOST = 0.8
"""Share of an utterance that another one may overlap with."""


def draw_placements(
    rng: np.random.Generator,
    voices: Mapping[str, Sequence[Utterance]],
    condition: Condition,
    length: int,
) -> list[Placement]:
    """Draw who says what when in `length` samples; whole utterances, the same talker never twice.

    Overlaps are as long as it takes to have the wanted share of all that was said so far.
    """
    placements: list[Placement] = []
    names, last = list(voices), ""
    spoken = shared = end = before = 0  # samples; `before` is the end of the last utterance but one
    while True:
        name = str(rng.choice([each for each in names if each != last]))
        said = voices[name][int(rng.integers(len(voices[name])))]
        begin, stop = said.speech[0][0], said.speech[-1][1]
        size = stop - begin
        least = min(end - before, size) if placements else 0
        # shared / (spoken - shared) is the wanted share once this utterance has been said.
        wanted = condition.overlap / (1 + condition.overlap) * (spoken + size) - shared
        overlap = (
            int(min(max(wanted, 0), MOST * least))
            if rng.random() < JOINS + condition.overlap
            else 0
        )
        pause = int(rng.uniform(*condition.pause_s) * SAMPLE_RATE)
        start = end - overlap if overlap else end + pause
        if start + size > length:
            return placements
        placements.append(Placement(said, begin, stop, start))
        spoken, shared = spoken + size, shared + overlap
        before, end, last = end, start + size, name


def overlap_of(placements: Sequence[Placement]) -> float:
    """Return the share of the time with utterances in which two are said."""
    edges = sorted(
        edge
        for each in placements
        for edge in ((each.start, 1), (each.start + each.end - each.begin, -1))
    )
    at_once = since = 0
    lasted = [0, 0, 0]  # samples in which nobody, one, or two talk
    for time, change in edges:
        lasted[min(at_once, 2)] += time - since
        at_once, since = at_once + change, time
    return lasted[2] / max(lasted[1] + lasted[2], 1)


def draw_session(
    rng: np.random.Generator,
    placements: Sequence[Placement],
    length: int,
    scene: ConversationSettings,
    noises: Sequence[tuple[int, int]],
    pool: RoomPool,
) -> MixturePlan:
    """Draw a room of the pool, noise and levels around a session; all microphones hear it.

    `noises` holds (index, samples) of the backgrounds. Talkers share places if they are more than
    these.
    """
    names = list(dict.fromkeys(each.utterance.speaker for each in placements))
    plan = draw_scene(rng, length, names, placements, scene, noises)
    room = int(rng.integers(len(pool)))
    places, microphones = pool.shape(room)
    order = rng.permutation(places - 1)
    talkers = max(TALKERS, len(plan.speakers))  # somebody who is silent stands there, too
    chosen = [int(order[number % len(order)]) for number in range(talkers)]
    return MixturePlan(plan, room, (*chosen, places - 1), tuple(range(microphones)))


def scene_of(snr_db: tuple[float, float]) -> ConversationSettings:
    """Return how a scene in a room of the pool is drawn: with noise, without another room."""
    return ConversationSettings(
        room=0.0,
        noise=1.0,
        snr_db=snr_db,
        telephone=0.0,
        gain_db=2.0,
        equaliser_db=0.0,
        level_db=(-10.0, 0.0),
    )
