"""The target-speaker head: any number of speakers, in any order."""

import pytest
import torch

from wavlm_meeting.diarization import target_speaker
from wavlm_meeting.diarization.target_speaker import TargetSpeakerHead, rows_of

# B batch, T frames, S speakers, C channels, D embedding size
FEATURES = torch.randn(2, 30, 16, generator=torch.Generator().manual_seed(0))
VOICES = torch.nn.functional.normalize(
    torch.randn(2, 4, 8, generator=torch.Generator().manual_seed(1)), dim=-1
)


def head() -> TargetSpeakerHead:
    """Return a small head with random weights."""
    torch.manual_seed(2)
    return TargetSpeakerHead(2, 24, 16, 8, blocks=2).eval()


def test_speakers_have_no_order() -> None:
    """Voices in another order give the same activities in that order."""
    order = [2, 0, 3, 1]
    network = head()
    logits = network(FEATURES, VOICES)
    assert logits.shape == (2, 30, 4)
    torch.testing.assert_close(
        network(FEATURES, VOICES[:, order]), logits[..., order], rtol=1e-4, atol=1e-5
    )


def test_who_is_not_there_changes_nothing() -> None:
    """Rows that are nobody's leave the others what they are without them."""
    network = head()
    known = torch.tensor([[True, True, False, False], [True, True, True, False]])
    logits = network(FEATURES, VOICES, known)
    for row, count in enumerate((2, 3)):
        one = slice(row, row + 1)
        alone = network(FEATURES[one], VOICES[one, :count])
        torch.testing.assert_close(logits[one, :, :count], alone, rtol=1e-4, atol=1e-5)


def test_a_voice_and_the_others_matter() -> None:
    """Another voice changes its own activity, and through the mixing that of the others."""
    network = head()
    changed = VOICES.clone()
    changed[:, 0] = -changed[:, 0]
    difference = (network(FEATURES, changed) - network(FEATURES, VOICES)).abs().amax(dim=(0, 1))
    assert (difference > 1e-4).all()


def test_a_fixed_number_of_rows_computes_the_same() -> None:
    """Logits and gradients, where the known rows come again instead of fewer being there."""
    known = torch.tensor([[True, False, True, False], [False, True, False, True]])
    found = []
    for fixed in (False, True):
        network = head()
        rows, places = rows_of(known.flatten(), fixed=fixed)
        assert len(rows) == (8 if fixed else 4)
        voices = VOICES.clone().requires_grad_()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(target_speaker, "rows_of", lambda *_, **__: (rows, places))  # noqa: B023
            logits = network(FEATURES, voices, known)
        logits[known[:, None].expand_as(logits)].square().sum().backward()
        assert voices.grad is not None
        weight = network.joined.weight.grad
        assert weight is not None
        found.append((logits.detach(), voices.grad, weight))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_nobody_is_known() -> None:
    """A row is there all the same, and what comes out is finite."""
    nobody = torch.zeros(2, 4, dtype=torch.bool)
    for fixed in (False, True):
        rows, places = rows_of(nobody.flatten(), fixed=fixed)
        assert rows.max() < 8
        assert len(places) == 8
    assert head()(FEATURES, VOICES, nobody).isfinite().all()
