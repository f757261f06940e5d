"""One training run: Lightning with checkpoints that it goes on from."""

from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.utils.data import DataLoader, IterableDataset

CHECKPOINT_STEPS = 200
"""Steps from one checkpoint to the next."""


def last_checkpoint(folder: Path) -> Path:
    """Return where a run in `folder` keeps its last checkpoint."""
    return folder / "checkpoints" / "last.ckpt"


def steps_done(folder: Path) -> int:
    """Return how many steps the last checkpoint of a run has seen; 0 without one."""
    last = last_checkpoint(folder)
    return int(torch.load(last, weights_only=True)["global_step"]) if last.exists() else 0


def fit(
    task: lightning.LightningModule,
    batches: IterableDataset[Any],
    folder: Path,
    *,
    steps: int,
    gradient_clip: float,
    workers: int = 1,
) -> Path:
    """Train up to `steps` and return the last checkpoint; go on from one that is there.

    `batches` must begin at the step that `steps_done` gives. Losses go to `log/metrics.csv`.
    """
    last = last_checkpoint(folder)
    trainer = lightning.Trainer(
        max_steps=steps,
        gradient_clip_val=gradient_clip,
        logger=CSVLogger(folder, name="", version="log"),
        callbacks=[
            ModelCheckpoint(
                dirpath=last.parent,
                save_last=True,
                save_top_k=0,
                every_n_train_steps=CHECKPOINT_STEPS,
            )
        ],
        log_every_n_steps=10,
        enable_model_summary=False,
        enable_progress_bar=False,
        accelerator="auto",
        devices=1,
    )
    trainer.fit(
        task,
        DataLoader(batches, batch_size=None, num_workers=workers, persistent_workers=workers > 0),
        ckpt_path=last if last.exists() else None,
        weights_only=True,
    )
    trainer.save_checkpoint(last)
    return last
