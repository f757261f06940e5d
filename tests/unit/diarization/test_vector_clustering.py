"""EEND with vector clustering: its two outputs, padding, and the same interface."""

import torch

from wavlm_meeting.diarization.model import DiarizationHeads, build_heads
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.diarization.vector_clustering import VectorClusteringHeads

# B batch, T frames, C channels, S speakers
HIDDEN = tuple(torch.randn(3, 41, 16, generator=torch.Generator().manual_seed(n)) for n in range(3))
LENGTHS = torch.tensor([41, 30, 7])


def heads(subsampling: int = 2) -> VectorClusteringHeads:
    """Return small heads with random weights."""
    torch.manual_seed(0)
    return VectorClusteringHeads(
        2, 16, hidden=16, transformer_layers=2, attention_heads=2, ffn=24, embedding_size=8,
        subsampling=subsampling,
    ).eval()  # fmt: skip


def test_a_vector_is_the_mean_of_its_speakers_frames() -> None:
    """Vectors have unit length and equal the written-out weighted mean."""
    network = heads(subsampling=1)
    logits, vectors = network(HIDDEN)
    assert logits.shape == (3, 41, 3)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(3, 3))
    x = network.transformer(network.hidden(network.norm(network.mix(HIDDEN))))
    frames = network.vectors(x).unflatten(-1, (3, 8))
    for speaker in range(3):
        weight = logits[..., speaker : speaker + 1].sigmoid()
        mean = (weight * frames[:, :, speaker]).sum(dim=1)
        unit = mean / mean.norm(dim=-1, keepdim=True)
        torch.testing.assert_close(vectors[:, speaker], unit, rtol=1e-4, atol=1e-5)


def test_a_batch_of_lengths_gives_what_each_gives_alone() -> None:
    """Padding changes nothing, odd lengths included, where two frames are one."""
    network = heads()
    logits, vectors = network(HIDDEN, LENGTHS)
    for row, length in enumerate(LENGTHS.tolist()):
        cut = tuple(states[row : row + 1, :length] for states in HIDDEN)
        alone, own = network(cut)
        torch.testing.assert_close(logits[row : row + 1, :length], alone, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(vectors[row : row + 1], own, rtol=1e-4, atol=1e-5)


def test_a_silent_speaker_is_nobody() -> None:
    """Whose mean activity is under 0.05 has none at all, and no frames."""
    network = heads()
    with torch.no_grad():
        network.activity.weight.zero_()
        network.activity.bias.copy_(torch.tensor([-4.0, 0.5, -4.0]))  # 0.018, 0.62, 0.018
    local = network.local(HIDDEN, LENGTHS)
    assert not local.activity[..., [0, 2]].any()
    assert not local.masks[:, [0, 2]].any()
    assert local.masks[:, 1].sum(dim=-1).tolist() == LENGTHS.tolist()


def test_one_setting_chooses_the_form() -> None:
    """Both forms are built from the same settings and answer the same question."""
    for form, expected in (("powerset", DiarizationHeads), ("eend-vc", VectorClusteringHeads)):
        settings = DiarizationSettings(form=form, segmentation_layers=1, transformer_layers=1)
        network = build_heads(2, 16, settings).eval()
        assert isinstance(network, expected)
        local = network.local(HIDDEN, LENGTHS)
        assert local.activity.shape == (3, 41, settings.local_speakers)
        assert local.embeddings.shape == (3, settings.local_speakers, settings.embedding_size)
        assert local.masks.shape == (3, settings.local_speakers, 41)
        heard = torch.arange(41) < LENGTHS[:, None]
        assert not local.activity[~heard].any()
        assert not local.masks.transpose(1, 2)[~heard].any()
