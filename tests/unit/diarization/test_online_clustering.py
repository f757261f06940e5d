"""Names that stay: what a memory of voices keeps, joins and forgets."""

import numpy as np
import pytest

from wavlm_meeting.diarization.clustering import ClusteringSettings
from wavlm_meeting.diarization.online_clustering import NOBODY, VoiceMemory, Voices

SIZE = 16
SETTINGS = ClusteringSettings(threshold=0.5, least_s=1.0, least_speaker_s=0.0)


def heard(number: int, *people: int, speech_s: float = 2.0, names: tuple[int, ...] = ()) -> Voices:
    """Return a window with these people, each a direction of space with some noise."""
    random = np.random.default_rng(number)
    embeddings = np.eye(SIZE)[list(people)] + random.normal(0, 0.05, (len(people), SIZE))
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    return Voices(
        embeddings.astype(np.float32),
        np.full(len(people), speech_s),
        np.array(names or [NOBODY] * len(people)),
        np.full(len(people), number),
    )


def memory(most: int = 50, **more: float) -> VoiceMemory:
    """Return an empty memory."""
    return VoiceMemory(SETTINGS, most=most, newcomer_s=more.pop("newcomer_s", 1.0), **more)


def test_names_return_to_their_voices() -> None:
    """Whoever was printed is found under the same name, in any order, beside a newcomer."""
    voices = memory()
    for number in range(6):
        voices.remember(heard(number, 0, 1, names=(7, 3)))
    now = heard(10, 2, 1, 0, speech_s=3.0)
    groups = voices.group([now], [now])
    assert [groups.names[group] for group in groups.members[0]] == [NOBODY, 3, 7]


def test_new_names_count_up() -> None:
    """The first is number 0."""
    voices = memory()
    assert [voices.new_name() for _ in range(3)] == [0, 1, 2]


def test_one_window_holds_different_people() -> None:
    """Two voices of a window that are alike are two people all the same, while there are two."""
    voices = memory()
    for number in range(4):
        voices.remember(heard(number, 0, 1, names=(0, 1)))
    now = heard(9, 0, 0)
    assert len(set(voices.group([], [now]).members[0])) == 2


def test_little_speech_makes_no_speaker() -> None:
    """A newcomer below the least speech is taken for who is known; above it, for someone new."""
    voices = memory(newcomer_s=3.0)
    voices.remember(heard(0, 0, names=(0,)))
    for speech_s, expected in ((2.9, 0), (3.1, NOBODY)):
        now = heard(1, 1, speech_s=speech_s)
        groups = voices.group([now], [now])
        assert groups.names[groups.members[0][0]] == expected


def test_the_first_voice_is_somebody() -> None:
    """However little was said: there is nobody else whom it could be."""
    now = heard(0, 4, speech_s=0.1)
    groups = memory(newcomer_s=3.0).group([now], [now])
    assert groups.names == [NOBODY]
    assert groups.members[0].tolist() == [0]


def test_nothing_heard_is_nobody() -> None:
    """Without any voice to found a group on, nobody is in one."""
    groups = memory().group([], [heard(0, 1)])
    assert groups.names == []
    assert groups.members[0].tolist() == [NOBODY]


def test_who_is_silent_is_not_forgotten() -> None:
    """Another's long speech fills the memory, and the first is still known by name."""
    voices = memory(most=8)
    voices.remember(heard(0, 0, names=(0,)))
    for number in range(1, 60):
        voices.remember(heard(number, 1, names=(1,)))
    now = heard(99, 0)
    groups = voices.group([now], [now])
    assert groups.names[groups.members[0][0]] == 0


@pytest.mark.parametrize("people", [2, 12])
def test_memory_is_bounded_and_loses_no_speech(people: int) -> None:
    """There are never more voices than it holds, of unit length, with all speech that was heard."""
    voices = memory(most=10)
    for number in range(40):
        person = number % people
        voices.remember(heard(number, person, names=(person,)))
        assert voices.past is not None
        assert len(voices.past) == min(number + 1, 10)
        assert voices.past.speech_s.sum() == pytest.approx(2.0 * (number + 1))
        assert np.allclose(np.linalg.norm(voices.past.embeddings, axis=1), 1.0, atol=1e-5)


def test_room_for_speakers_is_respected() -> None:
    """When as many as there can be have a name, a stranger is one of them."""
    voices = memory(max_speakers=1)
    voices.remember(heard(0, 0, names=(voices.new_name(),)))
    now = heard(1, 1, speech_s=9.0)
    groups = voices.group([now], [now])
    assert groups.names == [0]
    assert groups.members[0].tolist() == [0]


def test_a_name_has_one_group() -> None:
    """Two people who were printed as one: the one who was so for longer keeps the name."""
    voices = memory()
    for number, person in enumerate((0, 0, 0, 1, 1)):
        voices.remember(heard(number, person, names=(0,)))
    now = heard(9, 0, 1)
    groups = voices.group([now], [now])
    assert [groups.names[group] for group in groups.members[0]] == [0, NOBODY]
