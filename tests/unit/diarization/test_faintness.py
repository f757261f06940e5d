"""Speech far below that of a recording is next door's."""

from pathlib import Path

import numpy as np
import pytest

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.diarization.faintness import (
    SILENCE_DB,
    Audible,
    Loudness,
    speech_levels,
    without_faint,
)
from wavlm_meeting.diarization.heard import LocalSpeakers
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.streaming import StreamingDiarization
from wavlm_meeting.errors import SettingsError

HOP, FIRST = 160, 120


def window(levels: list[float], speech_s: list[float]) -> LocalSpeakers:
    """Return a window of two local speakers that are as loud."""
    return LocalSpeakers(
        start=0,
        activity=np.full((4, 2), 0.5, np.float32),
        embeddings=np.zeros((2, 3), np.float32),
        speech_s=np.array(speech_s),
        levels=np.array(levels, np.float32),
    )


def test_a_level_is_that_of_the_frames_that_somebody_speaks_in() -> None:
    """A sine of amplitude a has 20 log10(a) - 3 dBFS; other frames and single clicks do not count.

    Frames lie where the encoder has them: the first begins at sample FIRST.
    """
    samples = np.zeros(FIRST + 10 * HOP, np.float32)
    sine = np.sin(np.arange(5 * HOP) * 2 * np.pi / 16)
    samples[FIRST : FIRST + 5 * HOP] = 0.1 * sine
    samples[FIRST + 5 * HOP :] = 0.001 * sine
    samples[FIRST + 7 * HOP] = 1.0  # a click
    masks = np.zeros((3, 10), np.float32)
    masks[0, :5] = masks[1, 5:] = 1
    levels = speech_levels(samples, masks, HOP, FIRST)
    np.testing.assert_allclose(levels, [-23.01, -63.01, SILENCE_DB], atol=0.02)
    assert levels.dtype == np.float32


def test_loud_is_what_nine_tenths_of_the_speech_stay_below() -> None:
    """Levels count by the seconds of speech, those of windows with nobody in them not at all."""
    loudness = Loudness()
    loudness.add(window([-40.0, -20.0], [8.0, 1.0]))
    loudness.add(window([-35.0, 0.0], [1.0, 0.0]))
    assert loudness.loud_db == -35.0
    loudness.add(window([-20.0, -90.0], [1.0, 0.0]))
    assert loudness.loud_db == -20.0


def test_levels_beyond_every_scale_are_counted() -> None:
    """Samples of integers that were never scaled, or none at all, break nothing."""
    loudness = Loudness()
    assert loudness.loud_db == SILENCE_DB
    loudness.add(window([90.0, -300.0], [1.0, 1.0]))
    assert loudness.loud_db == 40.0


def test_who_is_fainter_says_nothing_and_all_else_stays() -> None:
    """The voice of who is left out rests on no speech; nobody is left out at the limit."""
    heard = window([-50.0, -20.0], [2.0, 3.0])
    kept = without_faint(heard, -50.0)
    assert kept is heard
    left = without_faint(heard, -49.0)
    assert left.speech_s.tolist() == [0.0, 3.0]
    assert left.activity[:, 0].max() == 0.0
    assert (left.activity[:, 1] == heard.activity[:, 1]).all()
    assert (left.embeddings == heard.embeddings).all()


def test_windows_can_be_read_again() -> None:
    """What is left out is the same each time, and infinity leaves out nobody."""
    windows = [window([-60.0, -20.0], [1.0, 3.0]), window([-22.0, -30.0], [3.0, 1.0])]
    audible = Audible(windows, 30.0)
    assert len(audible) == 2
    for _ in range(2):
        assert [item.speech_s.tolist() for item in audible] == [[0.0, 3.0], [3.0, 1.0]]
    everybody = Audible(windows, float("inf"))
    assert [item.speech_s.tolist() for item in everybody] == [[1.0, 3.0], [3.0, 1.0]]


@pytest.fixture(scope="module")
def mini() -> DiarizationPipeline:
    """Return the model that is taken where none is named."""
    return load_pipeline("mini", "cpu")


@pytest.fixture(scope="module")
def with_a_faint_beginning(conversation: Path) -> tuple[np.ndarray, float]:
    """Return a conversation after part of it 45 dB fainter, as if from the next room."""
    samples = read_audio(conversation)
    faint = samples[: 12 * 16000] * 10 ** (-45 / 20)
    return np.concatenate([faint, samples]), 12.0


def test_a_conversation_next_door_is_not_in_the_recording(
    mini: DiarizationPipeline, with_a_faint_beginning: tuple[np.ndarray, float]
) -> None:
    """Before the recording's own people speak nobody does, unless everybody is asked for."""
    samples, begin = with_a_faint_beginning
    found = mini(samples)
    assert found.turns
    assert min(turn.start for turn in found.turns) > begin - 0.2
    everybody = mini(samples, faint_db=float("inf"))
    assert min(turn.start for turn in everybody.turns) < begin - 5


def test_live_leaves_out_who_is_fainter_than_what_was_heard(
    mini: DiarizationPipeline, with_a_faint_beginning: tuple[np.ndarray, float]
) -> None:
    """What comes after the loud speech is compared with it; what comes before cannot be."""
    samples, begin = with_a_faint_beginning
    place = int(begin * 16000)
    turned = np.concatenate([samples[place:], samples[:place]])
    stream = StreamingDiarization(mini)
    pieces = [*stream.push(turned), *stream.finish()]
    end = len(turned) / 16000 - begin
    assert pieces
    assert max(piece.end for piece in pieces) < end + 0.2


@pytest.mark.parametrize("value", [0.0, -3.0, float("nan")])
def test_a_distance_that_cannot_be_is_refused(mini: DiarizationPipeline, value: float) -> None:
    """One line names the parameter and what it may be."""
    with pytest.raises(SettingsError, match=r"faint_db is .*: give more"):
        mini.asked(faint_db=value)
