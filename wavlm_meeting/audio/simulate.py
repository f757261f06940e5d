"""Simulated conversations: everything random is drawn into a plan, a pure function renders it.

Turns alternate with pauses and overlaps, listeners drop in short replies, every speaker stands in
one place of a room, noise and a telephone channel may lie over all. The plan is a plain value: the
same plan always renders the same waveform, and any stretch of it can be rendered alone.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import oaconvolve

from wavlm_meeting.audio.room import Room, room_response, tilted
from wavlm_meeting.config import Settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.units import SAMPLE_RATE

Samples = NDArray[np.float32]
LoadAudio = Callable[[int], NDArray[Any]]
"""Gives the samples of the source with this index (an utterance or a noise), in any scale."""

FADE = 160  # samples; a cut in the middle of a word must not click
SOLO_LEVEL = 0.05  # root mean square of a speaker at 0 dB
TELEPHONE_BAND_HZ = (300.0, 3400.0)
MU = 255.0
BANDS = 8  # of an equaliser
NOISE_TAPS = 256  # of the filter that colours a background


@dataclass(frozen=True)
class Utterance:
    """A recording of one speaker: its index in the collection and where speech is (samples)."""

    index: int
    speaker: str
    speech: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Placement:
    """`source[begin:end]` of one speaker, heard from sample `start` of the conversation on."""

    utterance: Utterance
    begin: int
    end: int
    start: int

    @property
    def turns(self) -> list[tuple[int, int]]:
        """Return the (start, end) samples, within the conversation, at which speech is heard."""
        shift = self.start - self.begin
        return [
            (max(start, self.begin) + shift, min(end, self.end) + shift)
            for start, end in self.utterance.speech
            if start < self.end and end > self.begin
        ]


@dataclass(frozen=True)
class Noise:
    """A background, looped from sample `offset` on, `snr_db` below a speaker at 0 dB."""

    index: int
    offset: int
    snr_db: float
    equaliser_db: tuple[float, ...] = ()
    """What it is filtered with after that, as a room's; empty for nothing."""


@dataclass(frozen=True)
class ConversationPlan:
    """All that is random about a conversation. `rooms` and `gains_db` are by speaker."""

    length: int
    placements: tuple[Placement, ...]
    rooms: dict[str, Room]
    gains_db: dict[str, float]
    noise: Noise | None
    telephone: bool
    level_db: float
    companded: bool = False
    """Whether the telephone sends 8,000 samples a second of 256 steps each (ITU-T G.711)."""

    @property
    def speakers(self) -> list[str]:
        """Return the speakers in the order of their first turn."""
        return list(dict.fromkeys(placement.utterance.speaker for placement in self.placements))

    def turns(self) -> list[tuple[int, int, str]]:
        """Return (start, end, speaker) in samples, cut to the conversation, sorted by start."""
        found = [
            (max(start, 0), min(end, self.length), placement.utterance.speaker)
            for placement in self.placements
            for start, end in placement.turns
            if start < self.length and end > 0
        ]
        return sorted(found)


