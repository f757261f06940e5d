"""Streaming with the embedded model, on a real conversation."""

import pickle
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.diarization import DiarizationPipeline, Turn, load_pipeline
from wavlm_meeting.diarization.streaming import StreamingDiarization, StreamingSettings, joined
from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.scoring.diarization import score_diarization

RATE = 16_000


@pytest.fixture(scope="module")
def pipeline() -> DiarizationPipeline:
    """Give the embedded model on the CPU."""
    return load_pipeline("tiny", "cpu")


@pytest.fixture(scope="module")
def samples(shared_dir: Path) -> np.ndarray:
    """Give 30 s of a real telephone conversation (N,)."""
    return read_audio(shared_dir / "corpus/meetings/pyannote_sample.flac")


def cut(samples: np.ndarray, seed: int) -> list[np.ndarray]:
    """Cut samples into blocks of 0 to 2 s, most of them short."""
    random = np.random.default_rng(seed)
    sizes = (2 * RATE * random.random(200) ** 4).astype(int)
    return np.split(samples, np.minimum(np.cumsum(sizes), len(samples)))


def test_what_was_said_is_never_taken_back(
    pipeline: DiarizationPipeline, samples: np.ndarray
) -> None:
    """Every push goes on where the last ended, and another future changes nothing of it."""
    stream = StreamingDiarization(pipeline, latency_s=1.0)
    other = StreamingDiarization(pipeline, latency_s=1.0)
    before, begun = 0.0, 12 * RATE
    for start in range(0, len(samples), 8000):
        block = samples[start : start + 8000]
        found = stream.push(block)
        assert all(before <= piece.start < piece.end <= stream.final_s for piece in found)
        assert found == sorted(found, key=lambda piece: piece.start)
        before = stream.final_s
        if start < begun:
            assert other.push(block) == found
    assert other.push(samples[:begun][::-1]) != []
    assert before > 20


def test_blocks_do_not_matter(pipeline: DiarizationPipeline, samples: np.ndarray) -> None:
    """However the samples are cut, the same pieces come out, to the last bit."""
    whole = StreamingDiarization(pipeline)
    expected = whole.push(samples) + whole.finish()
    assert len({piece.speaker for piece in expected}) >= 2
    stream = StreamingDiarization(pipeline)
    found = [piece for block in cut(samples, 1) for piece in stream.push(block)]
    assert found + stream.finish() == expected


@pytest.mark.parametrize("latency_s", [0.5, 0.7, 2.0, 10.0])
def test_no_speech_is_older_than_the_latency(
    pipeline: DiarizationPipeline, samples: np.ndarray, latency_s: float
) -> None:
    """After any push, all that was heard before the latency is final, and no more than heard."""
    stream = StreamingDiarization(pipeline, latency_s=latency_s)
    for block in np.split(samples[: 14 * RATE], 140):
        stream.push(block)
        assert stream.duration_s - latency_s <= stream.final_s + 1e-3
        assert stream.final_s <= stream.duration_s


@pytest.mark.parametrize("seconds", [0.0, 0.01, 0.06, 0.3, 0.8, 3.2, 3.21, 7.77])
def test_any_length_ends_well(
    pipeline: DiarizationPipeline, samples: np.ndarray, seconds: float
) -> None:
    """Shorter than a frame or a window, on or beside a step: all that makes a frame is final."""
    stream = StreamingDiarization(pipeline)
    size = int(seconds * RATE)
    pieces = stream.push(samples[6 * RATE : 6 * RATE + size]) + stream.finish()
    assert stream.duration_s == pytest.approx(size / RATE)
    assert stream.duration_s - stream.final_s < 0.08
    assert all(0 <= piece.start < piece.end <= stream.duration_s for piece in pieces)
    assert stream.finish() == []


def test_state_does_not_grow(pipeline: DiarizationPipeline, samples: np.ndarray) -> None:
    """Once the memory is full, a stream holds no more however long it runs."""
    stream = StreamingDiarization(pipeline, StreamingSettings(memory=24))
    sizes = []
    for _ in range(6):
        stream.push(samples)
        state = {name: value for name, value in vars(stream).items() if name != "pipeline"}
        sizes.append(len(pickle.dumps(state)))
    assert max(sizes[2:]) < 1.05 * sizes[1]


