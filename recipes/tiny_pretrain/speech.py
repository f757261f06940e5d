"""Which speech of a folder is pretrained on, and where its words are known."""

import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lhotse import SupervisionSegment
from lhotse.cut import Cut
from lhotse.supervision import AlignmentItem

from wavlm_meeting.audio.folders import recordings_below
from wavlm_meeting.recipes.pretraining import Speech
from wavlm_meeting.training.sources import Source, Unreadable, folder_cuts

MANIFEST = "manifest.csv"
WORD_S = {"speech_commands": 1.0}
"""Seconds of a word in the sources whose words are evenly spaced: clips of one second, joined."""


@dataclass(frozen=True)
class SpeechFile:
    """A recording, and its words if they are one after the other in even steps."""

    path: Path
    words: tuple[str, ...] = ()
    word_s: float = 0.0


def speech_below(data: Path) -> Speech:
    """Return the speech of a folder: the train split of a `manifest.csv`, or all recordings.

    Raises AudioError if there is none.
    """
    files = speech_files(data)
    listed = [(str(file.path.relative_to(data)), file.path.stat().st_size) for file in files]
    digest = hashlib.sha256(repr(listed).encode()).hexdigest()
    return Speech(lambda: _cuts(files, data), {"data": str(data.resolve()), "files": digest})


def speech_files(data: Path) -> list[SpeechFile]:
    """Return the files to pretrain on; raises AudioError if the folder holds no recording."""
    if not (data / MANIFEST).is_file():
        return [SpeechFile(path) for path in recordings_below(data)]
    with (data / MANIFEST).open(encoding="utf-8", newline="") as file:
        rows = sorted(csv.DictReader(file), key=lambda row: row["path"])
    return [
        SpeechFile(
            data / row["path"],
            tuple(row.get("transcript", "").split()),
            WORD_S.get(row.get("source", ""), 0.0),
        )
        for row in rows
        if row["split"] == "train" and row["path"].startswith("speech/")
    ]


def _cuts(files: list[SpeechFile], root: Path) -> Iterator[Source]:
    for file in files:
        for cut in folder_cuts([file.path], root):
            if file.word_s and not isinstance(cut, Unreadable):
                cut.supervisions = [_aligned(cut, file)]
            yield cut


def _aligned(cut: Cut, file: SpeechFile) -> SupervisionSegment:
    """Return the words of a recording with their times."""
    items = [
        AlignmentItem(word, number * file.word_s, file.word_s)
        for number, word in enumerate(file.words)
        if (number + 1) * file.word_s <= cut.duration + 0.01
    ]
    return SupervisionSegment(
        id=cut.id,
        recording_id=cut.recording_id,
        start=0.0,
        duration=cut.duration,
        text=" ".join(file.words),
    ).with_alignment("word", items)
