"""The heads: what they may and may not depend on."""

import torch

from wavlm_meeting.diarization.model import EmbeddingHead, SegmentationHead

# B batch, T frames, C channels, S speakers
HIDDEN = tuple(torch.randn(2, 40, 16, generator=torch.Generator().manual_seed(n)) for n in range(3))


def test_activities_are_probabilities_of_the_powerset() -> None:
    """Class probabilities sum to 1, and activities never exceed two speakers in all."""
    head = SegmentationHead(2, 16).eval()
    log_probabilities = head(HIDDEN)
    activities = head.activities(log_probabilities)
    assert log_probabilities.shape == (2, 40, 11)
    torch.testing.assert_close(log_probabilities.exp().sum(-1), torch.ones(2, 40))
    assert activities.min() >= 0
    assert activities.sum(-1).max() <= 2 + 1e-5


def test_an_embedding_knows_its_own_frames_alone() -> None:
    """Frames outside of the mask change nothing; frames inside do; length is 1."""
    head = EmbeddingHead(2, 16, hidden=24, size=8).eval()
    masks = torch.zeros(2, 3, 40)
    masks[:, 0, :10] = 1
    masks[:, 1, 10:30] = 1
    before = head(HIDDEN, masks)
    changed = tuple(h.clone() for h in HIDDEN)
    for h in changed:
        h[:, :10] = h[:, :10].flip(-1)
    after = head(changed, masks)
    torch.testing.assert_close(before.norm(dim=-1)[:, :2], torch.ones(2, 2))
    torch.testing.assert_close(before[:, 1], after[:, 1])
    assert (before[:, 0] - after[:, 0]).abs().max() > 1e-3


def test_a_voice_is_the_same_whoever_else_is_described() -> None:
    """Each row of masks gets what it gets alone, and an empty one stays finite."""
    head = EmbeddingHead(2, 16, hidden=24, size=8).eval()
    masks = (torch.rand(2, 4, 40) > 0.5).float()
    masks[:, 3] = 0
    together = head(HIDDEN, masks)
    for speaker in range(3):
        alone = head(HIDDEN, masks[:, speaker : speaker + 1])[:, 0]
        torch.testing.assert_close(together[:, speaker], alone)
    assert together.isfinite().all()


def test_heads_have_gradients_everywhere() -> None:
    """Every parameter of both heads takes part in training."""
    for head, outputs in (
        (SegmentationHead(2, 16), lambda h: h(HIDDEN)[..., 3]),
        (EmbeddingHead(2, 16, 24, 8), lambda h: h(HIDDEN, torch.ones(2, 1, 40))[..., 0]),
    ):
        outputs(head).sum().backward()
        for name, parameter in head.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.abs().sum() > 0, name
