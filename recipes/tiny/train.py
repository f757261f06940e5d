"""Stage 2: train encoder and heads together on conversations drawn on the fly."""

import logging
import math
import os
from pathlib import Path

import lightning
import numpy as np
import torch
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch import Tensor

from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.checkpoints.folders import CARD
from wavlm_meeting.checkpoints.trainings import read_weights, steps_done
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.model import DiarizationHeads
from wavlm_meeting.diarization.task import Batch, DiarizationTask, Sizes
from wavlm_meeting.recipes.tiny.collection import Collection, load_collection
from wavlm_meeting.recipes.tiny.data import PlannedBatch, WindowBatches
from wavlm_meeting.recipes.tiny.settings import DataSettings, TinySettings
from wavlm_meeting.recipes.tiny.teacher_map import fit_teacher_map
from wavlm_meeting.training.recorded import RecordedObjective
from wavlm_meeting.training.scene_rendering import SceneRenderer
from wavlm_meeting.training.seeds import StepSeeds
from wavlm_meeting.training.trainer import TrainerSettings, fit
from wavlm_meeting.wavlm.filterbank import start_as_filterbank
from wavlm_meeting.wavlm.model import WavLM

AVERAGED_EVERY = 10
"""Updates from one set of weights that goes into their mean to the next."""

MAP_WINDOWS = 2_400
"""Windows with one voice that the map to the teacher is fitted on."""

log = logging.getLogger(__name__)


