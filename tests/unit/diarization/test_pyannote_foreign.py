"""Pipelines of pyannote.audio behind our call, on real conversations."""

import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import torch

from commands import Command, assert_refused
from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.diarization.load import is_pyannote, load_diarizer
from wavlm_meeting.diarization.result import Diarization, Turn
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.formats.rttm import read_rttm

with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
    patch.setenv("PYANNOTE_METRICS_ENABLED", "false")
    warnings.simplefilter("ignore")
    pytest.importorskip("pyannote.audio", exc_type=ImportError)
    from pyannote.audio import Model, Pipeline
    from pyannote.audio.core.task import Problem, Resolution, Specifications
    from pyannote.audio.models.embedding.xvector import XVectorMFCC
    from pyannote.core import SlidingWindow, SlidingWindowFeature

    from wavlm_meeting.diarization.pyannote import WavLMSegmentation
    from wavlm_meeting.diarization.pyannote_foreign import with_votes

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture(autouse=True)
def _untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pyannote.audio from reporting its use."""
    monkeypatch.setenv("PYANNOTE_METRICS_ENABLED", "false")


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a pipeline of pyannote's own classes: our segmentation, random x-vectors, VBx."""
    home = tmp_path_factory.mktemp("foreign")
    torch.manual_seed(4)
    embedding = XVectorMFCC()
    embedding.specifications = Specifications(
        problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=2.0
    )
    save(WavLMSegmentation.from_bundle("tiny"), home / "segmentation")
    save(embedding, home / "embedding")
    (home / "plda").mkdir()
    draw = np.random.default_rng(2)
    np.savez(
        home / "plda/xvec_transform.npz",
        mean1=np.zeros(512),
        mean2=np.zeros(128),
        lda=np.linalg.qr(draw.standard_normal((512, 128)))[0],
    )
    np.savez(
        home / "plda/plda.npz", mu=np.zeros(128), tr=np.eye(128), psi=np.linspace(9.0, 1.0, 128)
    )
    (home / "config.yaml").write_text(
        "pipeline:\n"
        "  name: pyannote.audio.pipelines.SpeakerDiarization\n"
        "  params:\n"
        "    segmentation: $model/segmentation\n"
        "    embedding: $model/embedding\n"
        "    plda: $model/plda\n"
        "    clustering: AgglomerativeClustering\n"
        "params:\n"
        "  segmentation: {min_duration_off: 0.0}\n"
        "  clustering: {method: average, min_cluster_size: 2, threshold: 0.3}\n"
    )
    return home


def save(model: Model, place: Path) -> None:
    """Write a checkpoint as pyannote.audio does."""
    model.setup()
    checkpoint: dict[str, Any] = {
        "state_dict": model.state_dict(),
        "hyper_parameters": dict(model.hparams),
        "pytorch-lightning_version": lightning.__version__,
    }
    model.on_save_checkpoint(checkpoint)
    place.mkdir()
    torch.save(checkpoint, place / "pytorch_model.bin")


def test_a_pyannote_pipeline_behind_our_call(foreign: Path, conversation: Path) -> None:
    """Its turns are those of its own call, named and ordered as ours, with a share of votes."""
    done: list[float] = []
    found = load_diarizer(str(foreign), "cpu")(
        conversation, num_speakers=2, progress=lambda seconds, _: done.append(seconds)
    )
    samples = torch.from_numpy(read_audio(conversation))[None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        own = Pipeline.from_pretrained(foreign)(
            {"waveform": samples, "sample_rate": 16_000}, num_speakers=2
        ).speaker_diarization
    spans = sorted((round(s.start, 3), round(min(s.end, 30.0), 3)) for s in own.itersegments())
    assert [(turn.start, turn.end) for turn in found.turns] == spans
    assert found.speakers == ["SPEAKER_00", "SPEAKER_01"]
    assert (found.uri, found.duration_s, found.model) == ("conversation", 30.0, str(foreign))
    shares = [turn.confidence for turn in found.turns]
    assert 0 <= min(shares) < max(shares) <= 1
    assert done == sorted(done)
    assert done[-1] == pytest.approx(30.0)
    assert "A" not in {turn.speaker for turn in found.turns}
    with pytest.raises(SettingsError, match="a method of its own"):
        load_diarizer(str(foreign), "cpu")(conversation, clustering="vbx")
    with pytest.raises(CheckpointError, match="whole recordings alone"):
        load_pipeline(str(foreign), "cpu")


def test_votes_are_counted_by_frame() -> None:
    """A turn that half of the chunks heard has half of the votes."""
    window = SlidingWindow(duration=1.0, step=0.5)
    scores = np.zeros((3, 10, 2), np.float32)
    scores[0, :, 0] = 1.0  # 0.0 to 1.0 s
    scores[1, :5, 1] = 1.0  # 0.5 to 1.0 s, in the other slot
    talk = Diarization("x", 2.0, (Turn(0.0, 1.5, "A", 1.0),), (), "none", "")
    found = with_votes(talk, SlidingWindowFeature(scores, window))
    # Of the frames to 1.5 s, 10 + 10 + 5 are in chunks; 10 + 5 of them have a vote.
    assert found.turns[0].confidence == pytest.approx(15 / 25, abs=0.001)


def test_the_command_runs_it(command: Command, foreign: Path, conversation: Path) -> None:
    """`diarize --model FOLDER` takes a pipeline of pyannote's and writes RTTM."""
    answer = command("diarize", conversation, "--model", foreign, "--num-speakers", "2")
    assert answer.returncode == 0, answer.stderr
    (annotation,) = read_rttm(command.folder / "conversation.rttm").values()
    assert len(annotation.labels()) == 2
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(command.folder)}
    answer = command("diarize", conversation, "--model", "pyannote/nothing-here", **offline)
    assert_refused(answer, "pyannote/nothing-here", "not in the local cache")


def test_without_the_extra_one_line_says_what_to_install(
    foreign: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A base installation names the extra that is needed."""
    monkeypatch.setitem(sys.modules, "wavlm_meeting.diarization.pyannote_foreign", None)
    with pytest.raises(CheckpointError, match=r"pip install 'wavlm-meeting\[pyannote\]'"):
        load_diarizer(str(foreign), "cpu")


def test_what_is_no_pipeline_is_refused(tmp_path: Path) -> None:
    """A config.yaml of something else is an error of one line."""
    (tmp_path / "config.yaml").write_text("pipeline:\n  name: nowhere.Nothing\n")
    with pytest.raises(CheckpointError, match="not a pipeline that pyannote"):
        load_diarizer(str(tmp_path), "cpu")
    assert is_pyannote("pyannote/speaker-diarization-3.1")
    assert not is_pyannote("microsoft/wavlm-base-plus-sd")
    assert not is_pyannote("tiny")
