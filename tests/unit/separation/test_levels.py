"""What is done by loudness: crosstalk goes back to its talker, beams are held down."""

import pytest
import torch
from torch import Tensor

from wavlm_meeting.separation.levels import no_louder_than, without_crosstalk

# B batch, J tracks, N samples

SECOND = 16_000


def noise(*shape: int, seed: int = 0) -> Tensor:
    """Draw noise of unit power."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def power(samples: Tensor) -> Tensor:
    """Return the mean power over the last dimension."""
    return samples.square().mean(dim=-1)


def test_moving_crosstalk_changes_no_sum() -> None:
    """What a track loses, the loudest gets: the sum is the same at every sample."""
    tracks = noise(3, 2, 3 * SECOND + 7)
    tracks *= torch.logspace(-3, 0, 3 * SECOND + 7)
    tracks[0, 1] *= 0.2
    tracks[1, 0] *= 0.01
    tracks[2, 1, SECOND:] = 0
    assert torch.allclose(without_crosstalk(tracks).sum(dim=1), tracks.sum(dim=1), atol=1e-5)


def test_a_lone_talker_is_on_one_track_whole() -> None:
    """What a head leaks to the other track, 26 dB below, is put back; the other is silent."""
    voice = noise(4 * SECOND)
    tracks = torch.stack([0.05 * voice, 0.95 * voice])[None]
    found = without_crosstalk(tracks)
    assert torch.allclose(found[0, 1], voice, atol=1e-5)
    assert not found[0, 0].any()


def test_other_tracks_of_the_same_talkers_judge() -> None:
    """A track that lets much through is crosstalk where masks leave next to nothing."""
    voice = noise(4 * SECOND)
    tracks = torch.stack([0.6 * voice, 0.4 * voice])[None]
    assert torch.equal(without_crosstalk(tracks), tracks)
    found = without_crosstalk(tracks, torch.stack([voice, 0.01 * voice])[None])
    assert torch.allclose(found[0, 0], voice, atol=1e-5)
    assert not found[0, 1].any()


def test_two_talkers_are_left_alone() -> None:
    """Voices whose levels are 5 dB apart stay as they are, to the bit."""
    tracks = noise(2, 2, 4 * SECOND)
    tracks[:, 1] *= 10 ** (-5 / 20)
    assert torch.equal(without_crosstalk(tracks), tracks)


def test_a_turn_is_not_cut() -> None:
    """Who takes over from another keeps the beginning and the end of what they say."""
    tracks = noise(1, 2, 6 * SECOND)
    tracks[:, 0, 3 * SECOND :] *= 0.01
    tracks[:, 1, : 3 * SECOND] *= 0.01
    found = without_crosstalk(tracks)
    near = slice(3 * SECOND - 1600, 3 * SECOND + 1600)
    assert torch.allclose(found[..., near], tracks[..., near], atol=1e-6)
    assert not found[0, 1, : 2 * SECOND].any()
    assert not found[0, 0, 4 * SECOND :].any()


def test_gains_are_smooth() -> None:
    """A track fades within tenths of a second: gains never step from one sample to the next."""
    tracks = torch.ones(1, 2, 6 * SECOND)
    tracks[:, 0] = torch.linspace(0.05, 1, 6 * SECOND)
    steps = without_crosstalk(tracks).diff(dim=-1).abs()
    assert steps.max() < 0.005


def test_silence_stays_silent() -> None:
    """Tracks of zeros, and tracks of one sample, stay what they are."""
    assert not without_crosstalk(torch.zeros(1, 2, SECOND)).any()
    assert not no_louder_than(torch.zeros(1, 2, SECOND), torch.zeros(1, 2, SECOND)).any()
    one = torch.ones(1, 2, 1)
    assert torch.equal(without_crosstalk(one), one)


@pytest.mark.parametrize("level", [0.01, 0.5, 3.0])
def test_a_beam_is_no_louder_than_the_masked_signal(level: float) -> None:
    """Power is that of the limit where the beam has more, and untouched where it has less."""
    beam, limit = noise(1, 2, 2 * SECOND), level * noise(1, 2, 2 * SECOND, seed=1)
    found = no_louder_than(beam, limit)
    wanted = torch.minimum(power(beam), power(limit))
    assert torch.allclose(power(found), wanted, rtol=0.05)
