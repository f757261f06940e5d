"""Writing the checkpoints of a training: whole or not there, the newest ones kept."""

import shutil
from pathlib import Path

import lightning

from wavlm_meeting.checkpoints.trainings import FOLDER, PATTERN, checkpoint_path, steps_done

KEPT = 2
"""Checkpoints that stay: a disk that fails while the last is read leaves one."""


class Saver(lightning.Callback):
    """Writes a checkpoint after every `every` updates and at the end."""

    def __init__(self, folder: Path, every: int) -> None:
        self.folder, self.every = folder, every
        self._saved = steps_done(folder)

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args: object) -> None:
        """Write one if it is time."""
        if trainer.global_step >= self._saved + self.every:
            self._save(trainer)

    def on_train_end(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Write the last one."""
        if trainer.global_step > self._saved:
            self._save(trainer)

    def _save(self, trainer: lightning.Trainer) -> None:
        self._saved = trainer.global_step
        whole = checkpoint_path(self.folder, trainer.global_step)
        part = whole.with_name(f".part-{whole.name}")
        if trainer.is_global_zero:
            whole.parent.mkdir(parents=True, exist_ok=True)
            _remove(part)  # what a killed run left
        trainer.strategy.barrier()
        trainer.save_checkpoint(part, weights_only=False)
        trainer.strategy.barrier()
        if trainer.is_global_zero:
            _remove(whole)
            part.rename(whole)
            for old in sorted((self.folder / FOLDER).glob(PATTERN))[:-KEPT]:
                _remove(old)
        trainer.strategy.barrier()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
