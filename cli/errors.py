"""What each exception means to a user: one table, one line, one exit status."""

import traceback
from dataclasses import dataclass
from typing import NamedTuple

from wavlm_meeting.cli.output import show_error, show_text_on_stderr

DOCTOR = "run 'wavlm-meeting doctor' to see what is broken in the environment."


class Meaning(NamedTuple):
    """What to say about an exception, and how the command ends because of it."""

    line: str
    """The line to show; `{error}` stands for the exception."""
    status: int
    """The exit status."""


INTERRUPTED = Meaning("interrupted; files already written are complete.", 130)

MEANINGS = {
    "WavLMMeetingError": Meaning("{error}", 2),
    "KeyboardInterrupt": INTERRUPTED,
    "Abort": INTERRUPTED,
    "ImportError": Meaning("{error}; " + DOCTOR, 2),
    "OutOfMemoryError": Meaning("the GPU's memory is full; try --device cpu.", 2),
    "MemoryError": Meaning("not enough memory; close other programs and try again.", 2),
    "OSError": Meaning(
        "{error.filename}: {error.strerror}; check the path, its rights and the free space.", 2
    ),
    "BaseException": Meaning(
        "a bug in wavlm-meeting: {error!r}; add --traceback to see where, and report it.", 1
    ),
}
"""What an exception means, by the name of its class or of a base: the first row that fits holds.

Names stand for the classes, since importing torch for one of them would take seconds.
"""


def meaning_of(error: BaseException) -> Meaning:
    """Find the table's row for an exception and write the line out."""
    if hasattr(error, "format_message"):  # Typer's own: a wrong option, argument or command
        return Meaning(error.format_message(), 2)
    if isinstance(error, OSError) and error.errno is None:  # a shared library that does not load
        return Meaning(f"{error}; {DOCTOR}", 2)
    if isinstance(error, OSError) and error.filename is None:  # as when a disk is full
        return Meaning(f"{error.strerror}; free some space and try again.", 2)
    names = [kind.__name__ for kind in type(error).__mro__]
    row = MEANINGS[next(name for name in MEANINGS if name in names)]
    return Meaning(row.line.format(error=error), row.status)


def was_interrupted(error: BaseException) -> bool:
    """Tell whether an exception is an interrupt, or what a library made of one.

    Python code and compiled modules that fail while they are imported, or read, may say so in
    their own words; what they were stopped by stays in the chain.
    """
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


@dataclass(frozen=True)
class Reporter:
    """Shows errors the way this run was asked to."""

    traceback: bool = False
    """Whether to show where an error arose, above its line."""

    def report(self, error: BaseException) -> int:
        """Show an exception and return the exit status it stands for.

        Raises KeyboardInterrupt in place of what a library made of one: nothing goes on after it.
        """
        if was_interrupted(error) and not isinstance(error, KeyboardInterrupt):
            raise KeyboardInterrupt from error
        if self.traceback:
            show_text_on_stderr("".join(traceback.format_exception(error)))
        line, status = meaning_of(error)
        if type(error).__name__ == "NoArgsIsHelpError":  # a bare command: its help, many lines
            show_text_on_stderr(f"{line}\n")
        else:
            show_error(line)
        return status


class Lost:
    """The recordings of a list that failed on the way; the others go on."""

    def __init__(self, reporter: Reporter, status: int) -> None:
        self.reporter, self.status = reporter, status
        self._places: set[int] = set()

    def __call__(self, place: int, error: Exception) -> None:
        """Show why the recording at a place failed."""
        self._places.add(place)
        self.status = max(self.status, self.reporter.report(error))

    def without(self, recordings: list[str]) -> list[str]:
        """Return the recordings that did not fail."""
        return [name for place, name in enumerate(recordings) if place not in self._places]
