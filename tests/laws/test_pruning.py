"""A pruned encoder is the gated one with gates of 0 and 1, and has the parameters counted."""

import pytest
import torch
from torch import Tensor

from wavlm_meeting.compression.gated import gated_states, weighted_norm
from wavlm_meeting.compression.groups import Groups, count_parameters, group_sizes
from wavlm_meeting.compression.pruning import Kept, folded, prune, pruned_config
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

GROUP = WavLMConfig(
    conv_layers=((16, 10, 5), (24, 8, 8), (20, 8, 8)),
    width=32,
    layers=3,
    heads=4,
    ffn=40,
    position_kernel=16,
    position_groups=4,
)
CONFIGS = {
    "base": GROUP,
    "large": GROUP.model_copy(
        update={"frontend_norm": "layer", "pre_norm": True, "normalize_waveform": True}
    ),
    "plain bias": GROUP.model_copy(update={"position_bias": "plain"}),
    "hubert": GROUP.model_copy(update={"position_bias": "none"}),
    "one convolution": GROUP.model_copy(update={"conv_layers": ((16, 400, 320),)}),
}
LENGTHS = torch.tensor([16_000, 11_000])


def draw_encoder(config: WavLMConfig) -> WavLM:
    """Return an encoder in which every parameter matters."""
    torch.manual_seed(4)
    encoder = WavLM(config).eval()
    with torch.no_grad():
        for parameter in encoder.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return encoder


def draw_kept(config: WavLMConfig, seed: int = 0) -> Kept:
    """Draw at least one unit of each group."""
    generator = torch.Generator().manual_seed(seed)

    def some(size: int) -> list[int]:
        count = int(torch.randint(1, size + 1, (), generator=generator))
        return sorted(torch.randperm(size, generator=generator)[:count].tolist())

    return group_sizes(config).map(some)


def as_gates(config: WavLMConfig, kept: Kept) -> Groups[Tensor]:
    """Return gates of 1 for what is kept, else 0."""
    return Groups(
        *(
            tuple(
                torch.zeros(size).index_fill(0, torch.tensor(units), 1.0)
                for size, units in zip(own_sizes, own_kept, strict=True)
            )
            for own_sizes, own_kept in zip(group_sizes(config), kept, strict=True)
        )
    )


def draw_waveforms() -> Tensor:
    """Draw two utterances, the second of them padded."""
    waveforms = torch.randn(2, 16_000, generator=torch.Generator().manual_seed(1))
    waveforms[1, LENGTHS[1] :] = 0
    return waveforms


