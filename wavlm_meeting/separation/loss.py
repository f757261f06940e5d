"""What the separation head is trained for.

The order of the talkers is free, the same for a whole window (utterance-level permutation-invariant
training: Kolbaek et al., IEEE/ACM TASLP 25(10), 2017); Asteroid finds the best one. Noise has its
own place outside of it. The level of a window has no influence on any loss.

B batch, J talkers, K estimates, R references, T frames, F bins.
"""

import torch
from asteroid.losses import PITLossWrapper
from torch import Tensor

from wavlm_meeting.separation.spectra import power

THRESHOLD = 1e-3
"""Error, as a share of the reference, below which nothing more is gained: 30 dB."""
HEARD = 0.05
"""Share of a window's speech from which on a talker is rated beside the other."""


def magnitude_losses(
    masks: Tensor, mixture: Tensor, images: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Mean squared errors of masked magnitudes: of the talkers, and of noise.

    `masks` (B, J + 1, T, F); spectra of `mixture` and `noise` (B, T, F), of the talkers' `images`
    (B, J, T, F). Errors are relative to the mixture's mean square. Source: WavLM paper (arXiv
    2110.13900), section V-C, after Chen et al. (arXiv 2008.05773).
    """
    references = power(torch.cat([images, noise[:, None]], dim=1)).sqrt()
    errors = pairwise_errors(masks, power(mixture).sqrt(), references)
    whole = power(mixture).sum(dim=(1, 2))
    pairs = errors / _above_zero(whole)[:, None, None]
    talkers = pairs[:, :-1, :-1]
    return PITLossWrapper.find_best_perm(talkers)[0].mean(), pairs[:, -1, -1].mean()


def sdr_losses(
    masks: Tensor, mixture: Tensor, images: Tensor, noise: Tensor
) -> tuple[Tensor, Tensor]:
    """Negative signal-to-distortion ratios in dB: of the talkers, and of noise.

    Parameters as above. Where both talkers are heard, it is the mean of their ratios. A ratio of
    its own has no meaning for one who is silent, and makes the quiet there weigh more than
    anybody's speech; the ratio of the sums over talkers (SA-SDR) does neither and stands for it
    where one of them is below HEARD. Levels count: tracks keep that of what is heard. Distortion is
    that of the complex spectra: where the squared windows of `stft` add up to one, that of the
    waveforms is not larger, and a reference has the same energy in both. Source: von Neumann et
    al., "SA-SDR: a novel loss function for separation of meeting style data" (ICASSP 2022, arXiv
    2110.15581).
    """
    references = torch.cat([images, noise[:, None]], dim=1)
    errors = pairwise_errors(masks, mixture, references)
    energy, whole = power(references).sum(dim=(2, 3)), power(mixture).sum(dim=(1, 2))
    said, pairs = energy[:, :-1], errors[:, :-1, :-1]
    ratios = distortion(pairs.permute(1, 2, 0), said.T, whole).permute(2, 0, 1)
    each, _ = PITLossWrapper.find_best_perm(ratios)  # (B,)
    together, _ = PITLossWrapper.find_best_perm(
        pairs, perm_reduce=lambda tried: distortion(tried.sum(dim=-1).T, said.sum(dim=1), whole).T
    )
    both = (said > HEARD * said.sum(dim=1, keepdim=True)).all(dim=1)
    talkers = torch.where(both, each, together).mean()
    return talkers, distortion(errors[:, -1, -1], energy[:, -1], whole).mean()


def pairwise_errors(masks: Tensor, mixture: Tensor, references: Tensor) -> Tensor:
    """Return the squared error (B, K, R) of each masked mixture and each reference.

    `masks` (B, K, T, F), `mixture` (B, T, F) and `references` (B, R, T, F), real or complex. It is
    the sum over frames and bins of |m x - s|^2 = m^2 |x|^2 - 2 m Re(x s*) + |s|^2, where a pair has
    the middle term alone in common: a product of matrices.
    """
    own = (masks.square() * power(mixture)[:, None]).sum(dim=(2, 3))  # (B, K)
    mixed = torch.real(mixture[:, None] * references.conj())  # (B, R, T, F)
    common = masks.flatten(2) @ mixed.flatten(2).transpose(1, 2)  # (B, K, R)
    energy = power(references).sum(dim=(2, 3))  # (B, R)
    return (own[:, :, None] - 2 * common + energy[:, None]).clamp(min=0)


def distortion(errors: Tensor, energy: Tensor, whole: Tensor) -> Tensor:
    """Return errors (..., B) in dB, relative to the `energy` (B,) of what they are errors of.

    10 log10(error / energy + THRESHOLD): nothing falls below -30 dB. Where the reference is all but
    silent beside the `whole` (B,) mixture, the error is relative to that: it is to be quiet.
    Thresholds are those of Wisdom et al., "What's all the fuss about free universal sound
    separation data?" (ICASSP 2021, arXiv 2011.00803), section 3.
    """
    relative_to = torch.where(energy > THRESHOLD * whole, energy, whole)
    return 10 * (errors / _above_zero(relative_to) + THRESHOLD).log10()


def _above_zero(energy: Tensor) -> Tensor:
    return energy.clamp(min=torch.finfo(energy.dtype).tiny)
