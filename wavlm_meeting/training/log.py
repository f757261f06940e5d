"""The log of a training as lines of JSON, whole from the first step to the last."""

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from wavlm_meeting.files import atomic_write
from wavlm_meeting.training.processes import processes

NAME = "metrics.jsonl"


def read_log(folder: Path) -> list[dict[str, float]]:
    """Return the lines of a training's log, oldest first; none if there is no log yet."""
    path = folder / "log" / NAME
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


class LineLogger(Logger):
    """Appends a line for each logged step.

    A run that goes on after `first` steps leaves out the lines that a killed run had written past
    its last checkpoint, since it makes these steps again.
    """

    def __init__(self, folder: Path, first: int) -> None:
        super().__init__()
        self.folder = folder / "log"
        if processes()[0] == 0:
            self._keep_before(first)

    @property
    def name(self) -> str:
        """Say whose log it is."""
        return self.folder.parent.name

    @property
    def version(self) -> str:
        """There is one log."""
        return ""

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """Settings are written by who starts a training."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a line."""
        with (self.folder / NAME).open("a", encoding="utf-8") as file:
            file.write(json.dumps({"step": step, **metrics}) + "\n")

    def _keep_before(self, first: int) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / NAME
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True) if path.exists() else []
        # A kill may have cut the last line: it has no end.
        whole = (line for line in lines if line.endswith("\n"))
        kept = [line for line in whole if json.loads(line)["step"] < first]
        with atomic_write(path) as temporary:
            temporary.write_text("".join(kept), encoding="utf-8")