class PlannedTask(DiarizationTask):
    """Training on batches that are rendered where the model is, from `renderer`'s samples."""

    renderer: SceneRenderer | None = None
    _beside: torch.cuda.Stream | None = None
    _recorded: RecordedObjective | None = None
    _told: tuple[str, ...] = ()

    def transfer_batch_to_device(
        self, batch: Batch | PlannedBatch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch, and render one that is not yet; a GPU does both beside the step before."""
        if device.type == "cpu":
            return self._moved(batch, device, dataloader_idx)
        self._beside = self._beside or torch.cuda.Stream(device)
        with torch.cuda.stream(self._beside):
            moved = self._moved(batch, device, dataloader_idx)
        own = torch.cuda.current_stream(device)
        own.wait_stream(self._beside)
        for tensor in moved:
            tensor.record_stream(own)
        return moved

    def _moved(self, batch: Batch | PlannedBatch, device: torch.device, loader: int) -> Batch:
        moved: Batch | PlannedBatch = super().transfer_batch_to_device(batch, device, loader)
        if self.renderer is None or isinstance(moved, Batch):
            return moved  # type: ignore[return-value] # without a renderer nothing is planned
        return moved.rendered(self.renderer)

    def training_step(self, batch: Batch, index: int) -> Tensor:
        """Return the weighted sum of the losses, on a GPU by playing a record of its first time."""
        if batch.waveforms.device.type == "cpu" or self.sizes is None or self.settings.class_weight:
            return super().training_step(batch, index)
        if self._recorded is None:
            self._recorded = RecordedObjective(self, self._objective)
        loss, *told = self._recorded(*batch)
        self.log_dict(dict(zip(self._told, told, strict=True)))
        return loss

    def _objective(self, *batch: Tensor) -> tuple[Tensor, ...]:
        losses = self.losses(Batch(*batch))
        self._told = tuple(losses)
        return self.weighted(losses), *losses.values()


def build_task(settings: TinySettings, classes: int) -> PlannedTask:
    """Return encoder and heads at their start, seeded.

    Raises SettingsError for a frontend that cannot start as a filterbank.
    """
    torch.manual_seed(settings.seed)
    encoder = WavLM(settings.encoder, attention="dense")
    start_as_filterbank(encoder.frontend)
    heads = DiarizationHeads(
        settings.encoder.layers, settings.encoder.width, **settings.diarization.head_sizes()
    )
    return PlannedTask(encoder, heads, classes, settings.task)


def begin_with(task: DiarizationTask, start: Path) -> set[str]:
    """Take over the weights of an earlier round: a training's folder, a bundle, or its name.

    Parts that the earlier round has not, or has in another size, stay as they are: heads may come
    in between rounds, and a pretrained encoder has none. Returns the names of these parameters.
    """
    start = resolve(str(start))
    if (start / CARD).is_file():
        pipeline = load_pipeline(str(start), "cpu")
        parts = {"encoder": pipeline.encoder, "heads": pipeline.heads}
        earlier = {
            f"{name}.{key}": value
            for name, part in parts.items()
            for key, value in part.state_dict().items()
        }
    else:
        earlier = {key.removeprefix("model."): value for key, value in read_weights(start).items()}
    own = task.state_dict()
    fitting = {
        key: value for key, value in earlier.items() if key in own and own[key].shape == value.shape
    }
    task.load_state_dict({**own, **fitting})
    anew = set(own) - set(fitting)
    parts_anew = sorted({".".join(key.split(".")[:3]) for key in anew})
    log.info("train: begins anew: %s", ", ".join(parts_anew) or "nothing")
    return anew


def samples_on(device: torch.device, collection: Collection) -> Tensor:
    """Return all samples on a device, int16, and after them the coded ones, if there are any."""
    parts = [collection.samples]
    if collection.coded_samples is not None:
        parts.append(collection.coded_samples)
    samples = torch.empty((len(parts), len(parts[0])), dtype=torch.int16, device=device)
    for row, part in zip(samples, parts, strict=True):
        row.copy_(torch.from_numpy(np.array(part)))
    return samples.flatten()


def sizes_of(collection: Collection, settings: DataSettings) -> Sizes:
    """Return how many windows conversations have, and speakers at most."""
    meetings = [len({said.speaker for said in meeting}) for meeting in collection.meetings]
    return Sizes(settings.conversation_windows, max(len(settings.speaker_shares), *meetings, 1))


def render_on(
    device: torch.device, task: PlannedTask, collection: Collection, settings: DataSettings
) -> None:
    """Have a task render its batches on a GPU, and play its passes there from their record."""
    task.renderer = SceneRenderer(samples_on(device, collection))
    task.sizes = sizes_of(collection, settings)
    torch.set_float32_matmul_precision("high")
    torch.backends.cuda.enable_cudnn_sdp(enabled=False)  # plans anew for each shape, 12 ms each


def workers_for(device: torch.device) -> int:
    """Return how many processes draw batches: one renders, too; of plans a GPU takes many."""
    return 1 if device.type == "cpu" else max(1, (os.cpu_count() or 2) - 2)


def train(work: Path, folder: Path, settings: TinySettings, start: Path | None = None) -> None:
    """Train in `folder`, or go on from its last checkpoint.

    Where there is a GPU, conversations are rendered on it. `start` is the folder of an earlier
    round, or of a pretraining, whose weights this one begins with, or a bundle, which holds encoder
    and heads alone. Raises CheckpointError if it cannot be loaded.
    """
    collection = load_collection(work, "train")
    task = build_task(settings, len(collection.labelled))
    device = resolve_device("auto")
    if device.type != "cpu":
        render_on(device, task, collection, settings.data)
    done = steps_done(folder)
    if start is not None and not done:
        _begin_round(task, start, collection, settings)
    batches = _batches(collection, settings, done, planned=task.renderer is not None)
    log.info("train: %d classes, from step %d", len(collection.labelled), done)
    fit(
        task,
        batches,
        folder,
        TrainerSettings(workers=workers_for(device)),
        steps=settings.task.steps,
        gradient_clip=settings.task.gradient_clip,
        callbacks=[StepSeeds(settings.seed, 1), *averaging(settings.average)],
    )


def _begin_round(
    task: PlannedTask, start: Path, collection: Collection, settings: TinySettings
) -> None:
    """Take over an earlier round's weights, and fit the map to the teacher if they come without."""
    anew = begin_with(task, start)
    if "to_teacher.weight" not in anew or any(name.startswith("heads.embedding") for name in anew):
        return
    data = settings.data
    batches = math.ceil(MAP_WINDOWS * data.voice_window_s / (data.batch * data.window_s))
    voices = settings.model_copy(
        update={"data": data.model_copy(update={"voice_batches": batches})}
    )
    # Rendered here, as the model is not on its device yet.
    heard = map(_batches(collection, voices).batch, range(batches))
    fit_teacher_map(task, (batch for batch in heard if isinstance(batch, Batch)))


def _batches(
    collection: Collection, settings: TinySettings, first: int = 0, *, planned: bool = False
) -> WindowBatches:
    """Return the stream of batches from number `first` on."""
    return WindowBatches(
        collection,
        settings.data,
        settings.encoder,
        settings.diarization.local_speakers,
        settings.seed,
        first=first,
        planned=planned,
    )


def averaging(decay: float) -> list[lightning.Callback]:
    """Return what keeps the running mean of the weights, which checkpoints then hold."""
    if not decay:
        return []
    return [EMAWeightAveraging(decay=decay, update_every_n_steps=AVERAGED_EVERY)]
