"""Spectra: nothing is lost on the way there and back, and energy is the same on both sides."""

import numpy as np
import pytest
import torch

from wavlm_meeting.separation.spectra import frame_count, istft, power, stft


@pytest.mark.parametrize("samples", [1, 5, 255, 256, 257, 1000, 4096])
@pytest.mark.parametrize(("fft", "hop"), [(512, 256), (400, 100), (64, 20)])
def test_there_and_back(samples: int, fft: int, hop: int) -> None:
    """Any length comes back exactly, with leading dimensions of any number."""
    waveforms = torch.randn(2, 3, samples, dtype=torch.float64)
    spectra = stft(waveforms, fft, hop)
    assert spectra.shape == (2, 3, frame_count(samples, hop), fft // 2 + 1)
    again = istft(spectra, samples, fft, hop)
    torch.testing.assert_close(again, waveforms, rtol=0, atol=1e-12)


def test_frames_are_centred_on_multiples_of_the_hop() -> None:
    """A frame is the Fourier transform of what lies around its centre, under the root of Hann."""
    wave = torch.randn(2000, dtype=torch.float64)
    window = np.sqrt(0.5 - 0.5 * np.cos(2 * np.pi * np.arange(512) / 512))
    piece = np.pad(wave.numpy(), 256)[3 * 256 : 3 * 256 + 512]
    np.testing.assert_allclose(stft(wave, 512, 256)[3], np.fft.rfft(window * piece), atol=1e-10)


def test_energy_is_the_same_on_both_sides() -> None:
    """With half of the window as hop the frame is tight: Parseval holds, and masks cannot add."""
    wave = torch.randn(4000, dtype=torch.float64)
    spectra = stft(wave, 512, 256)
    both_sides = torch.full((257,), 2.0, dtype=torch.float64)
    both_sides[[0, -1]] = 1.0  # the bins that have no mirror image

    def energy(x: torch.Tensor) -> float:
        return float((power(x) * both_sides).sum() / 512)

    assert energy(spectra) == pytest.approx(float(wave.square().sum()))
    masked = spectra * torch.rand(spectra.shape, dtype=torch.float64)
    assert float(istft(masked, 4000, 512, 256).square().sum()) <= energy(masked)


def test_power_is_the_squared_magnitude() -> None:
    """Of complex and of real numbers."""
    spectra = torch.randn(3, 5, dtype=torch.complex64)
    torch.testing.assert_close(power(spectra), spectra.abs().square())
    torch.testing.assert_close(power(spectra.abs()), spectra.abs().square())
