"""The pipeline with the embedded model, on a real conversation."""

import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.audio.windows import iter_windows
from wavlm_meeting.diarization import Diarization, DiarizationPipeline, diarize, load_pipeline
from wavlm_meeting.errors import (
    AudioError,
    AudioWarning,
    CheckpointError,
    SettingsError,
    SpeakerCountWarning,
)
from wavlm_meeting.formats.rttm import read_rttm

RATE = 16_000


@pytest.fixture(scope="module")
def pipeline() -> DiarizationPipeline:
    """Give the embedded model on the CPU."""
    return load_pipeline("tiny", "cpu")


@pytest.fixture(scope="module")
def samples(shared_dir: Path) -> np.ndarray:
    """Give 30 s of a real telephone conversation (N,)."""
    return read_audio(shared_dir / "corpus/meetings/pyannote_sample.flac")


def test_a_waveform_gives_what_its_file_gives(
    pipeline: DiarizationPipeline, conversation: Path, samples: np.ndarray
) -> None:
    """File, array and tensor of the same samples have the same turns; `diarize` is the same."""
    turns = pipeline(conversation).turns
    assert turns
    assert pipeline(samples).turns == turns
    assert pipeline(torch.from_numpy(samples)).turns == turns
    assert diarize(conversation, "tiny", device="cpu").turns == turns


def test_a_result_is_consistent(pipeline: DiarizationPipeline, conversation: Path) -> None:
    """Turns are sorted, within the recording, one at a time for each speaker, surely named."""
    found = pipeline(conversation)
    assert found.uri == conversation.stem
    assert found.duration_s == pytest.approx(30.0, abs=0.01)
    assert found.speakers == [f"SPEAKER_{n:02d}" for n in range(len(found.speakers))]
    assert list(found.turns) == sorted(found.turns, key=lambda t: (t.start, t.end))
    for name in found.speakers:
        own = [t for t in found.turns if t.speaker == name]
        assert all(a.end <= b.start for a, b in pairwise(own))
    assert all(0 <= t.start < t.end <= found.duration_s for t in found.turns)
    assert all(0 < t.confidence <= 1 for t in found.turns)
    both = found.to_annotation().get_overlap()
    assert len(both) > 0
    assert np.allclose([(s.start, s.end) for s in both], found.overlaps, atol=0.002)


def test_the_rttm_holds_the_turns(
    pipeline: DiarizationPipeline, conversation: Path, tmp_path: Path
) -> None:
    """What is written reads back as the annotation."""
    found = pipeline(conversation)
    found.write_rttm(tmp_path / "x.rttm")
    back = read_rttm(tmp_path / "x.rttm")[found.uri]
    assert [
        (round(segment.start, 3), round(segment.end, 3), speaker)
        for segment, _, speaker in back.itertracks(yield_label=True)
    ] == [(turn.start, turn.end, turn.speaker) for turn in found.turns]


@pytest.mark.parametrize("wanted", [1, 2, 3, 4])
def test_a_wanted_number_of_speakers_comes_out(
    pipeline: DiarizationPipeline, samples: np.ndarray, wanted: int
) -> None:
    """As many speakers as were asked for, without a warning, as 30 s of two people allow."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", SpeakerCountWarning)
        found = pipeline(samples, num_speakers=wanted)
    assert len(found.speakers) == wanted


def test_bounds_hold(pipeline: DiarizationPipeline, samples: np.ndarray) -> None:
    """The estimate stays within the bounds."""
    assert len(pipeline(samples, max_speakers=1).speakers) == 1
    assert len(pipeline(samples, min_speakers=3).speakers) >= 3


def test_too_many_speakers_are_warned_about(
    pipeline: DiarizationPipeline, samples: np.ndarray
) -> None:
    """Half a minute does not carry 500 people: the warning says how many it does."""
    with pytest.warns(SpeakerCountWarning, match="500 speakers were asked for"):
        found = pipeline(samples, num_speakers=500)
    assert 1 <= len(found.speakers) < 500


@pytest.mark.parametrize("seconds", [0.1, 0.5, 3.0, 10.0, 10.02, 15.0])
def test_any_length_is_analysed(
    pipeline: DiarizationPipeline, samples: np.ndarray, seconds: float
) -> None:
    """Shorter than a window, a window, a little more: all have the length that they have."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        found = pipeline(samples[: int(seconds * RATE)])
    assert found.duration_s == pytest.approx(seconds, abs=1e-3)


def test_silence_is_a_result(pipeline: DiarizationPipeline) -> None:
    """Digital silence has no turns, and a warning says so."""
    with pytest.warns(AudioWarning, match="no speech"):
        found = pipeline(np.zeros(20 * RATE, np.float32))
    assert found.turns == found.overlaps == ()


def test_windows_do_not_depend_on_their_batch(
    pipeline: DiarizationPipeline, samples: np.ndarray
) -> None:
    """Each window gives what it gives alone, the padded last one too.

    Values are kept in float16, whose last step just below 1 is 2^-11: sums in another order may
    round to its other side.
    """
    windows = list(iter_windows([samples[: 23 * RATE]], 10 * RATE, 5 * RATE))
    assert windows[-1].valid < 10 * RATE
    together = list(pipeline.analyse(windows))
    for window, local in zip(windows, together, strict=True):
        alone = next(iter(pipeline.analyse([window])))
        np.testing.assert_allclose(local.activity, alone.activity, rtol=0, atol=1.1 * 2**-11)


