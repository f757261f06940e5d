"""One training run: Lightning, alone or started by torchrun, going on from its last checkpoint."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

import lightning
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, Strategy
from pydantic import Field
from torch.utils.data import DataLoader, IterableDataset

from wavlm_meeting.checkpoints.trainings import last_checkpoint, steps_done
from wavlm_meeting.config import Settings
from wavlm_meeting.training.log import LineLogger
from wavlm_meeting.training.processes import processes, processes_here
from wavlm_meeting.training.saving import Saver


class Upkeep(Protocol):
    """What the settings of every training say, whatever else they do; as `TrainerSettings`."""

    @property
    def accumulate(self) -> int:
        """Batches of each device for one update of the weights."""

    @property
    def checkpoint_steps(self) -> int:
        """Updates from one checkpoint to the next."""

    @property
    def log_steps(self) -> int:
        """Updates from one line of the log to the next."""

    @property
    def workers(self) -> int:
        """Processes of each device that read."""


class TrainerSettings(Settings):
    """How the work of a training is spread and kept."""

    accumulate: int = Field(1, ge=1)
    """Batches of each device for one update of the weights."""
    checkpoint_steps: int = Field(200, ge=1)
    """Updates from one checkpoint to the next; the last two are kept."""
    log_steps: int = Field(10, ge=1)
    """Updates from one line of the log to the next."""
    workers: int = Field(1, ge=0)
    """Processes of each device that read and render what is heard."""


def fit(
    task: lightning.LightningModule,
    batches: IterableDataset[Any],
    folder: Path,
    settings: Upkeep,
    *,
    steps: int,
    gradient_clip: float,
    strategy: Literal["ddp", "fsdp"] = "ddp",
    unused: bool = False,
    callbacks: Sequence[lightning.Callback] = (),
) -> None:
    """Train up to `steps` updates in `folder`; go on from a checkpoint that is there.

    In the processes of torchrun each takes a device and batches of its own; `strategy` says whether
    they hold all weights or share them, `unused` that some weights may be without a gradient.
    `batches` must begin at `steps_done(folder) * settings.accumulate`. Losses go to
    `log/metrics.jsonl` and to TensorBoard's files beside it. Raises KeyboardInterrupt where the
    user stops it.
    """
    world, here = processes()[1], processes_here()
    first, last = steps_done(folder), last_checkpoint(folder)
    trainer = lightning.Trainer(
        accelerator="auto",
        devices=here,
        num_nodes=world // here,
        strategy=_strategy(strategy, world, unused=unused),
        max_steps=steps,
        accumulate_grad_batches=settings.accumulate,
        gradient_clip_val=gradient_clip,
        logger=[
            LineLogger(folder, first),
            TensorBoardLogger(folder, name="", version="log", purge_step=first),
        ],
        callbacks=[Saver(folder, settings.checkpoint_steps), *callbacks],
        log_every_n_steps=settings.log_steps,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
        use_distributed_sampler=False,
    )
    workers = settings.workers
    loader = DataLoader(
        batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0
    )
    if first == steps:
        return
    try:
        trainer.fit(task, loader, ckpt_path=last, weights_only=True)
    except SystemExit:
        if trainer.interrupted:  # Lightning ends the process, which is not for it to decide
            raise KeyboardInterrupt from None
        raise


def _strategy(name: str, world: int, *, unused: bool) -> Strategy | Literal["auto"]:
    if name == "fsdp":
        return ModelParallelStrategy(data_parallel_size=world, tensor_parallel_size=1)
    if world > 1:
        return DDPStrategy(find_unused_parameters=unused, gradient_as_bucket_view=True)
    return "auto"
