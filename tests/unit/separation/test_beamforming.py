"""Beams against torchaudio's, and what MVDR and Wiener's filter promise."""

from typing import Literal

import pytest
import torch
import torchaudio.functional as F
from torch import Tensor

from wavlm_meeting.separation.beamforming import (
    FLOOR,
    beamform,
    covariances,
    mvdr_weights,
    wiener_weights,
)

# B batch, C microphones, J talkers, T frames, F bins


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Draw complex noise."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.complex64, generator=generator)


def draw_masks(*shape: int, seed: int = 1) -> Tensor:
    """Draw masks that sum to one over the dimension before the last two."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).mul(3).softmax(dim=-3)


@pytest.mark.parametrize("channels", [1, 2, 7])
@pytest.mark.parametrize("level", [1e-3, 1.0])
def test_covariances_and_weights_are_torchaudios(channels: int, level: float) -> None:
    """Masked covariances, Souden's weights and the beams are torchaudio's, to 1e-4."""
    spectra = level * draw(2, channels, 60, 9)
    masks = draw_masks(2, 3, 60, 9)
    theirs = spectra.transpose(2, 3)  # (B, C, F, T)
    found = covariances(spectra, masks)
    for talker in range(2):
        other = masks.sum(dim=1) - masks[:, talker]
        target = F.psd(theirs, masks[:, talker].transpose(1, 2))
        interference = F.psd(theirs, other.transpose(1, 2))
        assert torch.allclose(found[:, talker], target, rtol=1e-4, atol=1e-4 * level**2)
        # Doubles, and no floor that stands for the level of another recording.
        weights = F.mvdr_weights_souden(
            target.to(torch.complex128), interference.to(torch.complex128), 0, eps=1e-20
        )
        ours = mvdr_weights(target, interference, 0, 1e-7)
        scale = weights.abs().max()
        assert (ours - weights).abs().max() < 1e-4 * scale + 1e-7 / level**2


def test_beams_are_torchaudios() -> None:
    """MVDR of sums over time and no less interference than FLOOR, applied by torchaudio."""
    spectra, masks = draw(2, 4, 60, 9), draw_masks(2, 3, 60, 9)
    theirs = spectra.transpose(2, 3)
    beams = beamform(spectra, masks, 1, "mvdr", 1e-7)
    for talker in range(2):
        mask = masks[:, talker].transpose(1, 2)
        target = F.psd(theirs, mask, normalize=False).to(torch.complex128)
        floor = FLOOR * target.diagonal(dim1=-2, dim2=-1).mean(dim=-1)
        interference = F.psd(theirs, 1 - mask, normalize=False) + floor[
            ..., None, None
        ] * torch.eye(4)
        weights = F.mvdr_weights_souden(target, interference, 1, eps=1e-20)
        applied = F.apply_beamforming(weights.to(torch.complex64), theirs).transpose(1, 2)
        assert torch.allclose(beams[:, talker], applied, rtol=1e-4, atol=1e-4)


def test_mvdr_keeps_a_lone_talker() -> None:
    """Masks that take a fiftieth of a lone voice for noise cost it less than a decibel."""
    images = draw(4, 1, 9) * draw(200, 9, seed=4) + 0.1 * draw(4, 200, 9, seed=5)
    masks = torch.tensor([0.98, 0.0, 0.02])[:, None, None].expand(3, 200, 9)
    kept = beamform(images, masks, 0, "mvdr")[0].abs().square().sum()
    assert kept > 0.8 * images[0].abs().square().sum()


@pytest.mark.parametrize("reference", [0, 3])
def test_the_target_is_not_distorted(reference: int) -> None:
    """A source of one direction is kept as the reference hears it: w^H d = d_reference."""
    steering, noise = draw(9, 5), draw(9, 5, 40, seed=2)
    target = steering[:, :, None] @ steering[:, None].conj()
    weights = mvdr_weights(target, noise @ noise.mH, reference)
    kept = (weights.conj() * steering).sum(dim=-1)
    assert torch.allclose(kept, steering[:, reference], rtol=1e-4, atol=1e-4)


def test_no_distortionless_beam_lets_less_through() -> None:
    """Of all weights that keep the target, these leave the least interference."""
    steering, noise = draw(9, 5), draw(9, 5, 40, seed=2)
    interference = noise @ noise.mH
    target = steering[:, :, None] @ steering[:, None].conj()
    weights = mvdr_weights(target, interference, 0, 0.0)[..., None]  # (F, C, 1)
    other = draw(9, 5, 1, seed=3)
    direction = steering[..., None]
    other = other - direction @ (direction.mH @ other) / (direction.mH @ direction)
    best = (weights.mH @ interference @ weights).real
    for step in (-0.1, 0.1):
        moved = weights + step * other
        assert ((moved.mH @ interference @ moved).real > best).all()


def test_no_beam_has_a_smaller_error_than_wieners() -> None:
    """E|w^H y - s|^2 of target and interference that are not correlated is at its minimum."""
    target, interference = (each @ each.mH for each in (draw(9, 5, 40), draw(9, 5, 40, seed=2)))
    weights = wiener_weights(target, interference, 1, 0.0)

    def errors(w: Tensor) -> Tensor:
        unit = torch.eye(5)[1].to(w)
        kept, left = (w - unit)[..., None], w[..., None]
        return (kept.mH @ target @ kept + left.mH @ interference @ left).real.flatten()

    for seed in range(4):
        moved = weights + 0.05 * draw(9, 5, seed=seed)
        assert (errors(moved) > errors(weights)).all()


def test_what_has_nothing_beside_it_is_left_alone() -> None:
    """A lone talker whose sound comes from everywhere is what the reference hears."""
    spectra, masks = draw(1, 4, 60, 9), torch.zeros(1, 3, 60, 9)
    masks[:, 0] = 1
    beams = beamform(spectra, masks, 2)
    torch.testing.assert_close(beams[:, 0], spectra[:, 2], atol=1e-3, rtol=1e-3)
    assert not beams[:, 1].any()


def test_one_microphone_has_wieners_gain() -> None:
    """S / (S + N), each the energy under its mask."""
    spectra, masks = draw(1, 1, 60, 9), draw_masks(1, 3, 60, 9)
    energy = (masks * spectra.abs().square()).sum(dim=2)  # (B, J + 1, F)
    gains = energy[:, :2] / energy.sum(dim=1, keepdim=True)
    found = beamform(spectra, masks, 0, loading=0.0)
    torch.testing.assert_close(found, gains[:, :, None] * spectra, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("beam", ["wiener", "mvdr"])
def test_beams_do_not_depend_on_the_level(beam: Literal["wiener", "mvdr"]) -> None:
    """Twice the sound gives twice the beam, whisper or full scale."""
    spectra, masks = draw(1, 4, 60, 9), draw_masks(1, 3, 60, 9)
    beams = beamform(spectra, masks, 0, beam)
    for level in (1e-4, 2.0):
        found = beamform(level * spectra, masks, 0, beam)
        assert torch.allclose(found, level * beams, rtol=1e-3, atol=1e-3 * level)


@pytest.mark.parametrize("beam", ["wiener", "mvdr"])
def test_two_talkers_of_two_directions_are_told_apart(beam: Literal["wiener", "mvdr"]) -> None:
    """With the right masks, errors are 10 dB below the talker, and less than masks alone leave."""
    speech = draw(2, 200, 9, seed=4)
    talks = torch.rand(2, 200, 9, generator=torch.Generator().manual_seed(5)) < 0.6
    speech = speech * talks
    images = draw(2, 4, 1, 9, seed=6) * speech[:, None]  # (J, C, T, F)
    noise = 0.01 * draw(4, 200, 9, seed=7)
    power = torch.cat([images[:, 0], noise[:1]]).abs().square()
    mixture, masks = images.sum(dim=0) + noise, power / power.sum(dim=0)

    def errors(found: Tensor) -> Tensor:
        return (found - images[:, 0]).abs().square().sum(dim=(1, 2))

    beamed = errors(beamform(mixture, masks, 0, beam))
    assert (beamed < 0.1 * errors(torch.zeros(()))).all()
    assert (beamed < errors(masks[:2] * mixture[0])).all()


@pytest.mark.parametrize("beam", ["wiener", "mvdr"])
def test_silence_gives_silence(beam: Literal["wiener", "mvdr"]) -> None:
    """All-zero spectra, and masks of zero, give zeros and no NaN."""
    silent = torch.zeros(1, 3, 20, 9, dtype=torch.complex64)
    assert not beamform(silent, draw_masks(1, 3, 20, 9), 0, beam).any()
    masks = torch.zeros(1, 3, 20, 9)
    masks[:, 2] = 1
    assert not beamform(draw(1, 3, 20, 9), masks, 0, beam).any()
    alone = torch.zeros(1, 3, 20, 9)
    alone[:, 0] = 1
    assert beamform(draw(1, 3, 20, 9), alone, 0, beam).isfinite().all()
