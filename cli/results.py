"""Where the results of a recording are written, and what is kept until they are."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from wavlm_meeting.cli.output import show_note
from wavlm_meeting.errors import WavLMMeetingError

if TYPE_CHECKING:
    from wavlm_meeting.formats import DiarizationDocument


def parse_formats(formats: str) -> list[str]:
    """Split the value of --format; RTTM is always among them.

    Raises SettingsError for one that there is not.
    """
    from wavlm_meeting.formats.catalog import format_named

    wanted = dict.fromkeys(["rttm", *(name.strip().lower() for name in formats.split(","))])
    for name in wanted:
        format_named(name, "--format")
    return list(wanted)


@dataclass(frozen=True)
class Results:
    """The results of a run: `<name>.<suffix>` in its folder for each recording."""

    out: Path
    """The folder."""
    formats: Sequence[str]
    """What to write."""
    resume: bool
    """Whether to go on where an earlier run was cut short."""

    def are_there(self, recording: str) -> bool:
        """Tell whether all results of a recording were written, and after it was."""
        made = Path(recording).stat().st_mtime
        paths = self._paths(recording).values()
        return all(path.is_file() and path.stat().st_mtime >= made for path in paths)

    def write(self, document: "DiarizationDocument", recording: str) -> None:
        """Write the result of a recording in every format."""
        from wavlm_meeting.formats import FORMATS

        for name, path in self._paths(recording).items():
            FORMATS[name].write(document, path)

    @contextmanager
    def journal(self, recording: str) -> Iterator[Path]:
        """Give the place of a recording's journal, which goes once the block is done.

        It goes, too, if the recording is at fault; whatever else ends the work leaves it.
        """
        path = self.out / f".{Path(recording).stem}.journal"
        if not self.resume:
            path.unlink(missing_ok=True)
        try:
            yield path
        except WavLMMeetingError:
            path.unlink(missing_ok=True)
            raise
        except BaseException:
            if path.exists():
                show_note(f"{path} keeps what was heard; add --resume to go on from there.")
            raise
        path.unlink(missing_ok=True)

    def _paths(self, recording: str) -> dict[str, Path]:
        """Return the file of each format."""
        from wavlm_meeting.formats import FORMATS

        stem = Path(recording).stem
        return {name: self.out / f"{stem}{FORMATS[name].suffix}" for name in self.formats}
