"""Stage 2: train encoder and heads together on conversations drawn on the fly."""

import logging
from pathlib import Path

import torch

from wavlm_meeting.checkpoints.folders import CARD
from wavlm_meeting.checkpoints.trainings import read_weights, steps_done
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.model import DiarizationHeads
from wavlm_meeting.diarization.task import DiarizationTask
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.data import WindowBatches
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.training.trainer import fit
from wavlm_meeting.wavlm.filterbank import start_as_filterbank
from wavlm_meeting.wavlm.model import WavLM

log = logging.getLogger(__name__)


def build_task(settings: TinySettings, classes: int) -> DiarizationTask:
    """Return encoder and heads at their start, seeded.

    Raises SettingsError for a frontend that cannot start as a filterbank.
    """
    torch.manual_seed(settings.seed)
    encoder = WavLM(settings.encoder, attention="dense")
    start_as_filterbank(encoder.frontend)
    heads = DiarizationHeads(
        settings.encoder.layers, settings.encoder.width, **settings.diarization.head_sizes()
    )
    return DiarizationTask(encoder, heads, classes, settings.task)


def begin_with(task: DiarizationTask, start: Path) -> None:
    """Take over the weights of an earlier round: of a training's folder, or of a bundle.

    Parts that the earlier round has not, or has in another size, stay as they are: heads may come
    in between rounds.
    """
    if (start / CARD).is_file():
        pipeline = load_pipeline(str(start), "cpu")
        parts = {"encoder": pipeline.encoder, "heads": pipeline.heads}
        earlier = {
            f"{name}.{key}": value
            for name, part in parts.items()
            for key, value in part.state_dict().items()
        }
    else:
        earlier = read_weights(start)
    own = task.state_dict()
    fitting = {
        key: value for key, value in earlier.items() if key in own and own[key].shape == value.shape
    }
    task.load_state_dict({**own, **fitting})
    anew = sorted({".".join(key.split(".")[:3]) for key in own.keys() - fitting.keys()})
    log.info("train: begins anew: %s", ", ".join(anew) or "nothing")


def train(
    work: Path, folder: Path, settings: TinySettings, start: Path | None = None, workers: int = 1
) -> None:
    """Train in `folder`, or go on from its last checkpoint.

    `start` is the folder of an earlier round whose weights this one begins with, or a bundle,
    which holds encoder and heads alone. Raises CheckpointError if it cannot be loaded.
    """
    collection = load_collection(work, "train")
    task = build_task(settings, len(collection.labelled))
    if start is not None:
        begin_with(task, start)
    done = steps_done(folder)
    batches = WindowBatches(
        collection,
        settings.data,
        settings.encoder,
        settings.diarization.local_speakers,
        settings.seed,
        first=done,
    )
    log.info("train: %d classes, from step %d", len(collection.labelled), done)
    fit(
        task,
        batches,
        folder,
        steps=settings.task.steps,
        gradient_clip=settings.task.gradient_clip,
        workers=workers,
    )