class ConversationSettings(Settings):
    """How conversations are drawn. Probabilities are per turn or, where said, per conversation."""

    turn_s: float = 3.0
    """Median length of a turn; lengths are log-normal."""
    turn_spread: float = 0.7
    """Standard deviation of the logarithm of the turn length."""
    pause_s: float = 0.5
    """Mean pause between turns (exponential)."""
    overlap: float = 0.4
    """Probability that a turn begins before the last one ends."""
    overlap_s: float = 1.5
    """Longest overlap of two turns (uniform from 0, at most 80 % of the shorter one)."""
    reply: float = 0.15
    """Probability that a listener drops a short reply into a turn."""
    reply_s: float = 0.7
    """Median length of a reply."""
    same_speaker: float = 0.2
    """Probability that a speaker goes on after a pause."""
    room: float = 0.8
    """Probability (conversation) that it takes place in a reverberant room."""
    noise: float = 0.8
    """Probability (conversation) that there is noise."""
    snr_db: tuple[float, float] = (5.0, 25.0)
    """Signal-to-noise ratio (uniform)."""
    telephone: float = 0.15
    """Probability (conversation) that all is heard through 300 to 3,400 Hz."""
    companded: float = 0.0
    """Probability that such a telephone is ITU-T G.711: 8,000 samples a second of 256 steps."""
    gain_db: float = 4.0
    """Standard deviation of the speakers' levels."""
    equaliser_db: float = 4.0
    """Standard deviation of each band's gain of a speaker's channel."""
    tilt_db: float = 0.0
    """Standard deviation (conversation) of what all channels rise or fall by in an octave, 0 at 1
    kHz."""
    noise_tilt_db: float = 0.0
    """The same of the noise alone, whose level at 1 kHz stays: rumble of rooms, hiss of devices."""
    one_channel: float = 0.0
    """Probability (conversation) that place and channel are the same for all speakers."""
    level_db: tuple[float, float] = (-25.0, 0.0)
    """Level of the whole conversation (uniform)."""


def draw_conversation(
    rng: np.random.Generator,
    voices: dict[str, Sequence[Utterance]],
    length: int,
    settings: ConversationSettings,
    noises: Sequence[tuple[int, int]] = (),
) -> ConversationPlan:
    """Draw a conversation of `length` samples between all speakers of `voices`.

    `noises` holds (index, samples) of the backgrounds to choose from. Raises SettingsError if
    `voices` is empty or a speaker has no speech.
    """
    silent = [name for name, said in voices.items() if not any(u.speech for u in said)]
    if not voices or silent:
        raise SettingsError(f"no speech to simulate with from: {', '.join(silent) or 'nobody'}.")
    names = list(voices)
    placements = _draw_turns(rng, names, voices, length, settings)
    return draw_scene(rng, length, names, placements, settings, noises)


def draw_scene(
    rng: np.random.Generator,
    length: int,
    names: Sequence[str],
    placements: Sequence[Placement],
    settings: ConversationSettings,
    noises: Sequence[tuple[int, int]] = (),
) -> ConversationPlan:
    """Draw rooms, channels, noise and levels around what `names` say in `placements`."""
    reverberant = rng.random() < settings.room
    reverberation_s = rng.uniform(0.1, 0.7) if reverberant else 0.0
    rooms = {
        name: Room(
            reverberation_s=reverberation_s,
            direct_to_reverberant_db=rng.uniform(-3.0, 12.0),
            equaliser_db=tuple(rng.normal(0.0, settings.equaliser_db, BANDS)),
            seed=int(rng.integers(2**31)),
        )
        for name in names
    }
    # Nothing is drawn at probability 0, so that sets drawn without the setting stay what they were.
    if settings.one_channel and rng.random() < settings.one_channel:
        rooms = dict.fromkeys(names, rooms[names[0]])
    if settings.tilt_db:
        slope = rng.normal(0.0, settings.tilt_db)
        rooms = {
            name: replace(room, equaliser_db=tilted(room.equaliser_db, slope))
            for name, room in rooms.items()
        }
    return ConversationPlan(
        length=length,
        placements=tuple(placements),
        rooms=rooms,
        gains_db={name: rng.normal(0.0, settings.gain_db) for name in names},
        noise=_draw_noise(rng, noises, settings),
        telephone=bool(rng.random() < settings.telephone),
        level_db=rng.uniform(*settings.level_db),
        companded=bool(settings.companded and rng.random() < settings.companded),
    )


def crop(plan: ConversationPlan, start: int, length: int) -> ConversationPlan:
    """Return the plan of `length` samples from `start` on: it renders as that stretch does."""
    placements = tuple(
        replace(placement, start=placement.start - start)
        for placement in plan.placements
        if placement.start < start + length
        and placement.start + placement.end - placement.begin > start - SAMPLE_RATE
    )
    noise = plan.noise and replace(plan.noise, offset=plan.noise.offset + start)
    return replace(plan, length=length, placements=placements, noise=noise)


