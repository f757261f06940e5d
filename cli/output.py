"""The only module that prints: results on standard output, all else on standard error."""

import json
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from wavlm_meeting.errors import WavLMMeetingWarning

Progress = Callable[[float, float | None], None]
"""Called with the seconds of audio done and, where it is known, those in all."""

Status = Callable[[float, float, str], None]
"""Called with the steps done, those in all, and what to say beside them."""

_UNLIMITED = 10_000
"""Columns of an output that is no terminal: tables take what they need and break no line."""


def speak_plainly() -> None:
    """Set the process up: our warnings are one line each, and no file name breaks the output."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    warnings.showwarning = _show_warning
    if not sys.warnoptions:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", WavLMMeetingWarning)


def show_line(text: str) -> None:
    """Show one line of a result."""
    _stdout().print(Text(text), soft_wrap=True)


def show_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], total: Sequence[str] = ()
) -> None:
    """Show a table: the first column is text, the others are numbers; `total` ends it."""
    table = Table(title=title and Text(title, "bold"), title_justify="left", box=SIMPLE_HEAD)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    if total:
        table.add_section()
        table.add_row(*map(Text, total), style="bold")
    _stdout().print(table)


def show_json(value: Any) -> None:
    """Show a result for other programs, on standard output."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def show_error(line: str) -> None:
    """Show what went wrong, and its cure, in one line."""
    _labelled("error", "bold red", line)


def show_note(line: str) -> None:
    """Show what is worth knowing beside a result, in one line."""
    _labelled("note", "bold", line)


def show_text_on_stderr(text: str) -> None:
    """Show text as it is beside the result."""
    sys.stderr.write(text)


@contextmanager
def progress_bar(label: str, *, quiet: bool = False) -> Iterator[Progress]:
    """Give a callback that moves a bar; it shows on a terminal only, and goes when done."""
    console = _stderr()
    if quiet or not console.is_terminal:
        yield lambda _done_s, _total_s: None
        return
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    text = TextColumn("{task.description}", markup=False)
    percent = TextColumn("{task.percentage:>3.0f}%")
    columns = (text, BarColumn(), percent, TimeRemainingColumn())
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done_s, total_s: bar.update(task, completed=done_s, total=total_s)


@contextmanager
def status_bar(label: str, *, quiet: bool = False) -> Iterator[Status]:
    """Give a callback that moves a bar with a remark; as `progress_bar`, for a terminal only."""
    console = _stderr()
    if quiet or not console.is_terminal:
        yield lambda _done, _total, _remark: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[remark]}", markup=False),
    )
    with Bar(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=None, remark="")
        yield lambda done, total, remark: bar.update(
            task, completed=done, total=total, remark=remark
        )


@contextmanager
def bar_of_each(recordings: list[str], *, quiet: bool) -> Iterator[Callable[[str], Progress]]:
    """Give what makes the progress of a recording: of one its own bar, of several one for all."""
    if len(recordings) == 1:
        with progress_bar(recordings[0], quiet=quiet) as progress:
            yield lambda _recording: progress
        return
    places = {recording: place for place, recording in enumerate(recordings)}
    with status_bar("recordings", quiet=quiet) as status:

        def bar_of(recording: str) -> Progress:
            def progress(done_s: float, total_s: float | None) -> None:
                part = min(done_s / total_s, 1.0) if total_s else 0.0
                status(places[recording] + part, len(recordings), recording)

            return progress

        yield bar_of


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    *_where: object,
    **_more: object,
) -> None:
    """Show one of our warnings as a line; stands in for `warnings.showwarning`."""
    label = "warning" if issubclass(category, WavLMMeetingWarning) else category.__name__
    _labelled(label, "bold yellow", str(message))


def _labelled(label: str, style: str, line: str) -> None:
    """Write `label: line` to standard error, on one line."""
    line = " ".join(line.splitlines())
    _stderr().print(Text.assemble((f"{label}: ", style), line), soft_wrap=True)


def _stdout() -> Console:
    """Return a console for results: as wide as they need where no terminal limits them."""
    return Console(width=None if sys.stdout.isatty() else _UNLIMITED)


def _stderr() -> Console:
    """Return a console for what stands beside the result."""
    return Console(stderr=True)
