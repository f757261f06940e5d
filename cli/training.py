"""The line on the terminal while a training runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import lightning

from wavlm_meeting.cli.output import Status, status_bar

SHOWN = {
    "loss/prediction": "loss {:.2f}",
    "loss/accuracy": "right {:.1%}",
    "loss/perplexity": "codes {:.0f}",
    "gate/scale_mean": "gate {:.2f}",
    "speed/audio": "{:.0f} s/s",
    "speed/share_of_peak": "{:.0%} of peak",
}
"""What of a training's log is shown, and how."""


class TrainingBar(lightning.Callback):
    """Shows how far a training is, and its last logged figures."""

    def __init__(self, show: Status) -> None:
        self.show = show

    def on_train_batch_end(self, trainer: lightning.Trainer, *_args: Any) -> None:
        """Move the bar."""
        logged = trainer.logged_metrics
        parts = [text.format(float(logged[name])) for name, text in SHOWN.items() if name in logged]
        self.show(trainer.global_step, float(trainer.max_steps), ", ".join(parts))


@contextmanager
def training_bar(*, quiet: bool) -> Iterator[TrainingBar]:
    """Give a callback for trainings that shows a bar on a terminal, and nothing elsewhere."""
    with status_bar("training", quiet=quiet) as show:
        yield TrainingBar(show)