def assert_same_states(
    found: tuple[Tensor, ...], expected: tuple[Tensor, ...], frames: Tensor
) -> None:
    """Compare valid frames of all hidden states."""
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        for row, count in enumerate(frames.tolist()):
            torch.testing.assert_close(ours[row, :count], theirs[row, :count], atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize("name", CONFIGS)
@torch.no_grad()
def test_pruned_is_gated(name: str) -> None:
    """What is taken out is what a gate of 0 shuts, in all hidden states; gates of 1 do nothing."""
    config, waveforms = CONFIGS[name], draw_waveforms()
    encoder = draw_encoder(config)
    whole = encoder(waveforms, LENGTHS)
    open_gates = group_sizes(config).map(torch.ones)
    states = gated_states(encoder, open_gates, waveforms, LENGTHS)
    assert_same_states(states, whole.hidden_states, whole.frame_lengths)
    for seed in range(3):
        kept = draw_kept(config, seed)
        gated = gated_states(encoder, as_gates(config, kept), waveforms, LENGTHS)
        pruned = prune(encoder, kept)(waveforms, LENGTHS)
        assert_same_states(pruned.hidden_states, gated, pruned.frame_lengths)
        if kept.map(len) != group_sizes(config):
            assert not torch.allclose(gated[-1][0], whole.hidden_states[-1][0], atol=1e-2)


@pytest.mark.parametrize("name", CONFIGS)
def test_parameters_are_counted_exactly(name: str) -> None:
    """The formula gives what there is, of the whole and of what is left; heads keep their names."""
    config = CONFIGS[name]
    encoder = draw_encoder(config)
    kept = draw_kept(config, 1)
    pruned = prune(encoder, kept)
    for module, counts in ((encoder, group_sizes(config)), (pruned, kept.map(len))):
        there = sum(parameter.numel() for parameter in module.parameters())
        assert count_parameters(config, counts) == there
        assert count_parameters(module.config, group_sizes(module.config)) == there
    assert pruned.state_dict().keys() == encoder.state_dict().keys()


@torch.no_grad()
def test_pruning_twice_is_pruning_once() -> None:
    """Of a pruned encoder more can go: heads are those of the first, whatever their places."""
    encoder = draw_encoder(GROUP)
    first = Groups(
        ((0, 2, 5), (1, 4), (3, 6, 7)), ((1, 3), (0, 2, 3), (2,)), ((5, 9), (1,), (0, 8))
    )
    second = Groups(((1, 2), (0, 1), (0, 2)), ((1,), (0, 2), (0,)), ((1,), (0,), (0, 1)))
    both = Groups(((2, 5), (1, 4), (3, 7)), ((3,), (0, 3), (2,)), ((9,), (1,), (0, 8)))
    twice, once = prune(prune(encoder, first), second), prune(encoder, both)
    assert twice.config == once.config
    assert twice.config.layer_heads == ((3,), (0, 3), (2,))
    for name, tensor in once.state_dict().items():
        assert torch.equal(tensor, twice.state_dict()[name]), name


@pytest.mark.parametrize("attention", ["dense", "blockwise"])
@torch.no_grad()
def test_every_way_to_attend_takes_pruned_heads(attention: str) -> None:
    """The bias of the heads that are left is theirs, however it is added."""
    encoder = draw_encoder(GROUP)
    kept = draw_kept(GROUP, 2)
    encoder.attention = attention  # type: ignore[assignment]
    pruned = prune(encoder, kept)
    assert pruned.attention == attention
    waveforms = draw_waveforms()
    gated = gated_states(encoder, as_gates(GROUP, kept), waveforms, LENGTHS)
    found = pruned(waveforms, LENGTHS)
    assert_same_states(found.hidden_states, gated, found.frame_lengths)


@torch.no_grad()
def test_factors_fold_into_weights() -> None:
    """A gate between 0 and 1 scales what its head or inner channel gives, and so do weights."""
    encoder, waveforms = draw_encoder(GROUP), draw_waveforms()
    gates = group_sizes(GROUP).map(lambda size: torch.linspace(0.1, 1.0, size))
    gates = gates._replace(channels=group_sizes(GROUP).map(torch.ones).channels)
    before = encoder.state_dict()["layers.0.ffn.down.weight"].clone()
    found = folded(encoder, gates)(waveforms, LENGTHS)
    expected = gated_states(encoder, gates, waveforms, LENGTHS)
    assert_same_states(found.hidden_states, expected, found.frame_lengths)
    assert torch.equal(encoder.state_dict()["layers.0.ffn.down.weight"], before)


def test_a_norm_with_weights() -> None:
    """Whole weights count a channel that often; shut gates give finite numbers and gradients."""
    x = torch.randn(1, 5, 3, generator=torch.Generator().manual_seed(3))
    norm = torch.nn.LayerNorm(3)
    repeated = torch.nn.functional.layer_norm(x[..., [0, 1, 1, 2, 2, 2]], (6,))[..., [0, 1, 3]]
    torch.testing.assert_close(weighted_norm(x, norm, torch.tensor([1.0, 2.0, 3.0])), repeated)
    shut = torch.zeros(3, requires_grad=True)
    y = weighted_norm(x, norm, shut)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert shut.grad is not None
    assert shut.grad.isfinite().all()


@pytest.mark.parametrize("wrong", [(), (1, 0), (0, 0), (0, 4), (-1,)])
def test_units_that_cannot_be_kept(wrong: tuple[int, ...]) -> None:
    """None, twice the same, out of order, or one that is not there: one line."""
    heads = (wrong, *group_sizes(GROUP).map(lambda size: tuple(range(size))).heads[1:])
    kept = group_sizes(GROUP).map(lambda size: tuple(range(size)))._replace(heads=heads)
    with pytest.raises(SettingsError, match="of 4 units these cannot be kept"):
        pruned_config(GROUP, kept)
