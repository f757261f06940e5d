"""From the FILE... of a command line to the recordings that it means."""

from collections.abc import Iterable
from pathlib import Path

from wavlm_meeting.errors import AudioError, SettingsError

SUFFIXES = frozenset(
    {
        *(".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a"),
        *(".mka", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".sph", ".w64", ".wav", ".weba"),
        *(".wma", ".wv"),
        *(".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv"),
    }
)
"""Names by which a folder's recordings are found; a file that is named itself may have any."""


def expand(argument: str) -> list[str]:
    """Return the recordings that one argument stands for: itself, or those in a folder.

    Folders are not searched below their first level, and hidden files are left alone. Raises
    AudioError for a folder without recordings.
    """
    folder = Path(argument)
    if not folder.is_dir():
        return [argument]
    found = sorted(
        str(path)
        for path in folder.iterdir()
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not found:
        raise AudioError(f"{argument}: no audio or video in this folder; name the files instead.")
    return found


def recordings_below(folder: Path) -> list[Path]:
    """Return all recordings in a folder and the folders in it, in the order of their names.

    Raises AudioError if there is none, or no such folder.
    """
    if not folder.is_dir():
        raise AudioError(f"{folder}: no such folder; check the path.")
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")
    )
    if not found:
        raise AudioError(f"{folder}: no audio or video in this folder or below it.")
    return found


def without_repeats(recordings: Iterable[str]) -> list[str]:
    """Drop the second naming of a file, as when it is named beside its folder."""
    return list({Path(recording).resolve(): recording for recording in recordings}.values())


def refuse_clashes(recordings: Iterable[str]) -> None:
    """Refuse recordings whose results would overwrite each other; raises SettingsError."""
    by_stem: dict[str, str] = {}
    for recording in recordings:
        stem = Path(recording).stem
        other = by_stem.setdefault(stem, recording)
        if other != recording:
            raise SettingsError(
                f"{other} and {recording} would both be written to {stem}.rttm; "
                "run them one by one, each with its own --out."
            )
