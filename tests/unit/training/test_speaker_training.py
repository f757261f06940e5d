"""Training of speaker models on a manifest: it goes on as if never stopped, and hands on."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from lhotse import CutSet, Recording, SupervisionSegment

from wavlm_meeting.checkpoints.trainings import read_weights, steps_done
from wavlm_meeting.config import parse_settings
from wavlm_meeting.heads.ecapa import EcapaConfig
from wavlm_meeting.training.log import read_log
from wavlm_meeting.training.speaker_training import (
    SpeakerTrainingSettings,
    begin_with,
    load_trained,
    train_speakers,
)
from wavlm_meeting.verification.model import SpeakerConfig, SpeakerModel, build_speaker_model
from wavlm_meeting.verification.task import SpeakerTask, TaskSettings

RATE = 16_000
CONFIG = WavLMConfig(
    conv_layers=((16, 10, 5), (16, 8, 8), (16, 8, 8)), width=16, layers=2, heads=2, ffn=16,
    position_kernel=16, position_groups=2, layer_drop=0.3,
)  # fmt: skip
HEAD = EcapaConfig(channels=8, aggregated=12, scale=2, squeezed=4, attention=4, embedding=6)
VALUES: dict[str, dict[str, Any]] = {
    "task": {
        "steps": 4, "freeze_encoder": False, "pair_weight": 0.5, "sub_centres": 2, "top_k": 1,
        "margin_rise": (0.0, 0.0),
    },
    "batches": {"speakers": 3, "utterances": 2, "crop_s": 0.5},
    "augmentation": {"untouched": 0.2, "noise": 0.8, "codec": 0.5},
    "trainer": {"checkpoint_steps": 2, "log_steps": 1, "workers": 0},
}  # fmt: skip


def settings_of(**changes: dict[str, Any]) -> SpeakerTrainingSettings:
    """Return the settings above with some changed."""
    merged = {part: {**own, **changes.get(part, {})} for part, own in VALUES.items()}
    return parse_settings(merged, SpeakerTrainingSettings, "here")


def small_model(seed: int = 0) -> SpeakerModel:
    """Build an encoder and a head."""
    torch.manual_seed(seed)
    return build_speaker_model(WavLM(CONFIG), SpeakerConfig(ecapa=HEAD))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write speech of four speakers, noise and responses; a manifest and the teacher beside it."""
    root = tmp_path_factory.mktemp("corpus")
    rng = np.random.default_rng(0)
    for folder in ("speech", "noise", "rooms"):
        (root / folder).mkdir()
    with CutSet.open_writer(root / "cuts.jsonl.gz") as writer:
        for number in range(8):
            path = root / f"speech/{number}.wav"
            soundfile.write(path, 0.1 * rng.standard_normal(RATE), RATE)
            cut = Recording.from_file(path, recording_id=str(number)).to_cut()
            cut.supervisions = [
                SupervisionSegment("a", cut.id, 0, cut.duration, speaker=f"s{number // 2}")
            ]
            writer.write(cut)
    soundfile.write(root / "noise/a.wav", 0.1 * rng.standard_normal(RATE), RATE)
    soundfile.write(root / "rooms/a.wav", np.eye(1, 800)[0], RATE)
    np.save(root / "teacher.npy", rng.standard_normal((8, 3, 7)).astype(np.float32))
    return root


def train(corpus: Path, folder: Path, *, start: Path | None = None, **changes: Any) -> SpeakerModel:
    """Train with everything that can be given."""
    model = small_model()
    train_speakers(
        corpus / "cuts.jsonl.gz", folder, model,
        settings_of(**changes),
        noise=corpus / "noise", rooms=corpus / "rooms", teacher=corpus / "teacher.npy",
        start=start,
    )  # fmt: skip
    return model


@pytest.mark.parametrize("workers", [0, 1])
def test_a_run_that_goes_on_is_the_run_that_was_never_stopped(
    corpus: Path, tmp_path: Path, workers: int
) -> None:
    """Stopped at the third of four updates of two batches each, after a checkpoint of two."""
    trainer = {"workers": workers, "accumulate": 2}
    task = {"teacher_weight": 1.0}
    whole = train(corpus, tmp_path / "whole", trainer=trainer, task=task)
    # A run that is stopped is one of as many steps: the schedule looks to the end.
    stopped = _Stop(3)
    with pytest.raises(KeyboardInterrupt):
        train_speakers(
            corpus / "cuts.jsonl.gz", tmp_path / "parts", small_model(),
            settings_of(trainer=trainer, task=task), noise=corpus / "noise",
            rooms=corpus / "rooms", teacher=corpus / "teacher.npy", report=stopped,
        )  # fmt: skip
    assert steps_done(tmp_path / "parts") == 2
    torch.manual_seed(999)
    parts = train(corpus, tmp_path / "parts", trainer=trainer, task=task)
    assert steps_done(tmp_path / "parts") == 4
    losses = [
        [[line[name] for name in line if name.startswith("loss/")] for line in read_log(folder)]
        for folder in (tmp_path / "whole", tmp_path / "parts")
    ]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 4
    assert len(losses[0][0]) == 4
    expected, found = read_weights(tmp_path / "whole"), read_weights(tmp_path / "parts")
    assert expected.keys() == found.keys()
    for name, weight in expected.items():
        assert found[name].equal(weight), name
    for ours, theirs in zip(parts.state_dict().values(), whole.state_dict().values(), strict=True):
        assert ours.equal(theirs)


