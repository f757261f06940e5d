"""Utterance mixing: a second voice or noise is laid under part of an utterance.

Algorithm 1 of arXiv 2110.13900, as a plan that holds everything random and a pure function. Unlike
the released code, which walks through the batch and changes it on the way, partners come from the
clean batch and nobody is mixed with themselves.

B batch, N samples, K noises, M samples of a noise.
"""

from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import SettingsError


class MixingSettings(Settings):
    """How often and how loud."""

    probability: float = Field(0.2, ge=0, le=1)
    """Probability that an utterance is mixed; 0 makes the objective HuBERT's."""
    noise_probability: float = Field(0.0, ge=0, le=1)
    """Probability that it is mixed with noise if it is mixed (0 for Base, 0.1 for Base+, Large)."""
    energy_ratio_db: tuple[float, float] = (-5.0, 5.0)
    """Energy of the utterance over that of the other voice (uniform)."""
    snr_db: tuple[float, float] = (-5.0, 20.0)
    """Energy of the utterance over that of the noise (uniform)."""
    longest: float = Field(0.5, gt=0, le=0.5)
    """Longest share of an utterance that is mixed; within half, the labels stay its own."""


@dataclass(frozen=True)
class MixingPlan:
    """All that is random about the mixing of a batch; every tensor is (B,)."""

    mixed: Tensor
    """Whether an utterance is mixed at all."""
    with_noise: Tensor
    """Whether its partner is a noise and no other utterance of the batch."""
    partner: Tensor
    """Row of the partner, among the utterances or among the noises."""
    ratio_db: Tensor
    """Energy of the utterance over that of the partner, each over its whole length."""
    size: Tensor
    """Samples that are mixed."""
    begin: Tensor
    """First sample of the partner that is heard."""
    start: Tensor
    """Sample of the utterance at which it is heard."""


def draw_mixing(
    lengths: Tensor,
    settings: MixingSettings,
    noise_lengths: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> MixingPlan:
    """Draw a plan for utterances of `lengths` (B,) samples and noises of `noise_lengths` (K,).

    A batch of one utterance is mixed with noise or not at all. Raises SettingsError if noise is
    wanted and none is given.
    """
    batch, device = len(lengths), lengths.device
    noises = 0 if noise_lengths is None else len(noise_lengths)
    if settings.noise_probability > 0 and settings.probability > 0 and not noises:
        raise SettingsError(
            "noise_probability is above 0, but there is no noise: give a noise set."
        )

    def uniform(low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand(batch, generator=generator, device=device)

    def whole(limit: Tensor) -> Tensor:
        """Draw whole numbers from 0 to `limit`, itself included; a product may round up to it."""
        return torch.minimum((uniform() * (limit + 1)).long(), limit)

    mixed = uniform() < settings.probability
    with_noise = uniform() < settings.noise_probability
    other = torch.arange(batch, device=device) + 1 + whole(lengths.new_tensor(max(batch - 2, 0)))
    partner = other % batch
    partner_lengths = lengths[partner]
    if noise_lengths is not None and noises:
        noise = whole(lengths.new_tensor(noises - 1))
        partner = torch.where(with_noise, noise, partner)
        partner_lengths = torch.where(with_noise, noise_lengths[noise], partner_lengths)
    if batch == 1:
        mixed = mixed & with_noise
    ratio_db = torch.where(
        with_noise, uniform(*settings.snr_db), uniform(*settings.energy_ratio_db)
    )
    most = torch.minimum((settings.longest * lengths).long(), partner_lengths)
    size = torch.minimum(1 + whole((most - 1).clamp(min=0)), most)
    return MixingPlan(
        mixed=mixed & (size > 0),
        with_noise=with_noise,
        partner=partner,
        ratio_db=ratio_db,
        size=size,
        begin=whole(partner_lengths - size),
        start=whole(lengths - size),
    )


def mix(
    waveforms: Tensor,
    lengths: Tensor,
    plan: MixingPlan,
    noises: Tensor | None = None,
    noise_lengths: Tensor | None = None,
) -> Tensor:
    """Return (B, N) mixed as planned; what is not mixed stays as it is, bit by bit.

    `waveforms` (B, N) and `noises` (K, M) are zero after `lengths` (B,) and `noise_lengths` (K,).
    """
    energy = mean_energy(waveforms, lengths)
    position = torch.arange(waveforms.shape[1], device=waveforms.device)
    inside = (position >= plan.start[:, None]) & (position < (plan.start + plan.size)[:, None])
    inside &= plan.mixed[:, None]
    source = position - plan.start[:, None] + plan.begin[:, None]  # (B, N) samples of the partner
    spoken = plan.mixed & ~plan.with_noise
    added = torch.zeros_like(waveforms)
    for rows, partners, partner_lengths in (
        (spoken, waveforms, lengths),
        (plan.mixed & plan.with_noise, noises, noise_lengths),
    ):
        if partners is None or partner_lengths is None:
            continue
        chosen = torch.where(rows, plan.partner, 0)
        index = source.clamp(0, partners.shape[1] - 1)
        piece = partners[chosen].gather(1, index)
        below = mean_energy(partners, partner_lengths)[chosen] * 10 ** (plan.ratio_db / 10)
        scale = torch.where(below > 0, (energy / below.clamp(min=1e-30)).sqrt(), 0.0)
        added = torch.where((inside & rows[:, None]), scale[:, None] * piece, added)
    return torch.where(inside, waveforms + added, waveforms)


def mean_energy(waveforms: Tensor, lengths: Tensor) -> Tensor:
    """Return the mean square (B,) of waveforms (B, N) over their `lengths`."""
    return waveforms.square().sum(dim=1) / lengths
