"""Reading JSON that is larger than memory."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

from wavlm_meeting.errors import FormatError

CHUNK = 1 << 20
"""Characters that are read at once, at least."""
LONGEST = 1 << 26
"""Characters of one object, at most: where none has ended by then, it is broken."""


def stream_objects(path: Path, key: str) -> Iterator[dict[str, Any]]:
    """Give the objects of the array under `key`, one at a time; never the whole file.

    Raises FormatError where the file is cut or is no JSON, after what stands before that place.
    """
    with path.open(encoding="utf-8", errors="replace") as file:
        yield from _objects(file, _after_key(file, key, path), path)


def _after_key(file: TextIO, key: str, path: Path) -> str:
    """Read up to the array's bracket and return what was read behind it."""
    text = file.read(CHUNK)
    _, found, rest = text.partition(f'"{key}"')
    colon, bracket, rest = rest.partition("[")
    if not found or not bracket or colon.strip() != ":":
        raise FormatError(f"{path}: no array '{key}' at its head; fetch the file again.")
    return rest


def _objects(file: TextIO, text: str, path: Path) -> Iterator[dict[str, Any]]:
    decoder = json.JSONDecoder()
    position = given = 0
    while True:
        while text[position : position + 1] in {" ", "\t", "\r", "\n", ","}:
            position += 1
        if text[position : position + 1] == "]":
            return
        try:
            value, position = decoder.raw_decode(text, position)
        except json.JSONDecodeError:
            text, position = text[position:], 0
            # As much again as there is: a long object is tried anew few times.
            more = file.read(max(CHUNK, len(text))) if len(text) < LONGEST else ""
            if not more:
                raise FormatError(
                    f"{path}: broken after {given} entries; fetch the file again."
                ) from None
            text += more
        else:
            given += 1
            yield value
