"""Finding the files and folders of corpora below one folder, up to two levels down."""

from collections.abc import Iterator
from pathlib import Path

SUFFIXES = (".wav", ".flac", ".opus", ".ogg", ".m4a", ".aac", ".mp3")
"""Names of recordings; where one is there in several formats, the first is read."""


def find_file(data: Path, name: str) -> Path | None:
    """Return the file of that name in a folder or up to two levels down, the first by path."""
    return next(_below(data, name, is_folder=False), None)


def find_folder(data: Path, name: str) -> Path | None:
    """Return the folder of that name (or `a/b`) below a folder, up to two levels down."""
    return next(_below(data, name, is_folder=True), None)


def _below(data: Path, name: str, *, is_folder: bool) -> Iterator[Path]:
    for pattern in (name, f"*/{name}", f"*/*/{name}"):
        found = sorted(data.glob(pattern))
        yield from (path for path in found if (path.is_dir() if is_folder else path.is_file()))
