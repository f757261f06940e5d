"""Mixtures of at most two talkers: everything random is drawn into a plan, which is then rendered.

Talkers overlap as in LibriCSS (Chen et al., ICASSP 2020, arXiv 2001.11482): not at all, in part or
all the time, or one is alone. They stand in a statistical room as simulated conversations do, or in
one of a pool of simulated ones, where one or several microphones hear them.

N samples, J talkers (2), C microphones, P places in a room.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.signal import oaconvolve

from wavlm_meeting.audio.simulate import (
    ConversationPlan,
    ConversationSettings,
    LoadAudio,
    Placement,
    Samples,
    Utterance,
    draw_scene,
    render,
)
from wavlm_meeting.config import Settings
from wavlm_meeting.training.separation_rooms import RoomPool
from wavlm_meeting.units import SAMPLE_RATE

TALKERS = 2
"""Talkers of a mixture, at most."""

Pattern = Literal["alone", "in turn", "in part", "throughout"]
PATTERNS: tuple[Pattern, ...] = get_args(Pattern)


class MixtureSettings(Settings):
    """How mixtures are drawn."""

    pattern_shares: tuple[float, float, float, float] = (0.15, 0.1, 0.35, 0.4)
    """Probabilities of one talker alone, of two in turn, of two who overlap in part, and of two who
    talk throughout."""
    overlap: tuple[float, float] = (0.1, 0.8)
    """Share of the window in which those who overlap in part both talk (uniform)."""
    pause_s: float = Field(0.3, ge=0)
    """Mean pause between talkers in turn, and between the utterances of one (exponential)."""
    pool: float = Field(1.0, ge=0, le=1)
    """Share of the mixtures that take place in a room of the pool, where there is one."""
    scene: ConversationSettings = ConversationSettings(gain_db=2.5, telephone=0.05)
    """How rooms, noise, channels and levels are drawn; its turns do not matter here."""


@dataclass(frozen=True)
class MixturePlan:
    """All that is random about a mixture."""

    scene: ConversationPlan
    """Who says what when, and the statistical room, noise and levels."""
    room: int | None = None
    """Which room of the pool, if any; the statistical one then adds no reverberation."""
    places: tuple[int, ...] = ()
    """Where in it the talkers stand, and last where the noise comes from."""
    microphones: tuple[int, ...] = (0,)
    """Which microphones hear it."""


class Mixture(NamedTuple):
    """A rendered plan: the mixture is the sum of the images and the noise."""

    waveforms: Samples
    """(C, N)."""
    images: Samples
    """(J, C, N): each talker as the microphones hear them, zeros where there is none."""
    noise: Samples
    """(C, N)."""


def draw_mixture(
    rng: np.random.Generator,
    voices: Mapping[str, Sequence[Utterance]],
    length: int,
    settings: MixtureSettings,
    noises: Sequence[tuple[int, int]] = (),
    pattern: Pattern | None = None,
) -> MixturePlan:
    """Draw a mixture of `length` samples of the two talkers in `voices`.

    `noises` holds (index, samples) of the backgrounds to choose from; `pattern` is drawn if None.
    """
    if pattern is None:
        pattern = PATTERNS[int(rng.choice(len(PATTERNS), p=settings.pattern_shares))]
    stretches = _draw_stretches(rng, pattern, length, settings)
    placements = [
        placement
        for said, (start, end) in zip(voices.values(), stretches, strict=False)
        for placement in _fill(rng, said, start, end, settings.pause_s)
    ]
    names = list(voices)[: len(stretches)]
    return MixturePlan(draw_scene(rng, length, names, placements, settings.scene, noises))


def place(
    rng: np.random.Generator, plan: MixturePlan, pool: RoomPool, microphones: int | None = None
) -> MixturePlan:
    """Draw a room of the pool for a mixture, and where in it talkers stand.

    `microphones` is how many of the room's microphones hear it; None draws a single one.
    """
    room = int(rng.integers(len(pool)))
    places, count = pool.shape(room)
    heard = (int(rng.integers(count)),) if microphones is None else tuple(range(microphones))
    dry = {name: replace(own, reverberation_s=0.0) for name, own in plan.scene.rooms.items()}
    order = tuple(int(spot) for spot in rng.permutation(places - 1)[:TALKERS])
    return replace(
        plan,
        scene=replace(plan.scene, rooms=dry),
        room=room,
        places=(*order, places - 1),
        microphones=heard,
    )


def render_mixture(
    plan: MixturePlan,
    speech: LoadAudio,
    noise: LoadAudio | None = None,
    pool: RoomPool | None = None,
) -> Mixture:
    """Render a plan; `speech` and `noise` give the samples of an index."""
    scene = plan.scene
    images = [
        render(
            replace(
                scene,
                placements=tuple(p for p in scene.placements if p.utterance.speaker == name),
                noise=None,
            ),
            speech,
        )
        for name in scene.speakers
    ]
    images += [np.zeros(scene.length, np.float32)] * (TALKERS - len(images))
    background = render(replace(scene, placements=()), speech, noise)
    sounds = [*images, background]
    if plan.room is None or pool is None:
        heard = np.stack(sounds)[:, None]  # (J + 1, 1, N)
    else:
        responses = pool.responses(plan.room)[list(plan.places)][:, list(plan.microphones)]
        heard = np.stack(
            [_through(sound, own) for sound, own in zip(sounds, responses, strict=True)]
        )
    return Mixture(heard.sum(axis=0), heard[:-1], heard[-1])


def _through(sound: Samples, responses: NDArray[np.floating]) -> Samples:
    """Return what microphones hear of a sound (N,) by their `responses` (C, taps): (C, N)."""
    level = np.sqrt(np.sum(np.square(responses[0], dtype=np.float64)))
    scaled = (responses / max(level, 1e-8)).astype(np.float32)
    heard = oaconvolve(sound[None], scaled, axes=1)[:, : len(sound)]
    return heard.astype(np.float32)


def _draw_stretches(
    rng: np.random.Generator, pattern: Pattern, length: int, settings: MixtureSettings
) -> list[tuple[int, int]]:
    """Draw from where to where each talker may talk."""
    if pattern == "alone":
        return [(0, length)]
    if pattern == "throughout":
        return [(0, length)] * TALKERS
    if pattern == "in part":
        shared = int(length * rng.uniform(*settings.overlap))
        first = int(rng.integers(length - shared + 1))
        return [(0, first + shared), (first, length)]
    end = int(length * rng.uniform(0.2, 0.8))
    return [(0, end), (end + int(rng.exponential(settings.pause_s) * SAMPLE_RATE), length)]


def _fill(
    rng: np.random.Generator, said: Sequence[Utterance], start: int, end: int, pause_s: float
) -> list[Placement]:
    """Lay utterances of one talker from `start` to `end`, the first one from its midst on."""
    placements: list[Placement] = []
    clock = start
    while clock < end:
        utterance = said[int(rng.integers(len(said)))]
        begin, last = utterance.speech[0][0], utterance.speech[-1][1]
        if not placements:
            begin += int(rng.integers(max(0, last - begin - (end - start)) + 1))
        stop = min(last, begin + end - clock)
        placements.append(Placement(utterance, begin, stop, clock))
        clock += stop - begin + int(rng.exponential(pause_s) * SAMPLE_RATE)
    return placements
