"""Steps from windows to decided frames: the same for blocks of any size."""

from collections.abc import Iterator

import numpy as np
import pytest

from wavlm_meeting.diarization.assembly import (
    Block,
    active_voices,
    blocks_of,
    decide,
    parts_of,
)
from wavlm_meeting.diarization.heard import LocalSpeakers
from wavlm_meeting.diarization.reconstruction import most_active, overlap_add, speaker_activity

HOP = 320
FRAMES = 40
COUNT = 3


def windows(count: int = 30) -> list[LocalSpeakers]:
    """Draw windows of two local speakers that begin every ten frames; some say nothing."""
    rng = np.random.default_rng(0)
    drawn = []
    for number in range(count):
        speech_s = rng.random(2) * (rng.random(2) < 0.7)
        activity = rng.random((FRAMES, 2)).astype(np.float32) * (speech_s > 0)
        embeddings = rng.standard_normal((2, 4)).astype(np.float32)
        drawn.append(LocalSpeakers(number * 10 * HOP, activity, embeddings, speech_s, np.zeros(2)))
    return drawn


def speakers_of(local: list[LocalSpeakers]) -> np.ndarray:
    """Draw a speaker (W, S) for every local speaker that says something."""
    drawn = np.random.default_rng(1).integers(0, COUNT, (len(local), 2))
    return np.where([item.speech_s > 0 for item in local], drawn, -1)


def test_voices_are_those_of_who_speaks() -> None:
    """Each voice comes with its place, and labels find their way back to it."""
    local = windows()
    voices = active_voices(local, 2, 4, HOP)
    where = [(w, s) for w, item in enumerate(local) for s in range(2) if item.speech_s[s] > 0]
    assert list(zip(voices.windows.tolist(), voices.slots.tolist(), strict=True)) == where
    assert (voices.first_frames == 10 * voices.windows).all()
    assert (voices.embeddings == [local[w].embeddings[s] for w, s in where]).all()
    assert (voices.speech_s == [local[w].speech_s[s] for w, s in where]).all()
    assert voices.frames == 10 * 29 + FRAMES
    speakers = voices.speakers(np.arange(len(where)), (30, 2))
    assert [speakers[place] for place in where] == list(range(len(where)))
    assert (speakers == -1).sum() == 60 - len(where)


@pytest.mark.parametrize("at_once", [1, 3, 29, 1000])
def test_blocks_of_any_size_decide_alike(at_once: int) -> None:
    """However many windows are put together at once, every frame is decided as if all were."""
    local = windows()
    speakers = speakers_of(local)
    first = [item.start // HOP for item in local]
    whole = speaker_activity([item.activity for item in local], first, list(speakers), COUNT)
    voices = overlap_add([item.activity.sum(axis=1, keepdims=True) for item in local], first)
    blocks = blocks_of(parts_of(local, speakers, HOP), COUNT, at_once)
    decided = decide(blocks, len(whole), COUNT, 0.5)
    assert (decided.activity == whole).all()
    assert (decided.active == most_active(whole, voices[:, 0], 0.5)).all()


def test_nobody_is_decided_too() -> None:
    """A recording without a speaker has frames, and nobody in them."""
    local = [LocalSpeakers(0, np.zeros((5, 2)), np.zeros((2, 4)), np.zeros(2), np.zeros(2))]
    voices = active_voices(local, 2, 4, HOP)
    assert voices.embeddings.shape == (0, 4)
    speakers = voices.speakers(np.zeros(0, np.int64), (1, 2))
    decided = decide(blocks_of(parts_of(local, speakers, HOP), 0), voices.frames, 0, 0.5)
    assert decided.active.shape == (5, 0)


def test_what_decides_may_change_on_the_way() -> None:
    """Blocks can be replaced as they pass: this is where frames are decided anew."""

    def mute(blocks: Iterator[Block]) -> Iterator[Block]:
        for activity, voices in blocks:
            yield Block(activity * [1, 0, 1], voices)

    local = windows()
    blocks = blocks_of(parts_of(local, speakers_of(local), HOP), COUNT, 4)
    decided = decide(mute(blocks), 10 * 29 + FRAMES, COUNT, 0.5)
    assert decided.active.any(axis=0).tolist() == [True, False, True]
