"""How a piece of speech reaches a model: rooms, noise, other voices, channels, codecs.

Everything random is drawn into a plan, and a pure function renders it, as in `audio/simulate.py`.
Kinds and levels of noise follow the VoxCeleb recipe of Kaldi (Snyder et al., "X-vectors", ICASSP
2018, section 3.3): one noise or piece of music, or three to seven people talking, each at its own
range of levels; MUSAN (arXiv 1510.08484) has the three in folders of these names.

N samples.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import Field
from scipy import fft

from wavlm_meeting.audio.room import Room, room_response
from wavlm_meeting.audio.simulate import Samples, band_pass
from wavlm_meeting.config import Settings
from wavlm_meeting.training.codecs import NAMES, CodecName, bit_rates, through_codec
from wavlm_meeting.training.recordings import Recordings
from wavlm_meeting.units import SAMPLE_RATE

LEVEL = 0.05
"""Root mean square of speech at 0 dB."""
BANDS = 8
"""Bands of the random equaliser."""
LONGEST_RESPONSE_S = 1.0
"""What a room's response has later than this is left out."""
BEFORE_S = 0.001
"""A response begins so much before its loudest sample, the direct sound."""
LOUDEST = 0.99
"""Highest peak of what is given, where full scale is 1."""

Kind = Literal["noise", "music", "speech"]


class AugmentationSettings(Settings):
    """What happens to a piece of speech, each with a probability of its own."""

    untouched: float = Field(0.3, ge=0, le=1)
    """Probability that nothing happens to it at all."""
    room: float = Field(0.5, ge=0, le=1)
    """Probability of a room."""
    recorded: float = Field(0.5, ge=0, le=1)
    """Share of the rooms that are one of the given responses, where there are any; the others are
    drawn from a statistical model."""
    reverberation_s: tuple[float, float] = (0.1, 0.7)
    """Reverberation time of such a room (uniform)."""
    direct_db: tuple[float, float] = (-3.0, 12.0)
    """Direct to reverberant energy of such a room (uniform)."""
    equaliser: float = Field(0.5, ge=0, le=1)
    """Probability of another frequency response, as of a microphone."""
    equaliser_db: float = Field(4.0, ge=0)
    """Standard deviation of each band's gain."""
    noise: float = Field(0.5, ge=0, le=1)
    """Probability of something in the background."""
    babble: float = Field(0.25, ge=0, le=1)
    """Share of the backgrounds that are people talking; all, where no noise is given."""
    voices: tuple[int, int] = (3, 7)
    """How many people talk (uniform)."""
    noise_db: tuple[float, float] = (0.0, 20.0)
    """Speech to noise ratio (uniform)."""
    music_db: tuple[float, float] = (5.0, 20.0)
    """Speech to music ratio (uniform)."""
    babble_db: tuple[float, float] = (10.0, 20.0)
    """Ratio of the speech to all who talk (uniform)."""
    clipping: float = Field(0.05, ge=0, le=1)
    """Probability that loud samples are cut off."""
    clipped_at: tuple[float, float] = (0.2, 0.8)
    """Where, as a share of the peak (uniform)."""
    band: float = Field(0.1, ge=0, le=1)
    """Probability that only a band of frequencies is left."""
    low_hz: tuple[float, float] = (20.0, 300.0)
    """Lower edge of the band (uniform)."""
    high_hz: tuple[float, float] = (3000.0, 7000.0)
    """Upper edge of the band (uniform); a telephone's is 3,400."""
    codec: float = Field(0.1, ge=0, le=1)
    """Probability of a lossy codec."""
    codecs: tuple[CodecName, ...] = NAMES
    """Which, all as likely; g711 is a telephone's, of 8 kHz. Their bit rates are drawn."""
    level_db: tuple[float, float] = (-25.0, 10.0)
    """Level of what is heard (uniform)."""


@dataclass(frozen=True)
class Background:
    """Pieces of other recordings, (index, first sample) each, `ratio_db` below the speech."""

    kind: Kind
    pieces: tuple[tuple[int, int], ...]
    ratio_db: float


@dataclass(frozen=True)
class Plan:
    """All that is random about the way; None is what does not happen."""

    room: Room | None = None
    """A statistical room, or the equaliser alone."""
    response: int | None = None
    """Which recorded response."""
    background: Background | None = None
    clipped_at: float | None = None
    band: tuple[float, float] | None = None
    codec: tuple[str, int] | None = None
    level_db: float | None = None