def render(plan: ConversationPlan, speech: LoadAudio, noise: LoadAudio | None = None) -> Samples:
    """Render a plan to a waveform (N,).

    `speech` and `noise` give the samples of an index. Each speaker is placed dry on a track of
    their own at equal loudness, filtered by their room, and summed; noise comes on top, then the
    level, and the telephone comes last.
    """
    mixture = np.zeros(plan.length, np.float32)
    for name in plan.speakers:
        own = [p for p in plan.placements if p.utterance.speaker == name]
        track = _dry_track(own, plan.length, speech)
        if track is None:
            continue
        response = room_response(plan.rooms[name])
        lead = len(track) - plan.length
        wet = oaconvolve(track, response)[lead : lead + plan.length]
        mixture += np.float32(10 ** (plan.gains_db[name] / 20)) * wet.astype(np.float32)
    if plan.noise is not None and noise is not None:
        mixture += _background(plan.noise, noise(plan.noise.index), plan.length)
    mixture *= np.float32(10 ** (plan.level_db / 20))
    if plan.telephone:
        mixture = band_pass(mixture, *TELEPHONE_BAND_HZ)
    if plan.telephone and plan.companded:
        mixture = companded(mixture)
    return mixture


def band_pass(waveform: Samples, low_hz: float, high_hz: float) -> Samples:
    """Cut away all below and above, as a telephone channel does."""
    spectrum = np.fft.rfft(waveform)
    frequency = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    spectrum[(frequency < low_hz) | (frequency > high_hz)] = 0.0
    return np.fft.irfft(spectrum, len(waveform)).astype(np.float32)


