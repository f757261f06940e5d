"""Finding the speakers of VoxCeleb1 and 2 below one folder, as they are published.

However the archives were unpacked (`vox1_dev_wav/wav/`, `vox2/dev/aac/`, all in one `wav/`),
speakers are folders `id<number>` with a folder for each video: the number tells the corpus,
VoxCeleb1 begins at id10001 (https://www.robots.ox.ac.uk/~vgg/data/voxceleb). A video is a session.
"""

import csv
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.formats.lines import read_text
from wavlm_meeting.recipes.finding import SUFFIXES, find_file

Part: TypeAlias = Literal["vox1-dev", "vox1-test", "vox2-dev", "vox2-test"]
"""Published parts; the 40 speakers of VoxCeleb1's test part are those of the trial list O."""

SOURCES = "sources.csv"
"""Optional table `speaker,source`, for a corpus of several sources."""
DEPTH = 4
"""Folders between the data folder and the speakers' folders, at most."""

_SPEAKER = re.compile(r"id\d{5}")
_FIRST_OF_VOX1 = 10_001
_TEST_OF_VOX1 = range(10_270, 10_310)  # the 40 speakers whose names begin with E


@dataclass(frozen=True)
class Speaker:
    """Where the recordings of one speaker lie."""

    name: str
    """As the folder is called."""
    part: Part
    """The part of the corpus."""
    folders: tuple[Path, ...]
    """Several where a corpus is there in two formats."""
    source: str = ""
    """Which collection the speaker comes from; empty where there is one."""

    def sessions(self) -> set[str]:
        """Return the names of the videos."""
        return {each.name for folder in self.folders for each in folder.iterdir() if each.is_dir()}

    def recordings(self) -> list[tuple[str, Path]]:
        """Return `<speaker>/<video>/<utterance>` and the file of each recording, by name."""
        found: dict[str, Path] = {}
        files = (each for folder in self.folders for each in folder.glob("*/*"))
        known = [each for each in files if each.suffix.lower() in SUFFIXES]
        for path in sorted(known, key=lambda each: SUFFIXES.index(each.suffix.lower())):
            if not path.name.startswith("."):
                found.setdefault(f"{self.name}/{path.parent.name}/{path.stem}", path)
        return sorted(found.items())


def find_speakers(data: Path) -> dict[str, Speaker]:
    """Return all speakers below a folder, in the order of their names.

    Raises SettingsError if there is none, FormatError for a table of sources that is none.
    """
    folders: dict[str, list[Path]] = defaultdict(list)
    for folder in _speaker_folders(data, DEPTH):
        folders[folder.name].append(folder)
    if not folders:
        raise SettingsError(
            f"{data}: no VoxCeleb here; name the folder that holds wav/id10001/<video>/00001.wav "
            "or aac/id00012/<video>/00001.m4a, in any folders up to four levels down."
        )
    sources = _sources(data)
    return {
        name: Speaker(name, _part(own, data), tuple(sorted(own)), sources.get(name, ""))
        for name, own in sorted(folders.items())
    }


def _speaker_folders(folder: Path, depth: int) -> Iterator[Path]:
    inner = sorted(each for each in folder.iterdir() if each.is_dir())
    own = [each for each in inner if _SPEAKER.fullmatch(each.name)]
    if own or not depth:
        yield from own
        return
    for each in inner:
        yield from _speaker_folders(each, depth - 1)


def _part(folders: list[Path], data: Path) -> Part:
    number = int(folders[0].name.removeprefix("id"))
    if number >= _FIRST_OF_VOX1:
        return "vox1-test" if number in _TEST_OF_VOX1 else "vox1-dev"
    above = (folder.relative_to(data).parts for folder in folders)
    is_test = any("test" in part.lower() for parts in above for part in parts)
    return "vox2-test" if is_test else "vox2-dev"


def _sources(data: Path) -> Mapping[str, str]:
    path = find_file(data, SOURCES)
    if path is None:
        return {}
    rows = list(csv.DictReader(read_text(path).splitlines()))
    if not all({"speaker", "source"} <= row.keys() for row in rows):
        raise FormatError(f"{path}: no table of sources; its first line is 'speaker,source'.")
    return {row["speaker"]: row["source"] for row in rows}
