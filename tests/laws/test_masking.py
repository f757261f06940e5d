"""Laws of the masks: start rate, length, least number and place of the spans."""

import numpy as np
import pytest
import torch

from wavlm_meeting.pretraining.masking import MaskSettings, draw_masks


def runs(mask: torch.Tensor) -> list[int]:
    """Return the lengths of the runs of True."""
    edges = np.diff(np.concatenate([[0], mask.numpy().astype(int), [0]]))
    return list(np.flatnonzero(edges == -1) - np.flatnonzero(edges == 1))


def test_every_run_is_made_of_whole_spans_within_the_utterance() -> None:
    """No run is shorter than a span, and padding is never masked."""
    lengths = torch.tensor([780, 400, 57, 10])
    for seed in range(20):
        generator = torch.Generator().manual_seed(seed)
        masks = draw_masks(lengths, 780, MaskSettings(), generator)
        for mask, length in zip(masks, lengths.tolist(), strict=True):
            assert not mask[length:].any()
            assert min(runs(mask)) >= 10


def test_spans_start_as_often_as_set() -> None:
    """Spans of one frame show the starts: 0.08 of the frames, exactly on average."""
    settings = MaskSettings(span=1)
    masks = draw_masks(torch.full((2000,), 331), 331, settings, torch.Generator().manual_seed(0))
    count = masks.sum(dim=1).double()
    assert set(count.tolist()) == {26.0, 27.0}  # 26.48, rounded up or down
    error = 4 * (0.48 * 0.52 / len(count)) ** 0.5
    assert count.mean().item() == pytest.approx(0.08 * 331, abs=error)


def test_starts_are_uniform_and_different_places() -> None:
    """Every frame at which a span fits is as likely to start one."""
    settings = MaskSettings(start_probability=0.2, span=1)
    masks = draw_masks(torch.full((4000,), 50), 50, settings, torch.Generator().manual_seed(1))
    assert (masks.sum(dim=1) == 10).all()
    share = masks.double().mean(dim=0)
    assert (share - 0.2).abs().max() < 5 * (0.2 * 0.8 / 4000) ** 0.5


def test_coverage_is_that_of_overlapping_spans() -> None:
    """About half of the frames are masked: 1 - (1 - n / places)^10 in the middle."""
    frames, generator = 780, torch.Generator().manual_seed(2)
    masks = draw_masks(torch.full((500,), frames), frames, MaskSettings(), generator)
    share = 0.08 * frames / (frames - 9)
    expected = 1 - (1 - share) ** 10
    assert masks[:, 20:-20].double().mean().item() == pytest.approx(expected, abs=0.01)
    assert 0.5 < expected < 0.6


@pytest.mark.parametrize("frames", [1, 5, 10, 11, 12, 24])
def test_short_utterances_get_the_least_number(frames: int) -> None:
    """Two spans where 0.08 T is less, and a single place for one is enough to mask it all."""
    masks = draw_masks(torch.full((200,), frames), frames, MaskSettings(least_spans=2))
    assert masks.any(dim=1).all()
    if frames <= 10:
        assert masks.all()
    else:  # two different starts mask at least 11 frames
        assert masks.sum(dim=1).min() >= 11


def test_the_generator_decides() -> None:
    """Equal seeds give equal masks, other seeds other ones."""
    first, second, other = (
        draw_masks(torch.tensor([300, 200]), 300, MaskSettings(), torch.Generator().manual_seed(s))
        for s in (5, 5, 6)
    )
    assert first.equal(second)
    assert not first.equal(other)
