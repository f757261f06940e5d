"""The separation head: masks that know neither level nor padding, features in step with frames."""

from typing import Any

import numpy as np
import pytest
import torch

from wavlm_meeting.separation.model import (
    Features,
    SeparationHead,
    build_head,
    normalized_logarithm,
)
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.separation.spectra import stft
from wavlm_meeting.wavlm.config import WavLMConfig

SIZES: dict[str, Any] = {
    "fft": 64, "hop": 32, "layers": 2, "width": 16, "heads": 2, "ffn": 32, "kernel": 5,
}  # fmt: skip
ENCODER = WavLMConfig(
    conv_layers=((8, 40, 20), (8, 4, 4)), width=12, layers=2, heads=2, ffn=16, position_groups=2
)


def head_of(**changes: Any) -> SeparationHead:
    """Return a small head, ready to run."""
    torch.manual_seed(0)
    return build_head(ENCODER, SeparationSettings(**{**SIZES, **changes})).eval()


def heard(samples: int, batch: int = 2) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Return spectra of noise and hidden states of as many frames as the encoder gives."""
    torch.manual_seed(1)
    spectra = stft(torch.randn(batch, samples), 64, 32)
    frames = ENCODER.frame_count(samples)
    return spectra, [torch.randn(batch, frames, 12) for _ in range(3)]


@pytest.mark.parametrize("subsampling", [1, 2, 3])
@pytest.mark.parametrize("features", [True, False])
def test_a_mask_for_each_frame_and_bin(subsampling: int, features: bool) -> None:
    """Three masks from 0 to 1 for any number of frames, whatever the Conformer's rate."""
    head = head_of(subsampling=subsampling, features=features)
    for samples in (320, 1000, 1003):
        spectra, states = heard(samples)
        masks = head(spectra, states if features else ())
        assert masks.shape == (2, 3, *spectra.shape[1:])
        assert masks.min() >= 0
        assert masks.max() <= 1


def test_level_has_no_influence() -> None:
    """A whisper and a shout of the same are masked alike; magnitudes do as well as spectra."""
    head = head_of()
    spectra, states = heard(1000)
    masks = head(spectra, states)
    for other in (1e-4 * spectra, 1e3 * spectra, spectra.abs()):
        torch.testing.assert_close(head(other, states), masks, rtol=0, atol=1e-5)
    silent = head(torch.zeros_like(spectra), states)
    assert silent.isfinite().all()


@pytest.mark.parametrize("subsampling", [1, 2])
def test_what_lies_after_the_end_has_no_influence(subsampling: int) -> None:
    """Frames past `frame_lengths` may hold anything."""
    head = head_of(subsampling=subsampling)
    spectra, states = heard(1000)
    lengths = torch.tensor([spectra.shape[1], 11])
    masks = head(spectra, states, lengths)
    noisy = spectra.clone()
    noisy[1, 11:] = 50 * torch.randn_like(noisy[1, 11:])
    torch.testing.assert_close(head(noisy, states, lengths)[1, :, :11], masks[1, :, :11])
    alone = head(spectra[:1], [state[:1] for state in states])
    torch.testing.assert_close(masks[:1], alone)


def test_features_are_in_step_with_the_spectrum() -> None:
    """Each channel is interpolated as NumPy does between the centres of the encoder's frames."""
    features = Features(layers=1, width=12, hop=80, field=100)
    features.norm = torch.nn.Identity()  # channels stay what they are
    states = torch.randn(1, 9, 12)
    centres = torch.arange(30) * 32.0
    found = features([states, states], centres)[0].detach()
    known = 80 * np.arange(9) + 49.5
    for channel in range(12):
        wanted = np.interp(centres, known, states[0, :, channel])
        np.testing.assert_allclose(found[:, channel], wanted, atol=1e-5)


def test_a_head_without_features_looks_at_none() -> None:
    """Its masks are those of the spectrum, and it has no weights for an encoder."""
    head = head_of(features=False)
    spectra, states = heard(1000)
    assert torch.equal(head(spectra), head(spectra, states))
    assert head.features is None
    assert not any(name.startswith("features") for name in head.state_dict())


def test_bins_are_normalised_over_the_window() -> None:
    """Mean 0 and variance 1 in each bin, over the frames that count; 0 past them and in silence."""
    spectra, _ = heard(3000)
    lengths = torch.tensor([spectra.shape[1], 40])
    found = normalized_logarithm(spectra, lengths)
    for row, length in zip(found, lengths.tolist(), strict=True):
        assert row[:length].mean(dim=0).abs().max() < 1e-4
        assert (row[:length].var(dim=0, correction=0) - 1).abs().max() < 0.01
        assert not row[length:].any()
    assert normalized_logarithm(torch.zeros_like(spectra)).abs().max() < 1e-3
