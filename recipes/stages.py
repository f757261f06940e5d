"""Stages of a recipe: each runs once, and again when what it is made from has changed."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.training.processes import join_processes, processes, wait_for_all

DONE = "stages"
"""Folder in the output with a note for each finished stage."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Stage:
    """One step of a recipe."""

    name: str
    run: Callable[[], None]
    """Does the work; called again after a stop, it goes on or begins anew by itself."""
    settings: Mapping[str, Any]
    """What the result depends on beside the stages before it, as plain values."""
    outputs: tuple[Path, ...] = ()
    """What it goes on with after a stop; removed if it was begun with other settings. The last part
    of a path may be a pattern, as in `labels.*`."""
    everywhere: bool = False
    """Whether all processes of torchrun run it, each its part; else the first one alone."""


def training_values(training: Settings) -> dict[str, Any]:
    """Return what a training's result depends on: all but how often it is kept and logged."""
    return training.model_dump(exclude={"trainer": {"checkpoint_steps", "log_steps"}})


def run_stages(stages: Sequence[Stage], out: Path, wanted: str = "") -> None:
    """Run the stages in order, all of them or those from a to b of `wanted` = "a..b".

    A stage whose settings, and those of all stages before it, are what they were when it finished
    is passed over. In the processes of torchrun all of them go through the stages together; they
    must see the same `out`. Raises SettingsError for a name that is none, or if a stage before the
    first wanted one has not finished.
    """
    first, last = _range([stage.name for stage in stages], wanted)
    leads = processes()[0] == 0
    join_processes()
    chain = ""
    for number, stage in enumerate(stages[: last + 1]):
        chain = _fingerprint(chain, stage)
        note = out / DONE / f"{stage.name}.json"
        wait_for_all()
        if _finished(note, chain):
            _say(leads, f"{stage.name}: unchanged, passed over")
            continue
        if number < first:
            raise SettingsError(f"{stage.name} has not run with these settings; begin with it.")
        _say(leads, f"{stage.name}: running")
        begun = note.with_suffix(".begun")
        if leads and not _finished(begun, chain):
            _remove(stage.outputs)
            _note(begun, chain)
        wait_for_all()
        if leads or stage.everywhere:
            stage.run()
        wait_for_all()
        if leads:
            _note(note, chain)


def _range(names: Sequence[str], wanted: str) -> tuple[int, int]:
    """Return the numbers of the first and last wanted stage."""
    start, dots, end = wanted.partition("..")
    end = end if dots else start
    for name in (start, end):
        if name and name not in names:
            raise SettingsError(f"no stage '{name}': there are {', '.join(names)}.")
    first = names.index(start) if start else 0
    last = names.index(end) if end else len(names) - 1
    if last < first:
        raise SettingsError(f"'{start}' comes after '{end}': swap them.")
    return first, last


def _fingerprint(before: str, stage: Stage) -> str:
    """Hash a stage's settings together with all that came before."""
    text = json.dumps([before, stage.name, stage.settings], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _note(path: Path, fingerprint: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps({"fingerprint": fingerprint}) + "\n", encoding="utf-8")


def _say(leads: bool, line: str) -> None:
    if leads:
        log.info(line)


def _remove(outputs: Sequence[Path]) -> None:
    for path in [found for output in outputs for found in output.parent.glob(output.name)]:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def _finished(note: Path, fingerprint: str) -> bool:
    """Tell whether a note was written with this fingerprint."""
    if not note.is_file():
        return False
    return bool(json.loads(note.read_text(encoding="utf-8")).get("fingerprint") == fingerprint)
