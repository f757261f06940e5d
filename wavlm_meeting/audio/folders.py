"""Finding recordings in folders."""

from pathlib import Path

from wavlm_meeting.errors import AudioError

SUFFIXES = frozenset(
    {
        *(".aac", ".ac3", ".aif", ".aifc", ".aiff", ".amr", ".au", ".caf", ".flac", ".m4a"),
        *(".mka", ".mp2", ".mp3", ".oga", ".ogg", ".opus", ".sph", ".w64", ".wav", ".weba"),
        *(".wma", ".wv"),
        *(".avi", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ogv", ".webm", ".wmv"),
    }
)
"""Names by which a folder's recordings are found; a file that is named itself may have any."""


def is_recording(path: Path) -> bool:
    """Tell whether a path in a folder is a recording, by its name; hidden files are left alone."""
    return path.suffix.lower() in SUFFIXES and path.is_file() and not path.name.startswith(".")


def recordings_below(folder: Path) -> list[Path]:
    """Return all recordings in a folder and the folders in it, in the order of their names.

    Raises AudioError if there is none, or no such folder.
    """
    if not folder.is_dir():
        raise AudioError(f"{folder}: no such folder; check the path.")
    found = sorted(filter(is_recording, folder.rglob("*")))
    if not found:
        raise AudioError(f"{folder}: no audio or video in this folder or below it.")
    return found
