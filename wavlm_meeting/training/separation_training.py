"""Training of a separation head on manifests: what recipes run."""

from pathlib import Path

import torch

from wavlm_meeting.audio.simulate import Samples
from wavlm_meeting.checkpoints.trainings import load_parts, steps_done
from wavlm_meeting.config import Settings
from wavlm_meeting.separation.model import SeparationHead, build_head
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.separation.task import SeparationTask, TaskSettings
from wavlm_meeting.training.progress import Progress, Report
from wavlm_meeting.training.recordings import Recordings, read_recordings
from wavlm_meeting.training.seeds import StepSeeds
from wavlm_meeting.training.separation_data import MixtureBatches, MixtureBatchSettings
from wavlm_meeting.training.separation_rooms import RoomPool
from wavlm_meeting.training.separation_speech import read_speech
from wavlm_meeting.training.trainer import TrainerSettings, fit
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

DECODED = "decoded"
"""Folder of decoded speech below that of a training, where no other is given."""


class SeparationTrainingSettings(Settings):
    """One training of a head, and of the encoder where it is not frozen."""

    seed: int = 1
    """Seed of new weights, batches and everything drawn in a step."""
    task: TaskSettings = TaskSettings()
    """Objective and optimiser."""
    batches: MixtureBatchSettings = MixtureBatchSettings()
    """How batches are drawn."""
    trainer: TrainerSettings = TrainerSettings()
    """How the work is spread and kept."""


def new_head(encoder: WavLMConfig, settings: SeparationSettings, seed: int) -> SeparationHead:
    """Return a new head for an encoder of these sizes, the same for the same seed."""
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return build_head(encoder, settings)


def train_separation(
    encoder: WavLM,
    head: SeparationHead,
    folder: Path,
    settings: SeparationTrainingSettings,
    *,
    speech: Path,
    noise: Path | None = None,
    rooms: Path | None = None,
    decoded: Path | None = None,
    start: Path | None = None,
    report: Report | None = None,
) -> None:
    """Train a head in `folder`, or go on from the last checkpoint; it then has what is learned.

    Args:
        encoder: What the head listens with; it is not run for a head without features.
        head: What is trained.
        folder: Where checkpoints and the log are written.
        settings: All choices.
        speech: Manifest of recordings of one talker each.
        noise: Manifest or folder of noise for the background.
        rooms: Folder of simulated rooms (`separation_rooms`); without it, rooms are statistical.
        decoded: Where decoded speech is kept for other trainings too; None is in `folder`.
        start: Folder of an earlier training of the same head, whose weights this one begins with.
        report: Told after each batch how far it is.

    Raises:
        SettingsError: A manifest lacks something, or settings do not fit each other.
        CheckpointError: `start` or `folder` holds the training of another model.
        AudioError: A recording cannot be read.
    """
    done = steps_done(folder)
    said = read_speech(speech, decoded or folder / DECODED)
    sounds = None if noise is None else read_recordings(noise, cache=True)
    batches = MixtureBatches(
        said.voices,
        said.read,
        settings.batches,
        settings.seed,
        first=done * settings.trainer.accumulate,
        noises=[] if sounds is None else [(n, sounds.length(n)) for n in range(len(sounds))],
        noise=None if sounds is None else Sounds(sounds),
        pool=None if rooms is None else RoomPool(rooms),
    )
    listens = encoder if head.features is not None else None
    if start is not None and not done:
        load_trained(start, listens, head)
    task = SeparationTask(listens, head, settings.task)
    task.train()
    fit(
        task,
        batches,
        folder,
        settings.trainer,
        steps=settings.task.steps,
        gradient_clip=settings.task.gradient_clip,
        callbacks=[
            StepSeeds(settings.seed, settings.trainer.accumulate),
            *([] if report is None else [Progress(report)]),
        ],
    )
    load_trained(folder, listens, head)


class Sounds:
    """Whole recordings by their index, for the background."""

    def __init__(self, recordings: Recordings) -> None:
        self.recordings = recordings

    def __call__(self, index: int) -> Samples:
        """Return all samples of a recording."""
        return self.recordings.read(index, 0, self.recordings.length(index))


def load_trained(folder: Path, encoder: WavLM | None, head: SeparationHead) -> None:
    """Load the newest weights of a training into encoder and head, ready to run.

    Raises CheckpointError if there are none, or they are another model's.
    """
    load_parts(folder, {"head": head} if encoder is None else {"encoder": encoder, "head": head})
