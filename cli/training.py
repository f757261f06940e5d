"""The line on the terminal while a training runs."""

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from wavlm_meeting.cli.output import status_bar

SHOWN = {
    "loss/prediction": "loss {:.2f}",
    "loss/distillation": "loss {:.2f}",
    "size": "size {:.0%}",
    "loss/accuracy": "right {:.1%}",
    "loss/perplexity": "codes {:.0f}",
    "gate/scale_mean": "gate {:.2f}",
    "speed/audio": "{:.0f} s/s",
    "speed/share_of_peak": "{:.0%} of peak",
}
"""What of a training's log is shown, and how."""


def quieten_lightning() -> None:
    """Have Lightning say what is worth a warning alone."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


@contextmanager
def training_bar(*, quiet: bool) -> Iterator[Callable[[int, int, Mapping[str, float]], None]]:
    """Give a callback that shows how far a training is; on a terminal only."""
    with status_bar("training", quiet=quiet) as show:

        def report(done: int, total: int, logged: Mapping[str, float]) -> None:
            parts = [text.format(logged[name]) for name, text in SHOWN.items() if name in logged]
            show(done, total, ", ".join(parts))

        yield report
