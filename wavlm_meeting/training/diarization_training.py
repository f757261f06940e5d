"""Training of a model that diarizes on manifests: what recipes and fine-tuning run."""

from pathlib import Path
from typing import Any

import torch

from wavlm_meeting.checkpoints.bundle import ENCODER, write_bundle
from wavlm_meeting.checkpoints.card import Card, Storage
from wavlm_meeting.checkpoints.trainings import load_parts, steps_done
from wavlm_meeting.config import Settings
from wavlm_meeting.diarization.load import PART
from wavlm_meeting.diarization.model import build_heads
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.diarization.task import TaskSettings, build_task
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.training.augmentation import AugmentationSettings, Augmenter
from wavlm_meeting.training.diarization_data import ConversationBatches, ConversationBatchSettings
from wavlm_meeting.training.diarization_recordings import read_conversations
from wavlm_meeting.training.progress import Progress, Report
from wavlm_meeting.training.recordings import gather, read_recordings
from wavlm_meeting.training.seeds import StepSeeds
from wavlm_meeting.training.trainer import TrainerSettings, fit
from wavlm_meeting.wavlm.model import WavLM


class DiarizationTrainingSettings(Settings):
    """One training of encoder and heads."""

    seed: int = 1
    """Seed of new weights, batches and everything drawn in a step."""
    task: TaskSettings = TaskSettings(
        learning_rate=1e-4,
        first_convolution=0.03,
        class_weight=0.0,
        teacher_weight=0.0,
        linking_weight=1.0,
    )
    """Objective and optimiser. There is no teacher here. `linking_weight` makes voices of one
    speaker of a recording alike, `class_weight` those of one speaker anywhere."""
    batches: ConversationBatchSettings = ConversationBatchSettings()
    """How batches are drawn."""
    augmentation: AugmentationSettings = AugmentationSettings(
        untouched=0.5, room=0.2, babble=0.0, noise_db=(5.0, 25.0), music_db=(10.0, 25.0)
    )
    """What happens to windows of real recordings on their way to the model: they have rooms and
    noise already. Babble would be speech that no reference knows of."""
    trainer: TrainerSettings = TrainerSettings()
    """How the work is spread and kept."""


def new_pipeline(
    encoder: WavLM, settings: DiarizationSettings, seed: int, name: str = "untitled"
) -> DiarizationPipeline:
    """Return an encoder with new heads, which are the same for the same seed."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        heads = build_heads(encoder.config.layers, encoder.config.width, settings)
    return DiarizationPipeline(encoder, heads, settings, name, "")


def train_diarization(
    pipeline: DiarizationPipeline,
    folder: Path,
    settings: DiarizationTrainingSettings,
    *,
    cuts: Path | None = None,
    speech: Path | None = None,
    noise: Path | None = None,
    rooms: Path | None = None,
    start: Path | None = None,
    report: Report | None = None,
) -> None:
    """Train a pipeline in `folder`, or go on from the last checkpoint; it then has what is learned.

    Args:
        pipeline: Encoder and heads that are trained.
        folder: Where checkpoints and the log are written.
        settings: All choices.
        cuts: Manifest of conversations with references.
        speech: Manifest of recordings of one speaker each, which conversations are simulated from.
        noise: Manifest or folder of noise and music for the background.
        rooms: Manifest or folder of impulse responses.
        start: Folder of an earlier training of the same model, whose weights this one begins with.
        report: Told after each batch how far it is.

    Raises:
        SettingsError: A manifest lacks something, or settings do not fit each other.
        CheckpointError: `start` or `folder` holds the training of another model.
        AudioError: A recording cannot be read.
    """
    _check(settings, cuts, speech)
    done = steps_done(folder)
    batches = ConversationBatches(
        [] if cuts is None else read_conversations(cuts),
        [] if speech is None else read_conversations(speech),
        settings.batches,
        _augmenter(settings.augmentation, noise, rooms),
        pipeline.encoder.config,
        pipeline.settings.local_speakers,
        pipeline.settings.window_s,
        settings.seed,
        first=done * settings.trainer.accumulate,
    )
    if start is not None and not done:
        load_trained(start, pipeline)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(settings.seed)
        task = build_task(pipeline.encoder, pipeline.heads, len(batches.classes), settings.task)
    task.train()
    if settings.task.frozen:
        task.encoder.eval()
    fit(
        task,
        batches,
        folder,
        settings.trainer,
        steps=settings.task.steps,
        gradient_clip=settings.task.gradient_clip,
        unused=True,  # what a batch gives nothing to learn from has no gradient
        callbacks=[
            StepSeeds(settings.seed, settings.trainer.accumulate),
            *([] if report is None else [Progress(report)]),
        ],
    )
    load_trained(folder, pipeline)


def load_trained(folder: Path, pipeline: DiarizationPipeline) -> None:
    """Load the newest weights of a training into a pipeline of the same sizes, ready to run.

    Raises CheckpointError if there are none, or they are another model's.
    """
    load_parts(folder, {"encoder": pipeline.encoder, "heads": pipeline.heads})


def write_pipeline(
    target: Path, pipeline: DiarizationPipeline, about: dict[str, Any], storage: Storage = "float32"
) -> Card:
    """Write a bundle that every command takes, at once or not at all.

    `about` is what the card says: name, version, licence, description, training, figures. Raises
    CheckpointError if weights are not finite, or what stands at `target` is no model.
    """
    heads = {PART: pipeline.settings.model_dump()}
    card = Card.model_validate({**about, "encoder": pipeline.encoder.config, "heads": heads})
    state = {ENCODER: pipeline.encoder.state_dict(), PART: pipeline.heads.state_dict()}
    return write_bundle(target, state, card, storage)


def _augmenter(settings: AugmentationSettings, noise: Path | None, rooms: Path | None) -> Augmenter:
    """Return what windows go through; without noise there is none."""
    if noise is None:
        settings = settings.model_copy(update={"noise": 0.0})
    sounds = None if noise is None else read_recordings(noise)
    responses = None if rooms is None else read_recordings(rooms)
    return Augmenter(settings, sounds or gather([]), sounds, responses)


def _check(settings: DiarizationTrainingSettings, cuts: Path | None, speech: Path | None) -> None:
    """Refuse shares of what is not given, and parts of the objective without targets."""
    if settings.batches.simulated < 1 and cuts is None:
        raise SettingsError("no conversations to train on: give a manifest, or set simulated to 1.")
    if settings.batches.simulated and speech is None:
        raise SettingsError("simulated is above 0, and there is no speech: give some, or set it 0.")
    if settings.task.teacher_weight:
        raise SettingsError("teacher_weight is above 0, and there is no teacher here: set it to 0.")
