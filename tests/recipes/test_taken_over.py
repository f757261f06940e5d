"""A separation head moves to another encoder: what it read there is fitted by least squares."""

import pytest
import torch

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.libricss.taken_over import take_over
from wavlm_meeting.separation.model import SeparationHead, build_head
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.separation.spectra import stft
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

ENCODER = WavLMConfig(
    conv_layers=((32, 400, 160), (16, 3, 2)),
    frontend_norm="layer",
    width=32,
    layers=1,
    heads=2,
    ffn=32,
)
SIZES = SeparationSettings(layers=1, width=16, heads=2, ffn=16, kernel=3)


def made(seed: int, encoder: WavLMConfig = ENCODER) -> tuple[WavLM, SeparationHead]:
    """Return an encoder and a head at random."""
    torch.manual_seed(seed)
    return WavLM(encoder).eval(), build_head(encoder, SIZES).eval()


def masks_of(encoder: WavLM, head: SeparationHead, waveforms: torch.Tensor) -> torch.Tensor:
    """Return the masks of a model."""
    with torch.inference_mode():
        return head(stft(waveforms, head.fft, head.hop), encoder(waveforms).hidden_states)


def test_on_the_same_encoder_it_is_the_same_head() -> None:
    """Nothing is missed, and masks are what they were, whatever the new head was before."""
    (encoder, other), (_, head) = made(1), made(2)
    torch.manual_seed(3)
    heard = [torch.randn(4, 24_000) for _ in range(6)]
    before = masks_of(encoder, other, heard[0])
    assert (masks_of(encoder, head, heard[0]) - before).abs().max() > 0.05
    assert take_over(head, encoder, other, encoder, heard) < 1e-3
    assert (masks_of(encoder, head, heard[0]) - before).abs().max() < 0.01


def test_another_encoder_gives_a_part_of_it() -> None:
    """Fitted, the head is nearer to what it was than with what it happens to read otherwise."""
    wider = ENCODER.model_copy(update={"width": 48, "heads": 3})
    (encoder, other), (wide, head) = made(1), made(2, wider)
    torch.manual_seed(3)
    heard = [torch.randn(4, 24_000) for _ in range(6)]
    missed = take_over(head, wide, other, encoder, heard)
    assert 0 < missed < 1
    unheard = torch.randn(4, 24_000)
    before = masks_of(encoder, other, unheard)
    near = (masks_of(wide, head, unheard) - before).square().mean()
    with torch.no_grad():
        columns = head.input.weight[:, head.bins :]
        columns.copy_(columns[:, torch.randperm(columns.shape[1])])
    assert near < (masks_of(wide, head, unheard) - before).square().mean()


def test_a_head_of_other_sizes_or_without_an_encoder_is_refused() -> None:
    """The line says what to change."""
    (encoder, head), other = made(1), SIZES.model_copy(update={"width": 24})
    with pytest.raises(SettingsError, match="of other sizes"):
        take_over(head, encoder, build_head(ENCODER, other), encoder, [])
    alone = build_head(ENCODER, SIZES.model_copy(update={"features": False}))
    with pytest.raises(SettingsError, match="spectrum alone"):
        take_over(head, encoder, alone, encoder, [])
