"""Which units stay: the likeliest ones, as many as the target asks for."""

import pytest
import torch

from wavlm_meeting.compression.groups import Groups, count_parameters, group_sizes, in_groups
from wavlm_meeting.compression.selection import choose_kept, least_parameters
from wavlm_meeting.wavlm.config import WavLMConfig

CONFIG = WavLMConfig(
    conv_layers=((40, 10, 5), (32, 8, 8)),
    frontend_norm="layer",
    width=64,
    layers=3,
    heads=8,
    ffn=128,
    position_kernel=8,
    position_groups=8,
)


def draw_scores() -> Groups[torch.Tensor]:
    """Draw a score for each unit."""
    generator = torch.Generator().manual_seed(5)
    return group_sizes(CONFIG).map(lambda size: torch.randn(size, generator=generator))


@pytest.mark.parametrize("share", [0.3, 0.5, 0.75, 0.98])
def test_the_target_is_met_as_nearly_as_units_allow(share: float) -> None:
    """One unit more or less would be no nearer, and none that went is likelier than one kept."""
    scores = draw_scores()
    whole = count_parameters(CONFIG, group_sizes(CONFIG))
    target = round(share * whole)
    kept = choose_kept(CONFIG, scores, target)
    missed = abs(count_parameters(CONFIG, kept.map(len)) - target)
    assert missed < 0.01 * whole
    stay, gone = [], []
    for number, (own, units) in enumerate(zip(scores.each(), kept.each(), strict=True)):
        best = int(own.argmax())
        assert best in units
        stay += [(float(own[n]), number, n) for n in units if n != best]
        gone += [(float(own[n]), number, n) for n in range(len(own)) if n not in units]
    assert min(stay) > max(gone)
    for change, (_, number, _) in ((-1, min(stay)), (1, max(gone))):
        counts = [len(own) for own in kept.each()]
        counts[number] += change
        other = count_parameters(CONFIG, in_groups(CONFIG, counts))
        assert abs(other - target) >= missed


def test_the_ends() -> None:
    """A target out of reach leaves one unit in each group; the whole size leaves everything."""
    scores = draw_scores()
    few = choose_kept(CONFIG, scores, 1)
    assert all(len(own) == 1 for own in few.each())
    assert count_parameters(CONFIG, few.map(len)) == least_parameters(CONFIG)
    assert choose_kept(CONFIG, scores, 10**9).map(len) == group_sizes(CONFIG)
