"""Laws of utterance mixing (Algorithm 1): what is drawn is what is heard, and nothing else."""

from dataclasses import replace

import pytest
import torch

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.mixing import (
    MixingPlan,
    MixingSettings,
    draw_mixing,
    mean_energy,
    mix,
)

SAMPLES = 8000
ALWAYS = MixingSettings(probability=1.0)


def batch(rows: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Give utterances of different lengths and levels, zero padded, and their lengths."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(SAMPLES // 2, SAMPLES + 1, (rows,), generator=generator)
    lengths[0] = SAMPLES
    waveforms = torch.randn(rows, SAMPLES, generator=generator)
    waveforms *= torch.logspace(-2, 0, rows)[:, None]
    return waveforms * (torch.arange(SAMPLES) < lengths[:, None]), lengths


def noises() -> tuple[torch.Tensor, torch.Tensor]:
    """Give two noises, one of them shorter than half an utterance."""
    lengths = torch.tensor([12_000, 900])
    waveforms = torch.randn(2, 12_000, generator=torch.Generator().manual_seed(9))
    return waveforms * (torch.arange(12_000) < lengths[:, None]), lengths


def both(seed: int, rows: int = 40) -> tuple[MixingPlan, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Give a plan with voices and noises, the clean batch, its lengths and the mixture."""
    settings = MixingSettings(probability=0.7, noise_probability=0.4)
    waveforms, lengths = batch(rows, seed)
    noise, noise_lengths = noises()
    generator = torch.Generator().manual_seed(seed)
    plan = draw_mixing(lengths, settings, noise_lengths, generator)
    return plan, waveforms, lengths, mix(waveforms, lengths, plan, noise, noise_lengths)


@pytest.mark.parametrize("seed", range(5))
def test_the_primary_is_untouched_outside_of_the_span(seed: int) -> None:
    """Bit by bit: before, after, in the padding, and whole where nothing is mixed."""
    plan, clean, lengths, mixture = both(seed)
    assert plan.mixed.any()
    assert not plan.mixed.all()
    for row in range(len(clean)):
        touched = torch.zeros(SAMPLES, dtype=torch.bool)
        if plan.mixed[row]:
            end = int(plan.start[row] + plan.size[row])
            assert 0 < plan.size[row] <= lengths[row] / 2
            assert end <= lengths[row]
            touched[int(plan.start[row]) : end] = True
            assert not mixture[row][touched].equal(clean[row][touched])
        assert mixture[row][~touched].equal(clean[row][~touched])


@pytest.mark.parametrize("seed", range(5))
def test_what_is_added_is_the_partner_at_the_drawn_ratio(seed: int) -> None:
    """The span holds a piece of the clean partner, scaled to the drawn ratio of mean energies."""
    plan, clean, lengths, mixture = both(seed)
    noise, noise_lengths = noises()
    for row in plan.mixed.nonzero().flatten().tolist():
        partner = int(plan.partner[row])
        source, valid = (
            (noise[partner], noise_lengths[partner])
            if plan.with_noise[row]
            else (clean[partner], lengths[partner])
        )
        start, begin, size = (int(part[row]) for part in (plan.start, plan.begin, plan.size))
        assert begin + size <= valid
        added = (mixture - clean)[row, start : start + size]
        piece = source[begin : begin + size]
        scale = float((added @ piece) / (piece @ piece))
        assert torch.allclose(added, scale * piece, atol=1e-5)
        below = mean_energy(scale * source[None, :valid], valid[None])
        ratio = 10 * torch.log10(mean_energy(clean[row : row + 1], lengths[row : row + 1]) / below)
        assert ratio.item() == pytest.approx(plan.ratio_db[row].item(), abs=0.01)


def test_frequencies_and_ranges_are_those_of_the_settings() -> None:
    """Shares within four standard errors; ratios fill their ranges and do not leave them."""
    settings = MixingSettings(probability=0.2, noise_probability=0.1)
    count = 20_000
    lengths, noise_lengths = torch.full((count,), 100), torch.tensor([80, 300])
    plan = draw_mixing(lengths, settings, noise_lengths, torch.Generator().manual_seed(0))
    mixed = int(plan.mixed.sum())
    assert abs(mixed / count - 0.2) < 4 * (0.2 * 0.8 / count) ** 0.5
    noisy = plan.with_noise[plan.mixed].double().mean().item()
    assert abs(noisy - 0.1) < 4 * (0.1 * 0.9 / mixed) ** 0.5
    for rows, (low, high) in ((plan.with_noise, (-5, 20)), (~plan.with_noise, (-5, 5))):
        ratio = plan.ratio_db[rows]
        assert low <= ratio.min() < low + 0.2
        assert high - 0.2 < ratio.max() <= high
        assert ratio.mean().item() == pytest.approx((low + high) / 2, abs=0.5)
    assert set(plan.size.tolist()) == set(range(1, 51))
    assert set(plan.partner[plan.with_noise].tolist()) == {0, 1}


def test_nobody_is_their_own_partner_and_everybody_else_is() -> None:
    """In a batch of four each of the three others comes up as often."""
    counts = torch.zeros(4, 4)
    for seed in range(900):
        generator = torch.Generator().manual_seed(seed)
        plan = draw_mixing(torch.full((4,), 100), ALWAYS, generator=generator)
        counts[torch.arange(4), plan.partner] += 1
    assert (counts.diagonal() == 0).all()
    others = counts[~torch.eye(4, dtype=torch.bool)]
    assert (others / 900 - 1 / 3).abs().max() < 5 * (2 / 9 / 900) ** 0.5


def test_partners_are_clean_even_where_they_are_mixed_themselves() -> None:
    """A chain of partners adds one voice to each, not two."""
    waveforms, lengths = batch(3)
    plan = draw_mixing(lengths, ALWAYS, generator=torch.Generator().manual_seed(1))
    alone = [
        mix(waveforms, lengths, replace(plan, mixed=torch.arange(3) == row))[row]
        for row in range(3)
    ]
    assert mix(waveforms, lengths, plan).equal(torch.stack(alone))


def test_edges() -> None:
    """One utterance has no partner; silence mixes to silence; noise must exist if it is wanted."""
    lengths = torch.tensor([SAMPLES])
    assert not draw_mixing(lengths, ALWAYS).mixed.any()
    waveforms, lengths = batch(4)
    waveforms[2] = 0.0
    plan = draw_mixing(lengths, ALWAYS, generator=torch.Generator().manual_seed(3))
    mixture = mix(waveforms, lengths, plan)
    assert mixture.isfinite().all()
    assert not mixture[2].any()
    with pytest.raises(SettingsError, match="noise set"):
        draw_mixing(lengths, MixingSettings(noise_probability=0.1))


def test_off_is_off() -> None:
    """With probability 0 the batch comes back bit by bit: the HuBERT objective."""
    waveforms, lengths = batch(6)
    plan = draw_mixing(lengths, MixingSettings(probability=0.0))
    assert mix(waveforms, lengths, plan).equal(waveforms)
