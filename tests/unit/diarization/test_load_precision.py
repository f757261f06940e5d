"""Pipelines that compute in less than float32, on a real conversation."""

from pathlib import Path

import numpy as np
import pytest
import torch

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.checkpoints.precision import int8_is_exact
from wavlm_meeting.diarization import DiarizationPipeline, diarize, load_pipeline
from wavlm_meeting.diarization.load import load_diarizer
from wavlm_meeting.errors import DeviceError, SettingsError
from wavlm_meeting.scoring.diarization import score_diarization

LOWER = [
    "bfloat16",
    pytest.param(
        "int8", marks=pytest.mark.skipif(not int8_is_exact(), reason="no int8 on this CPU")
    ),
]


@pytest.fixture(scope="module")
def pipeline() -> DiarizationPipeline:
    """Give the embedded model in float32."""
    return load_pipeline("tiny", "cpu")


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.filterwarnings("ignore:this CPU has no products in bfloat16")
def test_turns_and_voices_are_nearly_those_of_float32(
    pipeline: DiarizationPipeline, conversation: Path, precision: str
) -> None:
    """Turns differ by less than 5 % of the speech; the median cosine of voices is above 0.99.

    A voice may be further away, since it is of other frames where a decision has changed.
    """
    samples = read_audio(conversation)
    lower = load_pipeline("tiny", "cpu", precision)
    exact, found = pipeline.listen(samples), lower.listen(samples)
    talking = np.stack([local.speech_s > 1 for local in exact.local])
    voices, others = (
        np.stack([local.embeddings for local in heard.local])[talking] for heard in (exact, found)
    )
    assert len(voices) > 10
    assert voices.dtype == others.dtype == np.float32
    assert (voices != others).any()
    cosines = (voices * others).sum(axis=1)
    assert np.median(cosines) > 0.99
    assert cosines.min() > 0.8
    turns = {"x": pipeline.assemble("x", exact, 1, None).to_annotation()}
    assert score_diarization(turns, {"x": lower(samples).to_annotation()}).total.der < 0.05
    found = diarize(samples, "tiny", device="cpu", precision=precision)
    assert found.turns == lower(samples).turns


@pytest.mark.parametrize("precision", LOWER)
@pytest.mark.filterwarnings("ignore:this CPU has no products in bfloat16")
def test_a_journal_is_of_one_precision(
    pipeline: DiarizationPipeline, conversation: Path, tmp_path: Path, precision: str
) -> None:
    """What was heard in float32 is heard again in another precision, not mixed with it."""
    journal = tmp_path / "journal"
    pipeline(conversation, journal=journal)
    with pipeline.open_journal(journal, conversation) as windows:
        assert len(windows)
    with load_pipeline("tiny", "cpu", precision).open_journal(journal, conversation) as windows:
        assert len(windows) == 0


def test_what_does_not_compute_like_this_is_refused(
    tmp_path: Path, conversation: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other names, int8 on a GPU, and another precision than float32 for a pyannote pipeline."""
    with pytest.raises(SettingsError, match="choose one of float32, bfloat16, int8"):
        diarize(conversation, device="cpu", precision="float64")
    (tmp_path / "config.yaml").write_text("pipeline: {}")
    with pytest.raises(SettingsError, match=r"pyannote\.audio computes in float32, not in int8"):
        load_diarizer(str(tmp_path), "cpu", "int8")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(DeviceError, match="int8 is for CPUs"):
        load_pipeline("tiny", "cuda", "int8")