def test_patience_comes_near_to_offline(pipeline: DiarizationPipeline, samples: np.ndarray) -> None:
    """With ten seconds to think, speech is where it is offline, and speakers mostly as well."""
    stream = StreamingDiarization(pipeline, latency_s=10.0)
    found = stream.result("waveform", stream.push(samples) + stream.finish())
    offline = pipeline(samples)
    assert found.duration_s == offline.duration_s
    counts = score_diarization(
        {"waveform": offline.to_annotation()}, {"waveform": found.to_annotation()}
    ).total
    assert counts.missed_s + counts.false_alarm_s < 0.08 * counts.total_s
    assert counts.der < 0.3


@pytest.mark.parametrize("most", [1, 2])
def test_no_more_speakers_than_there_can_be(
    pipeline: DiarizationPipeline, samples: np.ndarray, most: int
) -> None:
    """`max_speakers` holds, and names count up in the order of appearance."""
    stream = StreamingDiarization(pipeline, max_speakers=most)
    found = stream.result("waveform", stream.push(samples) + stream.finish())
    assert found.speakers == [f"SPEAKER_{number:02d}" for number in range(most)]


def test_silence_says_nothing(pipeline: DiarizationPipeline) -> None:
    """Digital silence has no pieces, and becomes final like speech."""
    stream = StreamingDiarization(pipeline)
    assert stream.push(np.zeros(8 * RATE, np.float32)) + stream.finish() == []
    assert stream.final_s > 7.9


def test_pieces_make_turns() -> None:
    """Pieces of a speaker that adjoin are one turn, as sure and shared as on average; gaps stay."""
    pieces = [
        Turn(0.0, 1.0, "A", 0.5, 0.4),
        Turn(0.5, 1.0, "B", 0.9),
        Turn(1.0, 4.0, "A", 0.9),
        Turn(1.2, 1.4, "B", 0.8),
    ]
    assert joined(pieces) == [Turn(0.0, 4.0, "A", 0.8, 0.1), pieces[1], pieces[3]]
    assert joined([]) == []


def test_a_result_has_turns(pipeline: DiarizationPipeline, samples: np.ndarray) -> None:
    """The diarization at the end holds the pieces' time, each speaker's turns apart, by start."""
    stream = StreamingDiarization(pipeline)
    pieces = stream.push(samples) + stream.finish()
    found = stream.result("talk", pieces)
    assert (found.uri, found.model, found.duration_s) == ("talk", "tiny", 30.0)
    assert list(found.turns) == sorted(found.turns, key=lambda turn: turn.start)
    for name in found.speakers:
        own = [turn for turn in found.turns if turn.speaker == name]
        assert all(a.end < b.start for a, b in pairwise(own))
        total = sum(piece.end - piece.start for piece in pieces if piece.speaker == name)
        assert sum(turn.end - turn.start for turn in own) == pytest.approx(total, abs=1e-3)
    both = found.to_annotation().get_overlap()
    assert [(part.start, part.end) for part in both] == list(found.overlaps)


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ({"latency_s": 0.4}, "give 0.5 to 10"),
        ({"latency_s": 11}, "0.5"),
        ({"max_speakers": 0}, "1"),
    ],
)
def test_impossible_choices_are_refused(
    pipeline: DiarizationPipeline, given: dict[str, float], cure: str
) -> None:
    """A latency out of bounds and no speakers at all name what can be."""
    with pytest.raises(SettingsError, match=cure):
        StreamingDiarization(pipeline, **given)


@pytest.mark.parametrize(
    ("block", "cure"),
    [
        (np.zeros((2, RATE), np.float32), "mono"),
        (np.zeros(RATE, np.int16), "floats"),
        (np.full(RATE, np.nan, np.float32), "NaN"),
    ],
)
def test_blocks_that_are_no_samples_are_refused(
    pipeline: DiarizationPipeline, block: np.ndarray, cure: str
) -> None:
    """Wrong shapes, types and values each have their line."""
    with pytest.raises(AudioError, match=cure):
        StreamingDiarization(pipeline).push(block)
