"""Simulated conversations rendered by the batch, on a GPU or a CPU.

What `audio/simulate.render` does one plan at a time in NumPy, for all plans at once where the
samples of all speech lie in one tensor: a batch then takes a GPU a few milliseconds. Both agree on
everything but the random tails of rooms, which are drawn from different generators.

P plans, U placements, S tracks, N samples of a plan, T of a track, K taps, F frequencies.
"""

import math

import torch
from scipy.fft import next_fast_len
from torch import Tensor
from torch.nn import functional as F

from wavlm_meeting.audio.simulate import (
    FADE,
    MU,
    NOISE_TAPS,
    SOLO_LEVEL,
    TELEPHONE_BAND_HZ,
)
from wavlm_meeting.training.scene_packing import PackedScenes
from wavlm_meeting.units import SAMPLE_RATE

LEAD = SAMPLE_RATE
"""Samples that a track begins early, for the room's tail."""
TAPS = int(0.7 * SAMPLE_RATE)
"""Samples of a room's response: the longest reverberation that is drawn."""
SHORTEST = 256
"""Samples that a response has at least, for its equaliser."""
DIRECT = int(0.0025 * SAMPLE_RATE)
"""Samples after the direct sound in which nothing is reflected yet."""
BANK = 1 << 22
"""Random numbers that tails are cut from."""


