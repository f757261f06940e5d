"""From a path on a command line to the annotations in it: one file, or a folder of them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from wavlm_meeting.errors import FormatError

A = TypeVar("A")


def read_all(path: str, suffix: str, read: Callable[[Path], Mapping[str, A]]) -> dict[str, A]:
    """Read an annotation file, or every file of a folder whose name ends in `suffix`.

    Raises FormatError for a folder without such files, and for a recording that two of them hold.
    """
    if not Path(path).is_dir():
        return dict(read(Path(path)))
    files = sorted(file for file in Path(path).iterdir() if file.suffix.lower() == suffix)
    if not files:
        raise FormatError(f"{path}: no {suffix} file in this folder; name one that has some.")
    found: dict[str, A] = {}
    origin: dict[str, Path] = {}
    for file in files:
        for uri, annotation in read(file).items():
            if uri in found:
                raise FormatError(f"{file}: '{uri}' is in {origin[uri]} too; leave one out.")
            found[uri], origin[uri] = annotation, file
    return found
