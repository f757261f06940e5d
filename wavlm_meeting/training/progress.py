"""Telling others how far a training is."""

from collections.abc import Callable, Mapping
from typing import Any

import lightning

Report = Callable[[int, int, Mapping[str, float]], None]
"""Called with the updates done, those in all, and what was logged last."""


class Progress(lightning.Callback):
    """Calls `report` after every batch."""

    def __init__(self, report: Report) -> None:
        self.report = report

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args: Any) -> None:
        """Say where the training is."""
        logged = {name: float(value) for name, value in trainer.logged_metrics.items()}
        self.report(trainer.global_step, trainer.max_steps, logged)