class Augmenter:
    """Draws plans and renders them.

    `voices` are the recordings that babble is made of. `noises` are told apart by the names of
    their sources, "noise" where none of "music" and "speech" is one; without speech among them,
    `voices` talk. `rooms` are impulse responses.
    """

    def __init__(
        self,
        settings: AugmentationSettings,
        voices: Recordings,
        noises: Recordings | None = None,
        rooms: Recordings | None = None,
    ) -> None:
        self.settings, self.noises, self.rooms = settings, noises, rooms
        names = [] if noises is None else [*noises.source_names, ""]  # the last is what -1 picks
        kinds = [] if noises is None else [names[source] for source in noises.sources]
        self.quiet = [number for number, kind in enumerate(kinds) if kind != "speech"]
        self.music = {number for number, kind in enumerate(kinds) if kind == "music"}
        given = [number for number, kind in enumerate(kinds) if kind == "speech"]
        self.voices = voices if noises is None or not given else noises
        self.talking = np.array(given) if given else np.arange(len(voices))

    def draw(self, rng: np.random.Generator, samples: int, speaker: int) -> Plan:
        """Draw what happens to a piece of `speaker`, who does not talk in the background too."""
        settings = self.settings
        if rng.random() < settings.untouched:
            return Plan()
        room, response = self._draw_room(rng)
        background = self._draw_background(rng, samples, speaker)
        clipped_at = band = codec = None
        if rng.random() < settings.clipping:
            clipped_at = rng.uniform(*settings.clipped_at)
        if rng.random() < settings.band:
            band = (rng.uniform(*settings.low_hz), rng.uniform(*settings.high_hz))
        if settings.codecs and rng.random() < settings.codec:
            name = settings.codecs[int(rng.integers(len(settings.codecs)))]
            rates = bit_rates(name)
            codec = (name, rates[int(rng.integers(len(rates)))])
        level_db = rng.uniform(*settings.level_db)
        return Plan(room, response, background, clipped_at, band, codec, level_db)

    def render(self, plan: Plan, waveform: Samples) -> Samples:
        """Return what is heard of a waveform (N,), as many samples."""
        if plan == Plan():
            return waveform
        heard = _at_level(waveform)
        if plan.room is not None:
            heard = _convolve(heard, room_response(plan.room))
        if plan.response is not None:
            heard = _convolve(heard, self._response(plan.response))
        if plan.background is not None:
            # The ratio counts what is heard of the speech, after the room.
            heard = _at_level(heard) + self._background(plan.background, len(heard))
        if plan.clipped_at is not None:
            most = np.float32(plan.clipped_at) * np.abs(heard).max()
            heard = heard.clip(-most, most)
        if plan.band is not None:
            heard = band_pass(heard, *plan.band)
        if plan.level_db is not None:
            heard = heard * np.float32(10 ** (plan.level_db / 20))
            heard *= np.float32(LOUDEST / max(float(np.abs(heard).max()), LOUDEST))
        if plan.codec is not None:
            heard = through_codec(heard, *plan.codec)
        return heard

    def _draw_room(self, rng: np.random.Generator) -> tuple[Room | None, int | None]:
        settings = self.settings
        response, reverberation_s, gains = None, 0.0, (0.0,) * BANDS
        in_room = rng.random() < settings.room
        if in_room and self.rooms is not None and rng.random() < settings.recorded:
            response = int(rng.integers(len(self.rooms)))
        elif in_room:
            reverberation_s = rng.uniform(*settings.reverberation_s)
        if rng.random() < settings.equaliser:
            gains = tuple(rng.normal(0.0, settings.equaliser_db, BANDS).tolist())
        if not reverberation_s and not any(gains):
            return None, response
        direct_db = rng.uniform(*settings.direct_db)
        return Room(reverberation_s, direct_db, gains, int(rng.integers(2**31))), response

    def _draw_background(
        self, rng: np.random.Generator, samples: int, speaker: int
    ) -> Background | None:
        settings = self.settings
        if rng.random() >= settings.noise:
            return None
        if self.noises is not None and self.quiet and rng.random() >= settings.babble:
            index = self.quiet[int(rng.integers(len(self.quiet)))]
            is_music = index in self.music
            ratio_db = rng.uniform(*(settings.music_db if is_music else settings.noise_db))
            piece = (index, _draw_offset(rng, self.noises, index, samples))
            return Background("music" if is_music else "noise", (piece,), ratio_db)
        low, high = settings.voices
        pieces = []
        for _ in range(int(rng.integers(low, high + 1))):
            index = self._draw_voice(rng, speaker)
            pieces.append((index, _draw_offset(rng, self.voices, index, samples)))
        return Background("speech", tuple(pieces), rng.uniform(*settings.babble_db))

    def _draw_voice(self, rng: np.random.Generator, speaker: int) -> int:
        """Draw a recording of somebody else; of anybody, where hardly anybody else is there."""
        drawn = rng.choice(self.talking, size=20)
        others = drawn[(speaker < 0) | (self.voices.speakers[drawn] != speaker)]
        return int(others[0] if len(others) else drawn[0])

    def _background(self, background: Background, samples: int) -> Samples:
        """Render what lies under the speech; all who talk are as loud as each other."""
        recordings = self.voices if background.kind == "speech" else self.noises
        total = np.zeros(samples, np.float32)
        for index, offset in background.pieces:
            if recordings is not None:
                total += _at_level(recordings.read(index, offset, samples))
        return _at_level(total) * np.float32(10 ** (-background.ratio_db / 20))

    def _response(self, index: int) -> Samples:
        """Read a recorded response from its direct sound on."""
        if self.rooms is None:
            return np.ones(1, np.float32)
        whole = self.rooms.read(index, 0, self.rooms.length(index))
        first = max(0, int(np.abs(whole).argmax()) - int(BEFORE_S * SAMPLE_RATE))
        return whole[first : first + int(LONGEST_RESPONSE_S * SAMPLE_RATE)]


def _draw_offset(rng: np.random.Generator, recordings: Recordings, index: int, samples: int) -> int:
    """Draw where a piece begins; anywhere in a recording that is too short, which begins again."""
    spare = recordings.length(index) - samples
    return int(rng.integers(spare + 1 if spare >= 0 else recordings.length(index)))


def _at_level(waveform: Samples) -> Samples:
    """Scale to LEVEL; what is all but silent stays so."""
    level = float(np.sqrt(np.mean(np.square(waveform), dtype=np.float64)))
    return waveform * np.float32(LEVEL / max(level, 1e-5))


def _convolve(waveform: Samples, response: Samples) -> Samples:
    """Filter (N,) by a response, in float32, without what comes after its end."""
    size = fft.next_fast_len(len(waveform) + len(response) - 1, real=True)
    spectrum = fft.rfft(waveform, size) * fft.rfft(response, size)
    return fft.irfft(spectrum, size)[: len(waveform)]