def companded(waveform: Samples) -> Samples:
    """Return what is left of 8,000 samples a second that are rounded by the mu-law."""
    length, half = len(waveform), len(waveform) // 2
    spectrum = np.fft.rfft(waveform)[: half // 2 + 1]
    sent = mu_law(np.fft.irfft(spectrum, half).astype(np.float32) * np.float32(half / length))
    heard = np.zeros(length // 2 + 1, np.complex128)
    heard[: half // 2 + 1] = np.fft.rfft(sent)
    return (np.fft.irfft(heard, length) * (length / half)).astype(np.float32)


def mu_law(waveform: Samples) -> Samples:
    """Round to the 256 steps of the mu-law (ITU-T G.711, in its continuous form, mu 255)."""
    held = np.clip(waveform, -1.0, 1.0)
    pressed = np.sign(held) * np.log1p(MU * np.abs(held)) / np.log1p(MU)
    rounded = np.round(pressed * 127.0) / 127.0
    return (np.sign(rounded) * np.expm1(np.abs(rounded) * np.log1p(MU)) / MU).astype(np.float32)


def _draw_turns(
    rng: np.random.Generator,
    names: list[str],
    voices: dict[str, Sequence[Utterance]],
    length: int,
    settings: ConversationSettings,
) -> list[Placement]:
    """Draw turns one after the other until `length` is full; everybody gets one at first."""
    waiting = list(rng.permutation(names))
    placements: list[Placement] = []
    clock, busy_until, last = 0.0, dict.fromkeys(names, 0), ""
    while clock < length:
        if waiting:
            name = waiting.pop()
        elif len(names) > 1 and rng.random() >= settings.same_speaker:
            name = str(rng.choice([other for other in names if other != last]))
        else:
            name = last or names[0]
        wanted_s = settings.turn_s * np.exp(settings.turn_spread * rng.standard_normal())
        begin, end, utterance = _draw_excerpt(rng, voices[name], wanted_s)
        size = end - begin
        if name != last and placements and rng.random() < settings.overlap:
            previous = placements[-1].end - placements[-1].begin
            most = min(0.8 * min(size, previous), settings.overlap_s * SAMPLE_RATE)
            start = clock - rng.uniform(0.0, most)
        else:
            start = clock + rng.exponential(settings.pause_s) * SAMPLE_RATE
        start = int(max(start, busy_until[name]))
        placements.append(Placement(utterance, begin, end, start))
        busy_until[name], clock, last = start + size, max(clock, start + size), name
        others = [other for other in names if busy_until[other] <= start]
        if others and size > SAMPLE_RATE and rng.random() < settings.reply:
            listener = str(rng.choice(others))
            reply_s = settings.reply_s * np.exp(0.5 * rng.standard_normal())
            begin, end, utterance = _draw_excerpt(rng, voices[listener], reply_s)
            start += int(rng.uniform(0.1, 0.9) * size)
            placements.insert(-1, Placement(utterance, begin, end, start))
            busy_until[listener] = start + end - begin
    return placements


def _draw_excerpt(
    rng: np.random.Generator, said: Sequence[Utterance], wanted_s: float
) -> tuple[int, int, Utterance]:
    """Draw an utterance and cut about `wanted_s` out of it, at pauses where there are any."""
    spoken = [utterance for utterance in said if utterance.speech]
    utterance = spoken[int(rng.integers(len(spoken)))]
    spans, wanted = utterance.speech, int(max(wanted_s, 0.3) * SAMPLE_RATE)
    first = int(rng.integers(len(spans)))
    begin, end = spans[first]
    if end - begin > wanted:
        begin += int(rng.integers(end - begin - wanted + 1))
        return begin, begin + wanted, utterance
    for _, later_end in spans[first + 1 :]:
        if later_end - begin > wanted:
            break
        end = later_end
    return begin, end, utterance


def _draw_noise(
    rng: np.random.Generator, noises: Sequence[tuple[int, int]], settings: ConversationSettings
) -> Noise | None:
    if not noises or rng.random() >= settings.noise:
        return None
    index, samples = noises[int(rng.integers(len(noises)))]
    noise = Noise(index, int(rng.integers(samples)), rng.uniform(*settings.snr_db))
    if not settings.noise_tilt_db:
        return noise
    slope = rng.normal(0.0, settings.noise_tilt_db)
    return replace(noise, equaliser_db=tilted((0.0,) * BANDS, slope))


def _dry_track(own: list[Placement], length: int, speech: LoadAudio) -> Samples | None:
    """Lay one speaker's excerpts on a track that begins one second early, for the room's tail."""
    lead = SAMPLE_RATE
    track = np.zeros(lead + length, np.float32)
    heard = False
    for placement in own:
        piece = speech(placement.utterance.index)[placement.begin : placement.end]
        piece = piece.astype(np.float32)
        piece *= SOLO_LEVEL / max(float(np.sqrt(np.mean(piece**2))), 1e-5)
        fade = min(FADE, len(piece) // 2)
        ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
        piece[:fade] *= ramp
        piece[len(piece) - fade :] *= ramp[::-1]
        start = placement.start + lead
        cut = piece[max(0, -start) : max(0, len(track) - start)]
        if len(cut):
            track[max(0, start) : max(0, start) + len(cut)] += cut
            heard = True
    return track if heard else None


def _background(noise: Noise, samples: NDArray[Any], length: int) -> Samples:
    """Loop the noise over the conversation, scaled by its power over the whole recording."""
    lead = NOISE_TAPS if noise.equaliser_db else 0
    around = np.arange(noise.offset - lead, noise.offset + length)
    looped = np.take(samples, around, mode="wrap").astype(np.float32)
    if lead:
        response = room_response(Room(0.0, 0.0, noise.equaliser_db, 0))[:lead]
        looped = oaconvolve(looped, response)[lead : lead + length].astype(np.float32)
    level = np.sqrt(np.mean(np.square(samples, dtype=np.float64)))
    return looped * np.float32(SOLO_LEVEL / max(level, 1e-5) * 10 ** (-noise.snr_db / 20))