class _Stop:
    """Stops a training as a user does, once it has made so many updates."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def __call__(self, done: int, *_rest: object) -> None:
        if done == self.steps:
            raise KeyboardInterrupt


def test_the_model_is_the_trained_one_afterwards(corpus: Path, tmp_path: Path) -> None:
    """Also where nothing was left to do, and when loaded from the folder by another process."""
    trained = train(corpus, tmp_path)
    again = train(corpus, tmp_path)
    loaded = small_model(seed=5)
    load_trained(tmp_path, loaded)
    wave = torch.randn(RATE)
    expected = trained.embed(wave)
    assert not expected.allclose(small_model().eval().embed(wave))
    for model in (again, loaded):
        assert model.embed(wave).equal(expected)
        assert not model.training
        assert not any(parameter.requires_grad for parameter in model.parameters())


def test_classes_carry_over_by_name(corpus: Path, tmp_path: Path) -> None:
    """The next stage begins with weights and sub-centres; speakers it alone has begin anew."""
    train(corpus, tmp_path / "first")
    names = (tmp_path / "first/classes.txt").read_text().splitlines()
    assert names[:5] == ["s0", "s1", "s2", "s3", "s0 x0.9"]
    weights = read_weights(tmp_path / "first")
    later = ["new", "s2", "s0 x0.9"]
    task = SpeakerTask(small_model(3), 3, TaskSettings(sub_centres=2), teacher_size=7)
    before = task.classes.centres.detach().clone()
    begin_with(task, tmp_path / "first", later)
    centres = weights["classes.centres"]
    assert task.classes.centres[1].equal(centres[2])
    assert task.classes.centres[2].equal(centres[4])
    assert task.classes.centres[0].equal(before[0])
    for name, weight in task.model.state_dict().items():
        assert weight.equal(weights[f"model.{name}"]), name


def test_a_stage_begins_with_the_one_before(corpus: Path, tmp_path: Path) -> None:
    """With a learning rate of next to nothing, the second stage ends where the first did."""
    first = train(corpus, tmp_path / "first")
    task = {"steps": 1, "learning_rate": 1e-12, "teacher_weight": 1.0, "freeze_encoder": True}
    train(corpus, tmp_path / "second", start=tmp_path / "first", task=task)
    learned = read_weights(tmp_path / "second")
    for name, parameter in first.named_parameters():
        torch.testing.assert_close(learned[f"model.{name}"], parameter, atol=1e-7, rtol=0)


def test_mistakes_are_said_before_training(corpus: Path, tmp_path: Path) -> None:
    """What does not fit together, and folders that hold something else."""
    cuts = corpus / "cuts.jsonl.gz"
    with pytest.raises(SettingsError, match=r"set batches\.utterances to 2"):
        train(corpus, tmp_path / "a", batches={"utterances": 1})
    with pytest.raises(SettingsError, match="teacher_weight is above 0, but there is no teacher"):
        train_speakers(
            cuts, tmp_path / "a", small_model(), settings_of(task={"teacher_weight": 1.0})
        )
    assert not (tmp_path / "a").exists()
    train(corpus, tmp_path / "a", task={"steps": 1})
    with pytest.raises(SettingsError, match="holds a training on other speakers"):
        train_speakers(cuts, tmp_path / "a", small_model(), settings_of(batches={"speeds": (1.0,)}))
    with pytest.raises(CheckpointError, match="no checkpoint there yet"):
        train(corpus, tmp_path / "b", start=tmp_path / "none")
    other = build_speaker_model(
        WavLM(CONFIG), SpeakerConfig(ecapa=HEAD.model_copy(update={"embedding": 5}))
    )
    with pytest.raises(CheckpointError, match="holds the training of another model"):
        load_trained(tmp_path / "a", other)
    with pytest.raises(SettingsError, match="margin_rise"):
        settings_of(task={"margin_rise": (0.5, 0.2)})


def test_two_processes_do_what_one_does_with_both_shares(corpus: Path, tmp_path: Path) -> None:
    """The real thing, with gloo: after four updates the weights are those of one process."""
    script, torchrun = Path(__file__).with_name("speaker_processes.py"), "torchrun"
    settings = settings_of(trainer={"workers": 0}, batches={"speakers": 2})
    for name, start in (
        ("one", [sys.executable]),
        ("two", [str(Path(sys.executable).with_name(torchrun)), "--standalone",
                 "--nproc-per-node=2"]),
    ):  # fmt: skip
        done = subprocess.run(
            [*start, str(script), str(corpus / "cuts.jsonl.gz"), str(tmp_path / name),
             settings.model_dump_json()],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
    expected, found = read_weights(tmp_path / "one"), read_weights(tmp_path / "two")
    statistics = ("running_mean", "running_var", "num_batches_tracked")  # each process has its own
    trained = [name for name in expected if not name.endswith(statistics)]
    assert len(trained) > 50
    for name in trained:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-3, atol=1e-5, msg=name)
