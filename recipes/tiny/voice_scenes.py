"""Other voices and other places, made of spectra.

What is done to the voice, its speed, its formants, its colour, a second voice, the teacher hears
too, and says who that would be. What is done to the place, a microphone, a telephone, a room,
noise, the head alone hears, and is to say the same.

B batch, T frames, F bins, M bands.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from wavlm_meeting.config import Settings
from wavlm_meeting.recipes.tiny.voice_spectra import BINS, RATE, Spectra
from wavlm_meeting.training.scene_rendering import over_mel
from wavlm_meeting.units import SAMPLE_RATE

POINTS = 9
"""At which the curve of an equaliser is drawn, evenly over mel; lines lie between them."""
LOWEST_HZ = 60.0
"""Where a microphone's slope ends."""
FORMANTS = (0.75, 1.33)
"""Bounds of what a spectrum is stretched by."""

Floats = NDArray[np.float64]


class VoiceSceneSettings(Settings):
    """How stretches of speech are changed. Probabilities are those of a stretch."""

    speeds: tuple[float, float] = (0.8, 1.25)
    """Slowest and fastest talk, at the pitch that it has (log-uniform)."""
    formants: float = 0.12
    """Standard deviation of the logarithm of what the spectrum is stretched by, pitch with it."""
    colour_db: float = 2.0
    """Standard deviation of an equaliser that belongs to the voice."""
    second: float = 0.3
    """Probability of a second voice, which with the first is a third one."""
    second_db: tuple[float, float] = (0.0, 15.0)
    """How much fainter that is (uniform)."""
    microphone: float = 0.6
    """Probability of a microphone of its own."""
    equaliser_db: float = 4.0
    """Standard deviation of its gains."""
    tilt_db: float = 4.0
    """Standard deviation of what they rise or fall by in an octave."""
    telephone: float = 0.3
    """Probability of a line that passes some band alone, speech and noise alike."""
    from_hz: tuple[float, float] = (40.0, 400.0)
    """Where that begins (uniform)."""
    to_hz: tuple[float, float] = (3000.0, 4000.0)
    """Where it ends (uniform)."""
    slope_db: tuple[float, float] = (24.0, 240.0)
    """What is lost in an octave beyond (log-uniform)."""
    lost_db: tuple[float, float] = (20.0, 90.0)
    """And at most (uniform)."""
    room: float = 0.2
    """Probability of a room."""
    reverberation_s: tuple[float, float] = (0.15, 0.6)
    """Time in which its sound falls by 60 dB (uniform)."""
    reverberant_db: tuple[float, float] = (0.0, 10.0)
    """How much fainter it is than what comes straight (uniform)."""
    noise: float = 0.5
    """Probability of noise."""
    snr_db: tuple[float, float] = (8.0, 40.0)
    """How much fainter that is than the speech, in the bands that are heard (uniform)."""


class Scene(NamedTuple):
    """What teacher and head hear of the same stretches, and where speech is (B, T)."""

    voice: Tensor
    """(B, T, M) powers in the teacher's bands, as loud as the recordings were."""
    heard: Tensor
    """(B, T, M') in the head's."""
    speech: NDArray[np.bool_]