class SceneRenderer:
    """Renders packed scenes from `samples` (all sources, one after the other, int16).

    `responses` (M, K) are those of simulated or measured rooms, if there are any, on the same
    device; each row is brought to the energy of a direct sound.
    """

    def __init__(self, samples: Tensor, responses: Tensor | None = None) -> None:
        self.samples, self.responses = samples, responses
        drawn = torch.randn(BANK, generator=torch.Generator().manual_seed(0))
        self._bank = drawn.to(samples.device)

    def __deepcopy__(self, memo: object) -> "SceneRenderer":
        """Stay one: copies of a model that is trained share the samples, which are gigabytes."""
        return self

    def mixtures(self, scenes: PackedScenes) -> Tensor:
        """Return what is heard (P, N), float32."""
        images, noise = self.parts(scenes)
        heard = noise.index_add(0, scenes.plans, images)
        return through_telephone(heard, scenes.telephone)

    def parts(self, scenes: PackedScenes) -> tuple[Tensor, Tensor]:
        """Return each speaker as the microphone hears them (S, N), and the background (P, N).

        Neither went through a telephone.
        """
        length = int(scenes.length)
        levels = decibels(scenes.levels_db)
        images = convolved(self._tracks(scenes, length), self.room_responses(scenes))
        images = images[:, LEAD : LEAD + length]
        images = images * (decibels(scenes.gains_db) * levels[scenes.plans])[:, None]
        return images, self._backgrounds(scenes, length) * levels[:, None]

    def _tracks(self, scenes: PackedScenes, length: int) -> Tensor:
        """Lay each speaker's excerpts, equally loud, on a dry track (S, LEAD + N)."""
        begin, size, track, start = scenes.pieces.unbind(1)
        room = LEAD + length
        tracks = torch.zeros(len(scenes.plans) * room, device=self.samples.device)
        piece = torch.repeat_interleave(size)
        within = torch.arange(len(piece), device=piece.device) - (size.cumsum(0) - size)[piece]
        values = self.samples[begin[piece] + within].float()
        squares = torch.segment_reduce(values.square(), "sum", lengths=size, initial=0.0)
        level = (squares / size.clamp(min=1)).sqrt().clamp(min=1e-5)
        fade = (size // 2).clamp(max=FADE)[piece]
        edge = torch.minimum(within, size[piece] - 1 - within)
        values = values * (SOLO_LEVEL / level)[piece]
        values = values * (edge / (fade - 1).clamp(min=1)).clamp(max=1.0)
        place = start[piece] + within + LEAD
        kept = (place >= 0) & (place < room)
        tracks.index_add_(0, (track[piece] * room + place)[kept], values[kept])
        return tracks.view(-1, room)

    def room_responses(self, scenes: PackedScenes) -> Tensor:
        """Return a response (S, K) for each track: direct sound, decaying noise, equaliser."""
        reverberation_s, direct_db = scenes.rooms.unbind(1)
        tap = torch.arange(TAPS, device=self.samples.device)
        count = (reverberation_s * SAMPLE_RATE).long().clamp(min=SHORTEST)[:, None]
        decay = (-6.908 / SAMPLE_RATE * tap / reverberation_s.clamp(min=1e-3)[:, None]).exp()
        heard = (tap >= DIRECT) & (tap < count) & (reverberation_s > 0)[:, None]
        offset = scenes.places % (BANK - TAPS)
        tails = self._bank[offset[:, None] + tap] * decay * heard
        energy = tails.square().sum(dim=1, keepdim=True).clamp(min=1e-12)
        responses = tails * (decibels(-direct_db)[:, None] / energy.sqrt())
        responses[:, 0] += 1.0
        if self.responses is not None:
            own = (scenes.responses >= 0)[:, None]
            taken = self.responses[scenes.responses.clamp(min=0)].float()
            taken = taken / taken.square().sum(dim=1, keepdim=True).sqrt().clamp(min=1e-8)
            responses = torch.where(own, F.pad(taken, (0, TAPS - taken.shape[1])), responses)
            count = torch.where(own, TAPS, count)
        return self._equalised(responses, scenes.equalisers) * (tap < count)

    def _equalised(self, responses: Tensor, gains_db: Tensor) -> Tensor:
        """Send responses (S, K) through equalisers: the first K samples of what is heard."""
        taps = responses.shape[1]
        frequencies = torch.fft.rfftfreq(2 * taps, 1 / SAMPLE_RATE, device=gains_db.device)
        equaliser = minimum_phase(over_mel(gains_db, frequencies))
        heard = torch.fft.irfft(torch.fft.rfft(responses, 2 * taps) * equaliser, 2 * taps)
        return heard[:, :taps]

    def _backgrounds(self, scenes: PackedScenes, length: int) -> Tensor:
        """Return the backgrounds (P, N), looped over the scene and coloured."""
        coloured = scenes.noise_equalisers.shape[1] > 0
        lead = NOISE_TAPS if coloured else 0
        first, count, offset = (column[:, None] for column in scenes.noises.unbind(1))
        sample = torch.arange(-lead, length, device=self.samples.device)
        around = first + (offset + sample) % count.clamp(min=1)
        looped = self.samples[around].float() * scenes.noise_gains[:, None]
        if not coloured:
            return looped
        responses = torch.zeros(len(looped), NOISE_TAPS, device=looped.device)
        responses[:, 0] = 1.0
        responses = self._equalised(responses, scenes.noise_equalisers)
        return convolved(looped, responses)[:, lead:]


def over_mel(gains_db: Tensor, frequencies: Tensor) -> Tensor:
    """Return gains in dB at `frequencies` (F,) in Hz, of those at bands evenly over mel: (S, F).

    They are linear in mel between the bands; the last band is at the last frequency.
    """
    mel = torch.log1p(frequencies / 700.0)
    bands = gains_db.shape[1]
    place = mel / mel[-1] * (bands - 1)
    lower = place.floor().long().clamp(max=max(bands - 2, 0))
    upper = (lower + 1).clamp(max=bands - 1)
    share = place - lower
    return torch.lerp(gains_db[:, lower], gains_db[:, upper], share)


def minimum_phase(gains_db: Tensor) -> Tensor:
    """Return the spectra (S, F) with these gains whose responses begin at sample 0."""
    cepstra = torch.fft.irfft(gains_db * (math.log(10) / 20))
    half = cepstra.shape[1] // 2
    cepstra[:, 1:half] *= 2.0
    cepstra[:, half + 1 :] = 0.0
    return torch.fft.rfft(cepstra).exp()


def convolved(tracks: Tensor, responses: Tensor) -> Tensor:
    """Convolve each row of (S, T) with its response (S, K): the first T samples of it."""
    samples = tracks.shape[1]
    size = next_fast_len(samples + responses.shape[1] - 1, real=True)
    spectra = torch.fft.rfft(tracks, size) * torch.fft.rfft(responses, size)
    return torch.fft.irfft(spectra, size)[:, :samples]


def through_telephone(waveforms: Tensor, kinds: Tensor) -> Tensor:
    """Send those of (P, N) whose `kinds` (P,) is 1 or 2 through a telephone's band.

    2 is ITU-T G.711 besides: 8,000 samples a second, each one of 256 steps of the mu-law.
    """
    rows = (kinds > 0).nonzero()[:, 0]
    if not len(rows):
        return waveforms
    length = waveforms.shape[1]
    low, high = TELEPHONE_BAND_HZ
    frequency = torch.fft.rfftfreq(length, 1 / SAMPLE_RATE, device=waveforms.device)
    inside = (frequency >= low) & (frequency <= high)
    spectra = torch.fft.rfft(waveforms[rows]) * inside
    narrow = torch.fft.irfft(spectra, length)
    half = length // 2
    slow = mu_law(torch.fft.irfft(spectra[:, : half // 2 + 1], half) * (half / length))
    padded = F.pad(torch.fft.rfft(slow), (0, length // 2 + 1 - (half // 2 + 1)))
    companded = torch.fft.irfft(padded, length) * (length / half)
    chosen = torch.where(kinds[rows, None] == 2, companded, narrow)
    return waveforms.index_copy(0, rows, chosen)


def mu_law(waveforms: Tensor) -> Tensor:
    """Round samples to the 256 steps of the mu-law (ITU-T G.711, in its continuous form)."""
    held = waveforms.clamp(-1.0, 1.0)
    pressed = held.sign() * torch.log1p(MU * held.abs()) / math.log1p(MU)
    rounded = (pressed * 127.0).round() / 127.0
    return rounded.sign() * ((1.0 + MU) ** rounded.abs() - 1.0) / MU


def decibels(gains_db: Tensor) -> Tensor:
    """Return the factors that gains in dB stand for."""
    return 10.0 ** (gains_db / 20.0)
