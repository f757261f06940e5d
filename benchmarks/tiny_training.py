"""Where a training step of the embedded model goes: the model, rendering, waiting for plans.

    python benchmarks/tiny_training.py WORK [--steps 40] [--settings FILE]

WORK is what `python -m wavlm_meeting.recipes.tiny --stages prepare` left. Conversations are
rendered where the model is, on a GPU if there is one.
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import lightning
import torch

from wavlm_meeting.config import read_toml
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.diarization.task import Batch
from wavlm_meeting.recipes.tiny.__main__ import SHIPPED
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.data import PlannedBatch, WindowBatches
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.recipes.tiny.train import (
    PlannedTask,
    build_task,
    render_on,
    samples_on,
    workers_for,
)
from wavlm_meeting.training.scene_rendering import SceneRenderer
from wavlm_meeting.training.trainer import TrainerSettings, fit


class Clock(lightning.Callback):
    """Adds up what the steps take, once `warm` of them are done."""

    def __init__(self, warm: int) -> None:
        self.warm, self.steps = warm, 0
        self.rendering = self.model = self.whole = 0.0
        self.began = self.ended = 0.0

    def on_train_batch_start(self, *_: Any) -> None:
        """Note when the model begins."""
        self.began = now()

    def on_train_batch_end(
        self, _trainer: Any, _module: Any, _out: Any, _batch: Any, n: int
    ) -> None:
        """Count the step."""
        ended = now()
        if n >= self.warm:
            self.steps += 1
            self.model += ended - self.began
            self.whole += ended - self.ended
        else:
            self.rendering = 0.0
        self.ended = ended


def now() -> float:
    """Return the time at which all that was asked of a GPU is done."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def time_rendering(task: PlannedTask, clock: Clock) -> None:
    """Have the task tell the clock how long it renders."""
    move = task.transfer_batch_to_device

    def timed(batch: Batch | PlannedBatch, device: torch.device, loader: int) -> Batch:
        began = now()
        rendered = move(batch, device, loader)
        clock.rendering += now() - began
        return rendered

    task.transfer_batch_to_device = timed  # type: ignore[method-assign]


def main() -> None:
    """Print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--settings", type=Path, default=SHIPPED)
    given = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    settings = read_toml(given.settings, TinySettings)
    data = settings.data.model_copy(update={"voice_batches": 0})
    collection, device = load_collection(given.work, "train"), resolve_device("auto")
    task = build_task(settings, len(collection.labelled))
    if device.type == "cpu":
        task.renderer = SceneRenderer(samples_on(device, collection))
    else:
        render_on(device, task, collection, data)
    batches = WindowBatches(
        collection,
        data,
        settings.encoder,
        settings.diarization.local_speakers,
        settings.seed,
        planned=True,
    )
    clock = Clock(warm=given.steps // 2)
    time_rendering(task, clock)
    with tempfile.TemporaryDirectory() as folder:
        fit(
            task,
            batches,
            Path(folder),
            TrainerSettings(workers=workers_for(device)),
            steps=given.steps,
            gradient_clip=settings.task.gradient_clip,
            callbacks=[clock],
        )
    seconds = data.window_s * data.batch
    step = clock.whole / clock.steps
    shares = [100 * part / clock.whole for part in (clock.model, clock.rendering)]
    print(
        f"{device}: a step of {seconds:.0f} s of audio takes {1000 * step:.0f} ms: "
        f"model {shares[0]:.0f} %, rendering {shares[1]:.0f} %, "
        f"the rest, mostly waiting, {100 - sum(shares):.0f} %"
    )


if __name__ == "__main__":
    main()
