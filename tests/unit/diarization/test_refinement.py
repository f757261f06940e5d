"""Deciding frames anew: which features are taken, and that long recordings are no other."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wavlm_meeting.diarization.assembly import Block
from wavlm_meeting.diarization.heard import LocalSpeakers
from wavlm_meeting.diarization.refinement import (
    blended,
    central_audible,
    central_features,
    refined_blocks,
    speaker_voices,
)
from wavlm_meeting.diarization.target_speaker import TargetSpeakerHead

HOP = 640


def windows(count: int, frames: int = 20, every: int = 8) -> list[LocalSpeakers]:
    """Return windows whose features say frame of the recording, window, and place in it."""
    return [
        LocalSpeakers(
            start=number * every * HOP,
            activity=np.zeros((frames, 2), np.float32),
            embeddings=np.zeros((2, 4), np.float32),
            speech_s=np.zeros(2),
            levels=np.zeros(2),
            features=np.stack(
                [np.arange(frames) + number * every, np.full(frames, number), np.arange(frames)], 1
            ).astype(np.float32),
        )
        for number in range(count)
    ]


def test_every_frame_comes_once_from_the_window_that_knows_it_best() -> None:
    """No frame is missing or twice, and none is nearer to the centre of another window."""
    found = np.concatenate(list(central_features(iter(windows(5)), HOP)))
    assert found[:, 0].tolist() == list(range(4 * 8 + 20))
    centres = np.arange(5) * 8 + 9.5
    for frame, window, _ in found:
        distances = np.abs(centres - frame)
        assert distances[int(window)] <= distances.min() + 1


def test_a_single_window_is_taken_whole() -> None:
    """A recording shorter than a window has all of its frames."""
    (only,) = central_features(iter(windows(1)), HOP)
    assert only[:, 2].tolist() == list(range(20))


def test_what_is_audible_of_a_frame_is_what_its_own_window_says() -> None:
    """Windows in which nobody was left out are audible as a whole."""
    whole, part = windows(2)
    part = replace(part, audible=np.linspace(0, 1, 20, dtype=np.float32))
    found = central_audible([whole, part], HOP)
    assert found[:14].tolist() == [1.0] * 14
    np.testing.assert_array_equal(found[14:], part.audible[6:])


def test_windows_without_features_are_refused() -> None:
    """A model without the head is told from a bug in the windows."""
    (bare,) = windows(1)
    bare = replace(bare, features=None)
    with pytest.raises(ValueError, match="no target-speaker head"):
        list(central_features([bare], HOP))


def test_how_features_arrive_does_not_matter() -> None:
    """Frames in blocks of any sizes give the same probabilities, one for each frame and speaker."""
    torch.manual_seed(0)
    head = TargetSpeakerHead(2, 24, 16, 8).eval()
    rng = np.random.default_rng(0)
    features = rng.standard_normal((130, 16)).astype(np.float32)
    voices = rng.standard_normal((3, 8)).astype(np.float32)
    results = [
        np.concatenate(list(refined_blocks(head, np.split(features, cuts), voices, 40)))
        for cuts in ([], [1, 50, 51], list(range(7, 130, 7)))
    ]
    assert results[0].shape == (130, 3)
    for result in results[1:]:
        np.testing.assert_allclose(result, results[0], atol=1e-6)
    whole = head(torch.from_numpy(features[:40])[None], torch.from_numpy(voices)[None])
    expected = whole.sigmoid()[0].detach().numpy()
    np.testing.assert_allclose(results[0][:20], expected[:20], atol=1e-6)


def test_a_voice_is_the_mean_of_its_embeddings_by_speech() -> None:
    """Longer speech weighs more; the length is 1."""
    embeddings = np.array([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]], np.float32)
    voices = speaker_voices(embeddings, np.array([0, 0, 1]), np.array([3.0, 4.0, 1.0]), 2)
    np.testing.assert_allclose(voices, [[0.6, 0.8], [0.0, 1.0]], atol=1e-6)


def test_blocks_of_any_sizes_are_blended_frame_by_frame() -> None:
    """Each frame is the weighted mean of its own two activities, and voices follow.

    Where next door alone was heard, the second has no say.
    """
    rng = np.random.default_rng(1)
    own, refined = rng.random((2, 20, 3)).astype(np.float32)
    voices = rng.random(20).astype(np.float32)
    blocks = [Block(own[a:b], voices[a:b]) for a, b in ((0, 7), (7, 8), (8, 20))]
    audible = np.ones(20, np.float32)
    audible[5:9] = 0.0
    found = list(blended(blocks, np.split(refined, [2, 12]), 0.25, audible))
    assert [len(block.activity) for block in found] == [7, 1, 12]
    activity = np.concatenate([block.activity for block in found])
    refined = refined * audible[:, None]
    np.testing.assert_allclose(activity, 0.75 * own + 0.25 * refined, rtol=1e-6)
    expected = 0.75 * voices + 0.25 * refined.sum(axis=1)
    np.testing.assert_allclose(np.concatenate([b.voices for b in found]), expected, rtol=1e-6)
