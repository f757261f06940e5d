"""Our models in pyannote.audio, on real conversations."""

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lightning
import numpy as np
import pytest
import soundfile
import torch

from wavlm_meeting.checkpoints.bundle import Bundle, write_bundle
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.checkpoints.pyannote_config import write_pyannote, write_pyannote_config
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.diarization.load import is_pyannote
from wavlm_meeting.errors import CheckpointError, SettingsError, WavLMMeetingWarning
from wavlm_meeting.formats.rttm import read_rttm
from wavlm_meeting.training.diarization_tuning import with_values

with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
    patch.setenv("PYANNOTE_METRICS_ENABLED", "false")
    warnings.simplefilter("ignore")
    pytest.importorskip("pyannote.audio", exc_type=ImportError)
    from pyannote.audio import Model, Pipeline
    from pyannote.audio.tasks import SpeakerDiarization
    from pyannote.core import Segment, Timeline
    from pyannote.database.protocol import SpeakerDiarizationProtocol

    from wavlm_meeting.diarization.pyannote import WavLMMeeting, WavLMSegmentation, bundle_of
    from wavlm_meeting.diarization.pyannote_audio import MeetingAudio

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")

TRAINED = ("ami_EN2001a_000-030", "ami_EN2003a_000-030")


@pytest.fixture(autouse=True)
def _untold(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep pyannote.audio from reporting its use."""
    monkeypatch.setenv("PYANNOTE_METRICS_ENABLED", "false")


class Meetings(SpeakerDiarizationProtocol):
    """Meetings of the corpus, as a protocol of pyannote.database."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self.name = "Corpus.SpeakerDiarization.Meetings"

    def train_iter(self) -> Iterator[dict[str, Any]]:
        """Give the recordings and their references."""
        return self._files(TRAINED)

    def development_iter(self) -> Iterator[dict[str, Any]]:
        """Give another one."""
        return self._files(("ami_EN2006a_000-030",))

    def _files(self, names: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        for name in names:
            (annotation,) = read_rttm(self.folder / f"{name}.rttm").values()
            yield {
                "uri": name,
                "database": "Corpus",
                "scope": "file",
                "audio": self.folder / f"{name}.flac",
                "annotation": annotation,
                "annotated": Timeline([Segment(0, 30)]),
            }


def train(model: WavLMSegmentation, steps: int) -> lightning.Trainer:
    """Train a model for a few steps, as a program of pyannote.audio does."""
    torch.manual_seed(1)
    trainer = lightning.Trainer(
        max_epochs=1,
        limit_train_batches=steps,
        limit_val_batches=1,
        num_sanity_val_steps=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model)
    return trainer


@pytest.fixture(scope="module")
def tiny() -> Bundle:
    """Give the embedded model."""
    return load_model("tiny")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny: Bundle) -> Path:
    """Give the embedded model as a folder that pyannote.audio loads."""
    path = tmp_path_factory.mktemp("pyannote") / "tiny"
    write_pyannote(path, tiny)
    return path


def test_the_model_says_what_ours_says(tiny: Bundle) -> None:
    """In pyannote.audio the same weights give the same classes, one for each frame it counts."""
    model = WavLMSegmentation.from_bundle("tiny").eval()
    pipeline = load_pipeline("tiny", "cpu")
    waveforms = torch.randn(2, 1, 51_200, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        found = model(waveforms)
        states = pipeline.encoder(waveforms[:, 0]).hidden_states
        expected = pipeline.heads.segmentation(states)
    torch.testing.assert_close(found, expected)
    assert found.shape == (2, model.num_frames(51_200), model.dimension)
    assert model.specifications.num_powerset_classes == model.dimension == 11
    field = model.receptive_field
    hop_s = tiny.card.encoder.hop / 16_000
    assert field.step == pytest.approx(hop_s)
    assert field.duration == pytest.approx(tiny.card.encoder.receptive_field / 16_000)
    assert abs(field.start) <= 1 / 16_000


def test_vector_clustering_has_classes_too(tiny: Bundle) -> None:
    """The form `eend-vc` gives a powerset whose marginals are its independent activities."""
    heads = {
        "form": "eend-vc",
        "local_speakers": 3,
        "at_once": 3,
        "transformer_hidden": 32,
        "transformer_layers": 1,
        "transformer_heads": 4,
        "transformer_ffn": 48,
        "embedding_size": 8,
    }
    torch.manual_seed(3)
    model = WavLMSegmentation(tiny.card.encoder.model_dump(mode="json"), heads).eval()
    waveforms = torch.randn(1, 1, 32_000)
    with torch.no_grad():
        classes = model(waveforms).exp()
        logits, _ = model.head(model.encoder(waveforms[:, 0]).hidden_states)
    assert classes.shape[-1] == 2**3
    torch.testing.assert_close(classes @ model.sets, logits.sigmoid(), atol=1e-5, rtol=1e-4)


def test_training_on_a_protocol_goes_back_to_a_bundle(
    tmp_path: Path, shared_dir: Path, tiny: Bundle
) -> None:
    """A task of pyannote's trains the head; a bundle has it, and nothing else in it has changed."""
    protocol = Meetings(shared_dir / "corpus/meetings")
    task = SpeakerDiarization(
        protocol,
        duration=3.2,
        max_speakers_per_chunk=4,
        max_speakers_per_frame=2,
        batch_size=4,
        num_workers=0,
    )
    model = WavLMSegmentation.from_bundle("tiny", task)
    model.freeze_by_name("encoder")
    trainer = train(model, steps=3)
    assert np.isfinite(float(trainer.callback_metrics["loss/train"]))
    assert 0 < float(trainer.callback_metrics["DiarizationErrorRate"]) < 1.5
    trained = bundle_of(model, tiny)
    write_bundle(tmp_path / "trained", trained.state, trained.card)
    changed = {
        f"{part}.{name}"
        for part, state in trained.state.items()
        for name, tensor in state.items()
        if not torch.equal(tensor, tiny.state[part][name])
    }
    assert changed
    assert all(name.startswith("diarization.segmentation.") for name in changed)
    assert trained.card.figures == {}
    pipeline = load_pipeline(str(tmp_path / "trained"), "cpu")
    waveforms = torch.randn(1, 1, 32_000)
    with torch.no_grad():
        states = pipeline.encoder(waveforms[:, 0]).hidden_states
        torch.testing.assert_close(pipeline.heads.segmentation(states), model.eval()(waveforms))

    trainer.save_checkpoint(tmp_path / "model.ckpt")
    again = Model.from_pretrained(tmp_path / "model.ckpt").eval()
    with torch.no_grad():
        torch.testing.assert_close(again(waveforms), model(waveforms))


def test_other_numbers_of_speakers_and_a_trained_encoder(shared_dir: Path, tiny: Bundle) -> None:
    """A task with 3 speakers gets its own last layer, and who trained the encoder is warned."""
    protocol = Meetings(shared_dir / "corpus/meetings")
    task = SpeakerDiarization(
        protocol, duration=3.2, max_speakers_per_chunk=3, batch_size=2, num_workers=0
    )
    model = WavLMSegmentation.from_bundle("tiny", task)
    before = model.head.hidden.weight.detach().clone()
    train(model, steps=1)
    assert model.dimension == 7
    assert model.head.classes.out_features == 7
    assert 0 < float((model.head.hidden.weight - before).abs().max()) < 2e-3  # kept, then one step
    with pytest.warns(WavLMMeetingWarning, match="the encoder was trained"):
        trained = bundle_of(model, tiny)
    assert trained.card.heads["diarization"]["local_speakers"] == 3
    assert trained.state["diarization"]["segmentation.classes.bias"].shape == (7,)


def test_a_plain_program_runs_our_folder(folder: Path, conversation: Path) -> None:
    """Pipeline.from_pretrained gives the turns that our own call gives, and voices to them."""
    steps = []

    def hook(step: str, artifact: object, **more: object) -> None:  # noqa: ARG001
        steps.append((step, more.get("completed"), more.get("total")))

    pipeline = Pipeline.from_pretrained(folder)
    output = pipeline(conversation, hook=hook)
    ours = load_pipeline("tiny", "cpu")(conversation)
    assert output.speaker_diarization == ours.to_annotation()
    assert output.speaker_diarization.uri == "conversation"
    assert not output.exclusive_speaker_diarization.get_overlap()
    labels = output.speaker_diarization.labels()
    assert output.speaker_embeddings.shape == (len(labels), 192)
    np.testing.assert_allclose(np.linalg.norm(output.speaker_embeddings, axis=1), 1, atol=1e-5)
    apart = output.speaker_embeddings[0] @ output.speaker_embeddings[1]
    assert apart < 0.8
    assert ("segmentation", 30, 30) in steps
    assert output.serialize()["diarization"]


def test_speakers_and_samples_are_asked_for_as_in_pyannote(
    folder: Path, conversation: Path
) -> None:
    """Counts, samples in memory at any rate, channels and the old form of the output all work."""
    samples, rate = soundfile.read(conversation, dtype="float32")
    pipeline = Pipeline.from_pretrained(folder)
    one = pipeline({"audio": conversation, "uri": "it"}, num_speakers=1).speaker_diarization
    assert one.labels() == ["SPEAKER_00"]
    stereo = np.stack([np.zeros_like(samples), samples])
    file = {"waveform": torch.from_numpy(stereo), "sample_rate": rate, "channel": 1}
    legacy = WavLMMeeting(folder, legacy=True)
    assert legacy(file) == legacy({"waveform": file["waveform"][1:], "sample_rate": rate})
    assert len(legacy(file).labels()) == 2
    with pytest.raises(SettingsError):
        pipeline(conversation, min_speakers=3, max_speakers=2)


def test_parameters_are_the_cards_until_they_are_tuned(folder: Path, conversation: Path) -> None:
    """What pyannote.pipeline sets is what the pipeline does."""
    pipeline = WavLMMeeting(folder, legacy=True)
    settings = load_pipeline("tiny", "cpu").settings
    assert pipeline.parameters(instantiated=True)["onset"] == settings.onset
    tuned = {**pipeline.default_parameters(), "min_duration_on": 1.0}
    turns = pipeline.instantiate(tuned)(conversation)
    assert turns
    assert min(segment.duration for segment in turns.itersegments()) >= 0.95


def test_the_threshold_is_that_of_the_way_voices_become_speakers(conversation: Path) -> None:
    """Of a model with VBx, too, whose threshold is kept elsewhere: the lower, the more speakers."""
    pipeline = WavLMMeeting("mini", legacy=True)
    assert pipeline.inner.settings.clustering.method == "vbx"
    own = pipeline.default_parameters()
    assert own["threshold"] == pipeline.inner.settings.clustering.vbx.threshold
    # VBx takes nobody away then.
    free = {"vbx.speaker_factor": 0.01, "least_speaker_s": 0.0}
    pipeline.inner.settings = with_values(pipeline.inner.settings, free)
    many = pipeline.instantiate({**own, "threshold": 0.05})(conversation)
    few = pipeline.instantiate({**own, "threshold": 1.99})(conversation)
    assert len(few.labels()) < len(many.labels())


def test_a_folder_becomes_a_pipeline_where_it_stands(tmp_path: Path, tiny: Bundle) -> None:
    """config.yaml is added to a bundle, which stays one; a model without turns is refused."""
    write_bundle(tmp_path / "model", tiny.state, tiny.card)
    write_pyannote_config(tmp_path / "model")
    assert load_model(tmp_path / "model").card.heads == tiny.card.heads
    assert not is_pyannote(str(tmp_path / "model"))
    alone = tiny.encoder_only()
    with pytest.raises(CheckpointError, match="no diarization heads"):
        write_pyannote(tmp_path / "encoder", alone)
    assert not (tmp_path / "encoder").exists()


def test_pieces_are_those_of_the_whole(conversation: Path) -> None:
    """A piece is what the whole recording has there, padded with zeros where asked to."""
    audio = MeetingAudio()
    whole, rate = audio(conversation)
    piece, _ = audio.crop(conversation, Segment(1.25, 3.75))
    assert rate == 16_000
    torch.testing.assert_close(piece, whole[:, 20_000:60_000], atol=1e-6, rtol=0)
    padded, _ = audio.crop(conversation, Segment(-0.5, 0.5), mode="pad")
    assert padded.shape == (1, 16_000)
    assert not padded[:, :8000].any()
    torch.testing.assert_close(padded[:, 8000:], whole[:, :8000], atol=1e-6, rtol=0)
    with pytest.raises(ValueError, match="not within"):
        audio.crop(conversation, Segment(29.5, 30.5))
    assert audio.get_duration(conversation) == 30.0