class Scenes:
    """Draws stretches and changes them; `teacher` and `head` are filters (F, M) and (F, M')."""

    def __init__(
        self,
        settings: VoiceSceneSettings,
        speech: Spectra,
        noises: Spectra,
        teacher: Tensor,
        head: Tensor,
    ) -> None:
        self.settings, self.speech, self.noises = settings, speech, noises
        self.teacher, self.head = teacher, head

    def draw(self, rng: np.random.Generator, count: int, frames: int) -> Scene:
        """Draw `count` stretches of `frames`."""
        settings = self.settings
        power, speech, level = self._voices(rng, count, frames)
        stretched = warps(np.exp(rng.normal(0.0, settings.formants, count)).clip(*FORMANTS))
        colour = equalisers(rng, count, settings.colour_db)
        voice = power @ _filters(self.teacher, colour, stretched)
        voice *= (level / _level(voice, speech))[:, None, None]
        microphone, line = self._microphones(rng, count), self._lines(rng, count)
        heard = self._room(rng, power) @ _filters(self.head, colour + microphone + line, stretched)
        return Scene(voice, self._noisy(rng, heard, speech, microphone / 2 + line), speech)

    def _voices(
        self, rng: np.random.Generator, count: int, frames: int
    ) -> tuple[Tensor, NDArray[np.bool_], Tensor]:
        """Return powers (B, T, F), where speech is, and how loud the teacher would find it."""
        settings = self.settings
        slowest, fastest = np.log(settings.speeds)
        speeds = np.exp(rng.uniform(slowest, fastest, count))
        power, speech = self.speech.cut(rng, speeds, frames)
        level = _level(torch.from_numpy(power) @ self.teacher, speech)
        mixed = np.flatnonzero(rng.random(count) < settings.second)
        if len(mixed):
            other, spoken = self.speech.cut(rng, speeds[mixed], frames)
            fainter = 10 ** (-rng.uniform(*settings.second_db, len(mixed)) / 10)
            power[mixed] += other * fainter[:, None, None].astype(np.float32)
            speech[mixed] |= spoken
        return torch.from_numpy(power), speech, level

    def _microphones(self, rng: np.random.Generator, count: int) -> Tensor:
        """Return the gains of microphones (B, F) in decibels."""
        settings = self.settings
        slopes = (
            torch.from_numpy(rng.normal(0.0, settings.tilt_db, (count, 1))).float() * _octaves()
        )
        gains = equalisers(rng, count, settings.equaliser_db) + slopes
        return gains * _chosen(rng, count, settings.microphone)[:, None]

    def _lines(self, rng: np.random.Generator, count: int) -> Tensor:
        """Return the gains of telephone lines (B, F) in decibels."""
        settings = self.settings
        begins, ends, lost = (
            torch.from_numpy(rng.uniform(*bounds, (count, 1))).float()
            for bounds in (settings.from_hz, settings.to_hz, settings.lost_db)
        )
        gentlest, steepest = np.log(settings.slope_db)
        slopes = torch.from_numpy(np.exp(rng.uniform(gentlest, steepest, (count, 1))))
        hz = _hertz().clamp(min=1.0)
        beyond = torch.log2(begins / hz).clamp(min=0) + torch.log2(hz / ends).clamp(min=0)
        gains = -torch.minimum(slopes.float() * beyond, lost)
        return gains * _chosen(rng, count, settings.telephone)[:, None]

    def _room(self, rng: np.random.Generator, power: Tensor) -> Tensor:
        """Let what is heard of powers (B, T, F) decay, of some of them."""
        settings = self.settings
        placed = _chosen(rng, len(power), settings.room).bool()
        count, frames = int(placed.sum()), power.shape[1]
        if not count:
            return power
        times = torch.from_numpy(rng.uniform(*settings.reverberation_s, (count, 1, 1))).float()
        fainter = torch.from_numpy(rng.uniform(*settings.reverberant_db, (count, 1, 1))).float()
        decay = 10 ** (-6 / (RATE * times))
        back = torch.arange(frames)[:, None] - torch.arange(frames)
        tail = decay ** back.clamp(min=0) * (back > 0)  # (B, T, T)
        tail *= (1 - decay) * 10 ** (-fainter / 10)
        reverberant = power.clone()
        reverberant[placed] += tail @ power[placed]
        return reverberant

    def _noisy(
        self,
        rng: np.random.Generator,
        heard: Tensor,
        speech: NDArray[np.bool_],
        gains_db: Tensor,
    ) -> Tensor:
        """Add noises to bands (B, T, M), through gains (B, F) in decibels."""
        settings = self.settings
        noisy = _chosen(rng, len(heard), settings.noise).bool()
        count = int(noisy.sum())
        if not count or not len(self.noises.shares):
            return heard
        power, _ = self.noises.cut(rng, np.ones(count), heard.shape[1])
        gains = 10 ** (gains_db[noisy] / 10)
        noise = torch.from_numpy(power) @ (gains[..., None] * self.head)
        snr_db = torch.from_numpy(rng.uniform(*settings.snr_db, count)).float()
        loud = _level(heard[noisy], speech[noisy.numpy()])
        faint = noise.sum(dim=2).mean(dim=1).clamp(min=1e-12)
        heard[noisy] += noise * (loud / faint * 10 ** (-snr_db / 10))[:, None, None]
        return heard


def warps(factors: Floats) -> Tensor:
    """Return what stretches spectra by `factors` (B,): (B, F, F), each row a bin of the result."""
    places = np.minimum(np.arange(BINS) / factors[:, None], BINS - 1 - 1e-6)
    below = torch.from_numpy(places.astype(np.int64))[..., None]
    above = torch.from_numpy((places % 1).astype(np.float32))[..., None]
    rows = torch.zeros(len(factors), BINS, BINS).scatter_(2, below, 1 - above)
    return rows.scatter_add_(2, below + 1, above)


def equalisers(rng: np.random.Generator, count: int, deviation_db: float) -> Tensor:
    """Draw gains (B, F) in decibels that change slowly over mel."""
    drawn = torch.from_numpy(rng.normal(0.0, deviation_db, (count, POINTS))).float()
    return over_mel(drawn, _hertz())


def _filters(bands: Tensor, gains_db: Tensor, stretched: Tensor) -> Tensor:
    """Return filters (B, F, M) that stretch, then equalise, then sum up to bands."""
    return stretched.mT @ (10 ** (gains_db[..., None] / 10) * bands)


def _level(bands: Tensor, speech: NDArray[np.bool_]) -> Tensor:
    """Return the mean power (B,) of the frames of bands (B, T, M) in which there is speech."""
    spoken = torch.from_numpy(speech).float()
    total = (bands.sum(dim=2) * spoken).sum(dim=1)
    return (total / spoken.sum(dim=1).clamp(min=1)).clamp(min=1e-12)


def _chosen(rng: np.random.Generator, count: int, probability: float) -> Tensor:
    return torch.from_numpy(rng.random(count) < probability).float()


def _hertz() -> Tensor:
    return torch.linspace(0.0, SAMPLE_RATE / 2, BINS)


def _octaves() -> Tensor:
    """Return how far each bin lies above 1 kHz."""
    return torch.log2(_hertz().clamp(min=LOWEST_HZ) / 1000)
