"""A small corpus as speech and noise that recipes for diarization read.

CORPUS holds `manifest.csv` (path, source, speaker, split, session) and the recordings below
`speech/`, `noise/`, `rir/` and `meetings/`.
"""

import csv
import shutil
from pathlib import Path
from typing import NamedTuple

from wavlm_meeting.errors import SettingsError

MANIFEST = "manifest.csv"
FOLDERS = {"noise": "musan/noise", "rir": "RIRS_NOISES/real_rirs_isotropic_noises"}


class Line(NamedTuple):
    """One line of the manifest."""

    path: str
    speaker: str
    split: str

    @property
    def kind(self) -> str:
        """Return the folder that it lies in: speech, noise, rir, ..."""
        return self.path.split("/", 1)[0]


def read_lines(corpus: Path) -> list[Line]:
    """Read the manifest; raises SettingsError if it is none."""
    path = corpus / MANIFEST
    if not path.is_file():
        raise SettingsError(f"{corpus}: no {MANIFEST} here; name the folder that holds it.")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not all({*Line._fields} <= row.keys() for row in rows):
        raise SettingsError(f"{path}: lacks a column; it needs {', '.join(Line._fields)}.")
    return sorted(Line(*(row[key] for key in Line._fields)) for row in rows)


def lay_out_material(corpus: Path, out: Path, lines: list[Line], speakers: int) -> None:
    """Copy training speech of so many speakers, noise and rooms to where recipes look for them."""
    training = [line for line in lines if line.split == "train"]
    spoken = [line for line in training if line.kind == "speech" and line.speaker]
    kept = sorted({line.speaker for line in spoken})[:speakers]
    for line in spoken:
        if line.speaker in kept:
            folder = out / "speech" / line.speaker.replace("/", "-")
            _copy(corpus / line.path, folder / Path(line.path).name)
    for line in training:
        if line.kind in FOLDERS:
            _copy(corpus / line.path, out / FOLDERS[line.kind] / Path(line.path).name)


def _copy(path: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(path, target)
