"""GigaSpeech: `audio/<source>/P<number>/*.opus`, and `GigaSpeech.json` with all segments.

The JSON is several GB and read as a stream. Lhotse's preparation leaves that to `speechcolab`, a
dependency that would be there for this file alone.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lhotse.utils import fastcopy

from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.recipes.mix94k.json_stream import stream_objects
from wavlm_meeting.training.sources import Source, Unreadable, read_recording

METADATA = "GigaSpeech.json"
SUBSET = "{XL}"
"""The 10,000 hours."""


def gigaspeech(root: Path) -> Iterator[Source]:
    """Give the segments of GigaSpeech's subset XL, by the ids and in the order of its JSON.

    Raises SettingsError if the JSON is not at `root`.
    """
    if not (root / METADATA).is_file():
        raise SettingsError(
            f"{root}: no GigaSpeech here; name the folder that holds {METADATA} and audio/."
        )
    return _recordings(root)


def _recordings(root: Path) -> Iterator[Source]:
    try:
        for number, entry in enumerate(stream_objects(root / METADATA, "audios")):
            yield from _segments(root, entry, number)
    except FormatError as error:
        yield Unreadable(METADATA, str(error))


def _segments(root: Path, entry: dict[str, Any], number: int) -> Iterator[Source]:
    """Give the wanted segments of one recording; one without any is not opened."""
    try:
        path = entry["path"]
        wanted = [
            (part["sid"], float(part["begin_time"]), float(part["end_time"]))
            for part in entry["segments"]
            if SUBSET in part["subsets"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        yield Unreadable(f"{METADATA}, entry {number}", f"not as published: {error!r}")
        return
    if not wanted:
        return
    recording = read_recording(root / path, path)
    if isinstance(recording, Unreadable):
        yield recording
        return
    whole = recording.to_cut()
    for segment, start, end in wanted:
        yield fastcopy(whole, id=segment, start=start, duration=round(end - start, 8))
