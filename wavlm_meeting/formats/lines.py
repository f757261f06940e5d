"""What the line-based formats share: reading fields and numbers, and refusing with a place."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from wavlm_meeting.errors import FormatError


@contextmanager
def open_text(path: str | Path, encoding: str = "utf-8-sig") -> Iterator[TextIO]:
    """Open a UTF-8 text file (with or without a byte-order mark); raises FormatError."""
    try:
        with Path(path).open(encoding=encoding) as file:
            yield file
    except FileNotFoundError:
        raise FormatError(f"{path}: no such file; check the path.") from None
    except IsADirectoryError:
        raise FormatError(f"{path}: a folder; name a file in it.") from None
    except UnicodeDecodeError:
        raise FormatError(f"{path}: not a text file in UTF-8.") from None
    except (OSError, ValueError) as error:
        raise FormatError(f"{path}: cannot be read: {error}.") from None


def read_text(path: str | Path) -> str:
    """Read a UTF-8 text file; raises FormatError."""
    with open_text(path) as file:
        return file.read()


def read_wide_text(path: str | Path) -> str:
    """Read a text file in UTF-8, or in UTF-16 if it begins with its mark; raises FormatError."""
    with open_text(path, "latin-1") as file:
        mark = file.read(2)
    with open_text(path, "utf-16" if mark in {"\xff\xfe", "\xfe\xff"} else "utf-8-sig") as file:
        return file.read()


def read_fields(path: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield "file:line" and the fields of each line, without blank lines and `;;` comments."""
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        fields = line.split(";;", maxsplit=1)[0].split()
        if fields:
            yield f"{path}:{number}", fields


def parse_seconds(text: str, name: str, where: str) -> float:
    """Turn a field into seconds from 0 on; raises FormatError."""
    try:
        seconds = float(text)
    except ValueError:
        raise FormatError(f"{where}: {name} '{text}' is not a number.") from None
    if not math.isfinite(seconds) or seconds < 0:
        raise FormatError(f"{where}: {name} is {text}; it must be 0 or more seconds.")
    return seconds


def as_field(text: object, name: str, gap: str = "_") -> str:
    """Turn a name into one field: runs of spaces become `gap`; raises FormatError if empty."""
    field = gap.join(str(text).split())
    if text is None or not field:
        raise FormatError(f"the {name} is empty; give it a name.")
    return field


def speaker_fields(speakers: Iterable[str], uri: str, gap: str = "_") -> dict[str, str]:
    """Turn speakers' names into fields; raises FormatError if two of them would become one."""
    fields = {speaker: as_field(speaker, "speaker's name", gap) for speaker in speakers}
    if len(set(fields.values())) < len(fields):
        raise FormatError(f"{uri}: two speakers have one name but for spaces; rename one.")
    return fields


def milliseconds(seconds: float) -> int:
    """Round to the resolution of the written files."""
    return round(seconds * 1000)
