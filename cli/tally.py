"""What became of many recordings: shown when all are done."""

import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from wavlm_meeting.cli.errors import Reporter, meaning_of
from wavlm_meeting.cli.output import show_line, show_table

if TYPE_CHECKING:
    from wavlm_meeting.formats import DiarizationDocument

HOUR_S, MINUTE_S = 3600.0, 60.0
COLUMNS = ("recording", "minutes", "speakers", "turns", "talk min", "overlap min")


@dataclass(frozen=True)
class Done:
    """What is left to say of a recording that is done."""

    name: str
    duration_s: float
    speakers: int
    turns: int
    talk_s: float
    overlap_s: float

    def row(self) -> tuple[str, ...]:
        """Return its row of the table, as `COLUMNS`."""
        talk, overlap = self.talk_s / MINUTE_S, self.overlap_s / MINUTE_S
        counts = (str(self.speakers), str(self.turns))
        return (
            self.name,
            f"{self.duration_s / MINUTE_S:.1f}",
            *counts,
            f"{talk:.1f}",
            f"{overlap:.1f}",
        )


@dataclass(frozen=True)
class Tally(Reporter):
    """Shows errors at once, and remembers them and every result for a summary."""

    done: list[Done] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    """Recordings that an earlier run did."""
    failed: list[tuple[str, int]] = field(default_factory=list)
    """Why each of the others failed, and the exit status of that."""
    _begin: float = field(default_factory=time.monotonic)

    @property
    def status(self) -> int:
        """Return the exit status of the run."""
        return max((status for _, status in self.failed), default=0)

    @property
    def is_of_one(self) -> bool:
        """Tell whether there was one recording, and it is done."""
        return len(self.done) == 1 and not self.before and not self.failed

    def report(self, error: BaseException) -> int:
        """Show an exception, remember it, and return the exit status it stands for."""
        status = super().report(error)
        self.failed.append((meaning_of(error).line, status))
        return status

    def add(self, recording: str, document: "DiarizationDocument") -> None:
        """Take the result of a recording."""
        self.done.append(
            Done(
                recording,
                document.duration_s,
                len(document.speakers),
                len(document.turns),
                sum(speaker.talk_s for speaker in document.speakers),
                sum(stretch.end - stretch.start for stretch in document.overlaps),
            )
        )

    def show(self) -> None:
        """Show a row for each recording, then what they are together and which failed.

        Where there is no result, the errors have said it all.
        """
        if not self.done and not self.before:
            return
        if self.done:
            counts = sorted(Counter(one.speakers for one in self.done).items())
            show_table("", COLUMNS, [one.row() for one in self.done])
            self.show_speed(len(self.done), sum(one.duration_s for one in self.done))
            show_line("speakers: " + ", ".join(f"{number} in {times}" for number, times in counts))
        if self.before:
            show_line(f"done before: {len(self.before)}")
        self.show_failed()

    def show_speed(self, done: int, audio_s: float) -> None:
        """Show how many recordings are done, and how long they and the work on them lasted."""
        taken_s = time.monotonic() - self._begin
        show_line(
            f"done: {done}, {audio_s / HOUR_S:.2f} hours of audio in "
            f"{taken_s / HOUR_S:.2f} hours, {audio_s / taken_s:.1f} times real time"
        )

    def show_failed(self) -> None:
        """Show how many recordings failed, if any, and why."""
        if self.failed:
            show_line(f"failed: {len(self.failed)}")
            for line, _ in self.failed:
                show_line(f"  {line}")
