"""From waveforms to spectra and back, without loss.

B batch (any leading shape), N samples, T frames, F bins.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def frame_count(samples: int, hop: int) -> int:
    """Return how many frames a waveform of `samples` has: each sample lies in two or more."""
    return math.ceil(samples / hop) + 1


def stft(waveforms: Tensor, fft: int, hop: int) -> Tensor:
    """Return spectra (B, T, F), complex, of waveforms (B, N); F is `fft` / 2 + 1.

    Frame t is centred on sample t `hop`; beyond both ends there is silence. The window is the root
    of Hann's: with `hop` = `fft` / 2, its squares add up to one, so that `istft` of any change of
    the spectra is the nearest waveform (Griffin and Lim, IEEE TASSP 32(2), 1984, equation 6).
    """
    leading, samples = waveforms.shape[:-1], waveforms.shape[-1]
    after = (frame_count(samples, hop) - 1) * hop - samples + fft // 2
    padded = F.pad(waveforms.reshape(-1, samples), (fft // 2, after))
    spectra = torch.stft(
        padded, fft, hop, window=_window(fft, waveforms), center=False, return_complex=True
    )
    return spectra.transpose(1, 2).reshape(*leading, -1, fft // 2 + 1)


def istft(spectra: Tensor, samples: int, fft: int, hop: int) -> Tensor:
    """Return the waveforms (B, N) of spectra (B, T, F) that `stft` made of `samples` samples."""
    leading, bins = spectra.shape[:-2], spectra.shape[-2:]
    waveforms = torch.istft(
        spectra.reshape(-1, *bins).transpose(1, 2),
        fft,
        hop,
        window=_window(fft, spectra.real),
        center=True,
        length=samples,
    )
    return waveforms.reshape(*leading, samples)


def power(spectra: Tensor) -> Tensor:
    """Return the squared magnitudes of spectra; PyTorch's `abs` takes ten times as long."""
    if not spectra.is_complex():
        return spectra.square()
    return spectra.real.square() + spectra.imag.square()


def _window(fft: int, like: Tensor) -> Tensor:
    return torch.hann_window(fft, dtype=like.dtype, device=like.device).sqrt()
