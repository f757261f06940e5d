"""Training of a speaker model on a manifest: what the recipes run, once for each stage."""

from pathlib import Path

from pydantic import Field

from wavlm_meeting.checkpoints.trainings import load_parts, load_state, read_weights, steps_done
from wavlm_meeting.config import Settings
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.training.augmentation import AugmentationSettings, Augmenter
from wavlm_meeting.training.processes import processes
from wavlm_meeting.training.progress import Progress, Report
from wavlm_meeting.training.recordings import read_recordings
from wavlm_meeting.training.speakers import SpeakerBatches, SpeakerBatchSettings
from wavlm_meeting.training.trainer import fit
from wavlm_meeting.verification.model import SpeakerModel
from wavlm_meeting.verification.task import SpeakerTask, TaskSettings

CLASSES = "classes.txt"
"""Says, in the folder of a training, whose directions were learned: a name in each line."""
CENTRES, MODEL = "classes.centres", "model"
"""What a training calls its sub-centres and the parts of its model."""


class SpeakerTrainerSettings(Settings):
    """How the work is spread and kept."""

    accumulate: int = Field(1, ge=1)
    """Batches of each device for one update of the weights."""
    checkpoint_steps: int = Field(1000, ge=1)
    """Updates from one checkpoint to the next; the last two are kept."""
    log_steps: int = Field(50, ge=1)
    """Updates from one line of the log to the next."""
    workers: int = Field(2, ge=0)
    """Processes of each device that read and render speech."""


class SpeakerTrainingSettings(Settings):
    """One stage of a speaker model's training."""

    seed: int = 1
    """Seed of classes, batches and everything drawn in a step."""
    task: TaskSettings = TaskSettings()
    """Objective and optimiser."""
    batches: SpeakerBatchSettings = SpeakerBatchSettings()
    """How batches are drawn."""
    augmentation: AugmentationSettings = AugmentationSettings()
    """What happens to speech on its way to the model."""
    trainer: SpeakerTrainerSettings = SpeakerTrainerSettings()
    """How the work is spread and kept."""


def train_speakers(
    cuts: Path,
    folder: Path,
    model: SpeakerModel,
    settings: SpeakerTrainingSettings,
    *,
    noise: Path | None = None,
    rooms: Path | None = None,
    teacher: Path | None = None,
    start: Path | None = None,
    report: Report | None = None,
) -> None:
    """Train `model` in `folder`, or go on from its last checkpoint; the model is then the trained.

    Args:
        cuts: Manifest of the speech (see `read_recordings`).
        folder: Where checkpoints and the log are written.
        model: What is trained.
        settings: All choices.
        noise: Manifest or folder of noise, music and speech for the background.
        rooms: Manifest or folder of impulse responses.
        teacher: File of a teacher's embeddings (see `SpeakerBatches`).
        start: Folder of an earlier stage, whose weights this one begins with. Classes that both
            have keep their sub-centres.
        report: Told after each batch how far it is.

    Raises:
        SettingsError: A manifest lacks something, settings do not fit each other, or `folder` holds
            a training on other speakers.
        CheckpointError: `start` holds another model.
        TrainingError: The loss is not finite.
    """
    own = settings.batches
    recordings = read_recordings(cuts, cache=own.cache)
    augmenter = Augmenter(
        settings.augmentation,
        recordings,
        None if noise is None else read_recordings(noise, cache=own.cache),
        None if rooms is None else read_recordings(rooms, cache=own.cache),
    )
    done = steps_done(folder)
    first = done * settings.trainer.accumulate
    batches = SpeakerBatches(recordings, own, augmenter, settings.seed, first, teacher)
    _check(settings, batches)
    _note_classes(folder, batches.classes, begun=done > 0)
    taught = batches.teacher_size if settings.task.teacher_weight else 0
    task = SpeakerTask(model, len(batches.classes), settings.task, taught, settings.seed)
    if start is not None and not done:
        begin_with(task, start, batches.classes)
    fit(
        task,
        batches,
        folder,
        settings.trainer,
        steps=settings.task.steps,
        gradient_clip=settings.task.gradient_clip,
        unused=True,  # layers may be dropped, and an x-vector has a layer that only its logits need
        callbacks=[] if report is None else [Progress(report)],
    )
    load_trained(folder, model)


def load_trained(folder: Path, model: SpeakerModel) -> None:
    """Load the newest weights of a training into `model`, which is then ready to embed.

    Raises CheckpointError if there are none, or they are another model's.
    """
    load_parts(folder, {MODEL: model})
    model.requires_grad_(requires_grad=False)
    model.to("cpu")


def begin_with(task: SpeakerTask, start: Path, classes: list[str]) -> None:
    """Load the weights of an earlier stage; sub-centres go by the names of the classes.

    Raises CheckpointError if `start` holds no training, or that of another model.
    """
    weights = read_weights(start)
    earlier = _read_classes(start)
    known = weights.pop(CENTRES)
    centres = task.classes.centres.detach().clone()
    if known.shape[1:] == centres.shape[1:]:
        place = {name: number for number, name in enumerate(earlier)}
        for number, name in enumerate(classes):
            if name in place:
                centres[number] = known[place[name]]
    kept = task.state_dict()
    for name in [name for name in weights if name.startswith("to_teacher.")]:
        if name not in kept or kept[name].shape != weights[name].shape:
            weights.pop(name)  # this stage has no teacher, or another
    fresh = {name: weight for name, weight in kept.items() if name.startswith("to_teacher.")}
    load_state(task, {**fresh, **weights, CENTRES: centres}, start)


def _check(settings: SpeakerTrainingSettings, batches: SpeakerBatches) -> None:
    """Refuse parts of the objective that nothing is given for."""
    if settings.task.pair_weight and settings.batches.utterances < 2:
        raise SettingsError(
            "pair_weight is above 0, but batches hold one crop of a speaker: set "
            "batches.utterances to 2 or more, or pair_weight to 0."
        )
    if settings.task.teacher_weight and not batches.teacher_size:
        raise SettingsError(
            "teacher_weight is above 0, but there is no teacher: give its embeddings, or set "
            "teacher_weight to 0."
        )


def _note_classes(folder: Path, classes: list[str], *, begun: bool) -> None:
    """Write whose directions are learned; raises SettingsError if it is going on with others."""
    if begun and _read_classes(folder) != classes:
        raise SettingsError(
            f"{folder}: holds a training on other speakers or speeds; go on with its own manifest "
            "and settings, or name another folder."
        )
    if processes()[0] == 0 and not begun:
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(folder / CLASSES) as temporary:
            temporary.write_text("".join(f"{name}\n" for name in classes), encoding="utf-8")


def _read_classes(folder: Path) -> list[str]:
    """Read whose directions a training learns; raises CheckpointError if it does not say."""
    try:
        return (folder / CLASSES).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise CheckpointError(
            f"{folder}: not the folder of a speaker training; {CLASSES} is missing."
        ) from None
