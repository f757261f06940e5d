"""Whose a local speaker is, and what a speaker's voice comes to."""

import numpy as np

from wavlm_meeting.diarization.heard import LocalSpeakers
from wavlm_meeting.diarization.matching import decided_frames, speaker_embeddings, whose
from wavlm_meeting.diarization.result import Diarization, Turn

# Two seconds at 0.1 s a frame: B speaks first, then A, and both from 0.8 to 1.0.
TALK = Diarization(
    "talk",
    2.0,
    (Turn(0.0, 1.0, "B", 1.0), Turn(0.8, 2.0, "A", 1.0)),
    ((0.8, 1.0),),
    "none",
    "",
)


def test_frames_are_those_of_the_turns() -> None:
    """Each speaker has a column in the order of `speakers`, true exactly in their turns."""
    decided = decided_frames(TALK, 20, 0.1)
    assert TALK.speakers == ["B", "A"]
    np.testing.assert_array_equal(np.flatnonzero(decided[:, 0]), np.arange(10))
    np.testing.assert_array_equal(np.flatnonzero(decided[:, 1]), np.arange(8, 20))


def test_a_local_speaker_is_whom_it_speaks_with_most() -> None:
    """Slots match by common activity, whatever their order; a silent one is nobody."""
    decided = decided_frames(TALK, 20, 0.1)
    activity = np.zeros((20, 3), np.float32)
    activity[9:20, 0], activity[0:9, 2] = 0.9, 0.8
    np.testing.assert_array_equal(whose(activity, decided), [1, -1, 0])
    assert list(whose(activity, np.zeros((20, 0), np.bool_))) == [-1, -1, -1]


def test_a_voice_is_the_mean_by_speech_of_its_windows() -> None:
    """Embeddings weigh as much as the speech they rest on, and windows keep their places."""
    activity = np.zeros((10, 2), np.float32)
    activity[:, 1] = 1.0
    rows = {"B": np.array([[0, 1], [1, 0]]), "A": np.array([[0, 1], [0.6, 0.8]])}
    windows = [
        LocalSpeakers(
            start, activity, rows[name].astype(np.float32), np.array([0.0, speech_s]), np.zeros(2)
        )
        for start, name, speech_s in ((0, "B", 0.8), (1600, "A", 1.0))
    ]
    found = speaker_embeddings(TALK, windows, 0.1, 160)
    np.testing.assert_allclose(found, [[1.0, 0.0], [0.6, 0.8]], atol=1e-6)