def test_progress_reaches_the_end(pipeline: DiarizationPipeline, samples: np.ndarray) -> None:
    """Progress never falls and ends at the length of the recording."""
    seen: list[tuple[float, float | None]] = []
    pipeline(samples, progress=lambda done, total: seen.append((done, total)))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (pytest.approx(30.0, abs=0.01), pytest.approx(30.0, abs=0.01))


def test_windows_on_the_disk_are_those_in_memory(
    pipeline: DiarizationPipeline, samples: np.ndarray, tmp_path: Path
) -> None:
    """A call keeps windows in a file, `listen` in a list: the result is the same to the bit."""
    found = pipeline(samples, journal=tmp_path / "x.journal")
    assert pipeline.assemble("waveform", pipeline.listen(samples), 1, None) == found
    assert (tmp_path / "x.journal").exists()


def test_a_call_goes_on_where_one_was_cut_short(
    pipeline: DiarizationPipeline, samples: np.ndarray, tmp_path: Path
) -> None:
    """The journal of a call that failed halfway saves the first half; the result is the same."""
    samples = np.tile(samples, 2)  # 60 s: more than one batch of windows
    whole, journal, seen = pipeline(samples), tmp_path / "x.journal", []

    def fail(done_s: float, _total_s: float | None) -> None:
        if done_s > 45:
            raise RuntimeError("pulled the plug")

    with pytest.raises(RuntimeError, match="plug"):
        pipeline(samples, journal=journal, progress=fail)
    found = pipeline(samples, journal=journal, progress=lambda done_s, _: seen.append(done_s))
    assert found == whole
    assert seen[0] > 30
    heard_again: list[float] = []
    other = pipeline(
        -samples, journal=journal, progress=lambda done_s, _: heard_again.append(done_s)
    )
    assert heard_again[0] <= 8
    assert other == pipeline(-samples)


def test_lengths_and_method_can_be_asked_for(
    pipeline: DiarizationPipeline, samples: np.ndarray
) -> None:
    """Turns and gaps are as long as is asked, one speaker at a time is that, methods differ."""
    found = pipeline(samples, min_turn_s=0.6, min_gap_s=0.4)
    assert found.turns
    assert all(turn.end - turn.start > 0.55 for turn in found.turns)
    for name in found.speakers:
        own = [turn for turn in found.turns if turn.speaker == name]
        assert all(later.start - turn.end > 0.35 for turn, later in pairwise(own))
    alone = pipeline(samples, exclusive=True)
    assert all(turn.end <= later.start for turn, later in pairwise(alone.turns))
    assert alone.overlaps == pipeline(samples).overlaps != ()
    assert sum(found.speaker_counts.values()) == pytest.approx(1)
    assert pipeline(samples, num_speakers=2).speaker_counts == {2: 1.0}
    assert pipeline(samples, clustering="spectral").turns


@pytest.mark.parametrize(
    ("given", "cure"),
    [
        ({"num_speakers": 0}, "1 or more"),
        ({"min_turn_s": -1.0}, "min_turn_s is -1.0: give 0 or more"),
        ({"min_gap_s": float("nan")}, "min_gap_s is nan: give 0 or more"),
        ({"clustering": "magic"}, "agglomerative"),
        ({"num_speakers": 2, "max_speakers": 3}, "either"),
        ({"min_speakers": 3, "max_speakers": 2}, "swap"),
        ({"channel": 1}, "mono"),
    ],
)
def test_contradictions_are_refused(
    pipeline: DiarizationPipeline, given: dict[str, Any], cure: str
) -> None:
    """Impossible numbers of speakers and channels name what to do."""
    with pytest.raises(SettingsError, match=cure):
        pipeline(np.zeros(RATE, np.float32), **given)


@pytest.mark.parametrize(
    ("samples_", "cure"),
    [
        (np.zeros((2, RATE), np.float32), "mono"),
        (np.zeros(RATE, np.int16), "floats"),
        (np.zeros(100, np.float32), "shorter"),
        (np.full(RATE, np.nan, np.float32), "NaN"),
    ],
)
def test_samples_that_are_no_recording_are_refused(
    pipeline: DiarizationPipeline, samples_: np.ndarray, cure: str
) -> None:
    """Wrong shapes, types, lengths and values each have their line."""
    with pytest.raises(AudioError, match=cure):
        pipeline(samples_)


def test_an_encoder_alone_does_not_diarize(shared_dir: Path) -> None:
    """A checkpoint without heads is told apart from one with them."""
    with pytest.raises(CheckpointError, match="no diarization heads"):
        load_pipeline(str(shared_dir / "golden/wavlm_base_tiny.pt"), "cpu")


def test_a_diarization_is_a_value(pipeline: DiarizationPipeline, samples: np.ndarray) -> None:
    """The same recording gives an equal result, and the plain form names the model."""
    first, second = pipeline(samples), pipeline(samples)
    assert isinstance(first, Diarization)
    assert first == second
    assert first.to_dict()["model"] == "tiny"
    assert len(first.model_sha256) == 64
