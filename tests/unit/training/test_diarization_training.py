"""Training of diarization on manifests: as if never stopped, and what it writes diarizes."""

from pathlib import Path
from typing import Any

import pytest
import torch

from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

pytest.importorskip("lightning", reason="training needs the extra 'train'")
pytest.importorskip("speechbrain", reason="training needs the extra 'train'")

from small_conversations import single_voice, small_conversation
from wavlm_meeting.config import parse_settings
from wavlm_meeting.diarization import DiarizationPipeline, load_pipeline
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.training.diarization_recordings import write_conversations
from wavlm_meeting.training.diarization_training import (
    DiarizationTrainingSettings,
    load_trained,
    new_pipeline,
    train_diarization,
    write_pipeline,
)
from wavlm_meeting.training.log import read_log

CONFIG = WavLMConfig(
    conv_layers=((16, 400, 160), (16, 2, 2)), width=16, layers=2, heads=2, ffn=16,
    position_kernel=16, position_groups=2, layer_drop=0.3,
)  # fmt: skip
HEADS = {
    "segmentation_hidden": 8, "embedding_hidden": 8, "embedding_size": 6, "local_speakers": 3,
    "target_width": 8, "target_layers": 1, "window_s": 2.0, "hop_s": 1.0,
}  # fmt: skip
VALUES: dict[str, dict[str, Any]] = {
    "task": {
        "steps": 4, "learning_rate": 1e-3, "teacher_weight": 0.0, "linking_weight": 1.0,
        "least_speech": 5,
    },
    "batches": {
        "conversations": 2, "windows": 2, "simulated": 0.5, "speaker_shares": [0.5, 0.5],
    },
    "trainer": {"checkpoint_steps": 2, "log_steps": 1, "workers": 0},
}  # fmt: skip


def settings_of(**changes: dict[str, Any]) -> DiarizationTrainingSettings:
    """Return the settings above with some changed."""
    values = {part: {**own, **changes.get(part, {})} for part, own in VALUES.items()}
    return parse_settings(values, DiarizationTrainingSettings, "here")


def pipeline_of(**changes: Any) -> DiarizationPipeline:
    """Build a small encoder with new heads."""
    torch.manual_seed(0)
    settings = parse_settings({**HEADS, **changes}, DiarizationSettings, "here")
    return new_pipeline(WavLM(CONFIG), settings, seed=3, name="small")


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write manifests of two conversations and of two voices."""
    root = tmp_path_factory.mktemp("material")
    cuts, speech = root / "cuts.jsonl.gz", root / "speech.jsonl.gz"
    write_conversations([small_conversation(root / f"{n}.wav") for n in ("one", "three")], cuts)
    voices = [single_voice(root / f"v{n}.wav", f"s{n}", 0.1 + n / 20) for n in range(2)]
    write_conversations(voices, speech)
    return {"cuts": cuts, "speech": speech}


def weights_of(pipeline: DiarizationPipeline) -> dict[str, torch.Tensor]:
    """Return all weights."""
    return {
        f"{part}.{name}": weight
        for part, module in (("encoder", pipeline.encoder), ("heads", pipeline.heads))
        for name, weight in module.state_dict().items()
    }


def test_a_stopped_run_equals_an_unbroken_one(material: dict[str, Path], tmp_path: Path) -> None:
    """Weights and log are those of a run that was never stopped, dropout and all."""
    unbroken = pipeline_of()
    train_diarization(unbroken, tmp_path / "whole", settings_of(), **material)

    def stop(done: int, _total: int, _logged: object) -> None:
        if done == 3:  # after the checkpoint of step 2
            raise KeyboardInterrupt

    stopped = pipeline_of()
    with pytest.raises(KeyboardInterrupt):
        train_diarization(stopped, tmp_path / "parts", settings_of(), report=stop, **material)
    going_on = pipeline_of()
    train_diarization(going_on, tmp_path / "parts", settings_of(), **material)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    for name, weight in weights_of(going_on).items():
        torch.testing.assert_close(weight, weights_of(unbroken)[name], rtol=0, atol=1e-7)


def test_what_is_trained_is_written_and_diarizes(material: dict[str, Path], tmp_path: Path) -> None:
    """The bundle is the trained model; a frozen encoder stays; a second training begins there."""
    before = {name: weight.clone() for name, weight in weights_of(pipeline_of()).items()}
    pipeline = pipeline_of()
    frozen = settings_of(task={"frozen": True, "steps": 2})
    train_diarization(pipeline, tmp_path / "one", frozen, **material)
    after = weights_of(pipeline)
    changed = {name for name in after if not torch.equal(after[name], before[name])}
    assert changed
    assert all(name.startswith("heads.") for name in changed)

    about = {"name": "small", "version": "1", "licence": "MIT", "description": "Small."}
    write_pipeline(tmp_path / "model", pipeline, about)
    loaded = load_pipeline(str(tmp_path / "model"), "cpu")
    assert loaded.settings == pipeline.settings
    wave = 0.1 * torch.randn(5 * 16_000)
    assert loaded(wave).turns == pipeline(wave).turns

    going_on = pipeline_of()
    once = settings_of(task={"steps": 1, "learning_rate": 1e-9})
    train_diarization(going_on, tmp_path / "two", once, start=tmp_path / "one", **material)
    for name, weight in going_on.heads.named_parameters():  # statistics of batches move on
        torch.testing.assert_close(weight.detach(), after[f"heads.{name}"], rtol=0, atol=1e-6)


def test_the_other_form_trains_on_the_same_batches(
    material: dict[str, Path], tmp_path: Path
) -> None:
    """EEND with vector clustering learns voices by class."""
    sizes = {"transformer_hidden": 8, "transformer_layers": 1, "transformer_heads": 2}
    pipeline = pipeline_of(form="eend-vc", transformer_ffn=8, **sizes)
    classes = settings_of(task={"class_weight": 0.03, "linking_weight": 0.0, "steps": 2})
    train_diarization(pipeline, tmp_path / "run", classes, **material)
    assert read_log(tmp_path / "run")[-1]["classes"] > 0


def test_mistakes(material: dict[str, Path], tmp_path: Path) -> None:
    """What is missing, and another model's training, are refused in one line."""
    with pytest.raises(SettingsError, match="no speech"):
        train_diarization(pipeline_of(), tmp_path, settings_of(), cuts=material["cuts"])
    with pytest.raises(SettingsError, match="no conversations"):
        train_diarization(pipeline_of(), tmp_path, settings_of(), speech=material["speech"])
    taught = settings_of(task={"teacher_weight": 1.0})
    with pytest.raises(SettingsError, match="teacher"):
        train_diarization(pipeline_of(), tmp_path, taught, **material)
    one = settings_of(task={"steps": 1})
    train_diarization(pipeline_of(), tmp_path / "run", one, **material)
    with pytest.raises(CheckpointError, match="another model") as caught:
        load_trained(tmp_path / "run", pipeline_of(embedding_size=7))
    assert "\n" not in str(caught.value)
