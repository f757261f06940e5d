"""The objective of separation against its slow, obvious forms and Asteroid's."""

from itertools import permutations

import pytest
import torch

pytest.importorskip("asteroid", reason="training needs the extra 'train'")

from asteroid.losses import PairwiseNegSDR

from wavlm_meeting.separation.loss import (
    HEARD,
    THRESHOLD,
    distortion,
    magnitude_losses,
    pairwise_errors,
    sdr_losses,
)
from wavlm_meeting.separation.spectra import istft, stft

FFT, HOP, N = 64, 32, 2000


def scene(
    seed: int = 0, quieter: float = 0.4
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give masks, and waveforms of the mixture, two talkers of unlike levels, and noise."""
    torch.manual_seed(seed)
    images = torch.randn(3, 2, N, dtype=torch.float64) * torch.tensor([1.0, quieter])[:, None]
    noise = 0.1 * torch.randn(3, N, dtype=torch.float64)
    mixture = images.sum(dim=1) + noise
    masks = torch.rand(3, 3, *stft(mixture, FFT, HOP).shape[1:], dtype=torch.float64)
    return masks, mixture, images, noise


def spectra_of(*waveforms: torch.Tensor) -> list[torch.Tensor]:
    """Return their spectra."""
    return [stft(each, FFT, HOP) for each in waveforms]


def test_pairs_are_those_of_the_formula() -> None:
    """|m x - s|^2, summed, for every pair; of magnitudes too."""
    masks, *waveforms = scene()
    mixture, images, _ = spectra_of(*waveforms)
    for x, s in ((mixture, images), (mixture.abs(), images.abs())):
        found = pairwise_errors(masks, x, s)
        assert found.shape == (3, 3, 2)
        for k in range(3):
            for r in range(2):
                slow = (masks[:, k] * x - s[:, r]).abs().square().sum(dim=(1, 2))
                torch.testing.assert_close(found[:, k, r], slow)


def test_the_best_order_is_found_by_trying_all() -> None:
    """Each window takes its own best order of both talkers; noise stands outside."""
    masks, *waveforms = scene()
    mixture, images, noise = spectra_of(*waveforms)
    talkers, of_noise = magnitude_losses(masks, mixture, images, noise)
    whole = mixture.abs().square().sum(dim=(1, 2))
    tried = torch.stack(
        [
            ((masks[:, order] * mixture.abs()[:, None] - images.abs()) ** 2).sum(dim=(2, 3))
            / whole[:, None]
            for order in permutations(range(2))
        ]
    )  # (orders, B, J)
    torch.testing.assert_close(talkers, tried.mean(dim=2).min(dim=0).values.mean())
    slow = ((masks[:, 2] * mixture.abs() - noise.abs()) ** 2).sum(dim=(1, 2)) / whole
    torch.testing.assert_close(of_noise, slow.mean())


@pytest.mark.parametrize("quieter", [0.4, 0.1])
def test_ratios_are_those_of_waveforms(quieter: float) -> None:
    """Two who are heard have the mean of their ratios, Asteroid's; else it is that of the sums."""
    _, mixture, images, noise = scene(quieter=quieter)
    # Masks that are one number scale the mixture, in its spectrum as in its waveform.
    shares = torch.tensor([0.7, 0.3, 0.1], dtype=torch.float64)[:, None, None]
    masks = shares.expand(3, 3, *stft(mixture, FFT, HOP).shape[1:])
    talkers, of_noise = sdr_losses(masks, *spectra_of(mixture, images, noise))
    ratio = PairwiseNegSDR("snr", zero_mean=False)
    tried = []
    for order in permutations(range(2)):
        estimates = shares[list(order), 0] * mixture[:, None]
        if quieter**2 > HEARD:
            tried.append(ratio(estimates, images).diagonal(dim1=1, dim2=2).mean(dim=1))
        else:
            errors = (estimates - images).square().sum(dim=(1, 2))
            tried.append(10 * (errors / images.square().sum(dim=(1, 2))).log10())
    slow = torch.stack(tried).min(dim=0).values.mean().item()
    # The waveform counts all bins but the outermost twice: nearly the same.
    assert talkers.item() == pytest.approx(slow, abs=0.1)
    asteroids = ratio(0.1 * mixture[:, None], noise[:, None]).mean().item()
    assert of_noise.item() == pytest.approx(asteroids, abs=0.1)


def test_waveforms_are_not_further_away_than_spectra() -> None:
    """Going back to a waveform takes away what no waveform has: the error can only fall."""
    masks, mixture, images, _ = scene()
    spectrum = stft(mixture, FFT, HOP)
    estimates = istft(masks[:, :2] * spectrum[:, None], N, FFT, HOP)
    both_sides = torch.full((FFT // 2 + 1,), 2.0, dtype=torch.float64)
    both_sides[[0, -1]] = 1.0
    errors = (masks[:, :2] * spectrum[:, None] - stft(images, FFT, HOP)).abs().square()
    in_spectra = (errors * both_sides).sum(dim=(2, 3)) / FFT
    assert ((estimates - images).square().sum(dim=-1) <= in_spectra + 1e-9).all()


def test_a_silent_reference_is_to_be_quiet() -> None:
    """What stands for silence costs what it has of the mixture; all ends at -30 dB."""
    errors = torch.tensor([[1.0], [0.1], [0.0]])
    silent = distortion(errors, torch.zeros(1), torch.ones(1))[:, 0]
    wanted = [10 * torch.tensor(e + THRESHOLD).log10().item() for e in (1.0, 0.1, 0.0)]
    assert silent.tolist() == pytest.approx(wanted, abs=1e-4)
    talking = distortion(errors, torch.full((1,), 0.5), torch.ones(1))[:, 0]
    assert talking[0] == pytest.approx(10 * torch.tensor(2.0 + THRESHOLD).log10().item())
    assert talking[2] == pytest.approx(-30.0, abs=1e-3)


def test_a_lone_talker_weighs_what_they_say() -> None:
    """Leaving half of a lone voice on the second track costs as much as losing that half."""
    masks, *waveforms = scene()
    mixture, images, noise = spectra_of(*waveforms)
    images = torch.stack([images[:, 0], torch.zeros_like(images[:, 0])], dim=1)
    mixture, noise = images[:, 0], torch.zeros_like(noise)

    def talkers(first: float, second: float) -> float:
        shares = torch.tensor([first, second, 0.0], dtype=torch.float64)[:, None, None]
        return sdr_losses(shares.expand_as(masks), mixture, images, noise)[0].item()

    assert talkers(1.0, 0.5) == pytest.approx(talkers(0.5, 0.0))
    assert talkers(0.0, 1.0) == pytest.approx(talkers(1.0, 0.0)) == pytest.approx(-30.0)
