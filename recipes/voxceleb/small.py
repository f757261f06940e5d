"""A small corpus, laid out as VoxCeleb: the same recipe then runs on it from start to table.

    python -m wavlm_meeting.recipes.voxceleb.small CORPUS OUT

CORPUS holds `manifest.csv` (path, source, speaker, split, session), the recordings below `speech/`,
`noise/` and `rir/`, and trial lists `trials_*.txt`. Labelled training speech becomes
speakers of VoxCeleb2, unlabelled speech the voices of MUSAN, recordings of the trial lists
VoxCeleb1; noise and rooms are those of the train split. `sources.csv` says who is who, and which
collection a speaker comes from; sessions stay what they were.
"""

import argparse
import csv
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from wavlm_meeting.errors import AudioError, SettingsError, WavLMMeetingError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.lines import read_fields
from wavlm_meeting.recipes.reading import LeftOut, decode
from wavlm_meeting.recipes.voxceleb.corpora import SOURCES
from wavlm_meeting.recipes.workers import map_of

MANIFEST = "manifest.csv"
TRAIN, TRIED = "vox2/dev/wav", "vox1/wav"
FIRST = {TRAIN: 1, TRIED: 10_001}
"""Numbers that speakers begin with."""
FOLDERS = {"noise": "musan/noise", "rir": "RIRS_NOISES/real_rirs_isotropic_noises"}
UNLABELLED = "musan/speech"
SESSION = "s00"
"""Where none is stated: all recordings of the speaker may be of one."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Line:
    """One line of the manifest."""

    path: str
    source: str
    speaker: str
    split: str
    session: str

    @property
    def kind(self) -> str:
        """Return the folder that it lies in: speech, noise, rir, ..."""
        return self.path.split("/", 1)[0]


def lay_out(corpus: Path, out: Path, workers: int = 0) -> None:
    """Write the tree; files that are there stay.

    Raises SettingsError without a manifest or trial lists, or for a list that names what is not in
    the manifest; AudioError for a recording that cannot be read.
    """
    lines = _read_manifest(corpus)
    lists = {path.name: _read_list(path) for path in sorted(corpus.glob("trials_*.txt"))}
    if not lists:
        raise SettingsError(f"{corpus}: no trials_*.txt here; name the folder that holds them.")
    tried = {name for trials in lists.values() for _, *pair in trials for name in pair}
    unknown = sorted(tried - {line.path for line in lines})
    if unknown:
        raise SettingsError(
            f"{corpus}: {len(unknown)} recordings of the trial lists are not in {MANIFEST}, "
            f"such as {unknown[0]}."
        )
    training = [line for line in lines if line.split == "train"]
    labelled = [line for line in training if line.kind == "speech" and line.speaker]
    tested = [line for line in lines if line.path in tried]
    names: dict[str, str] = {}
    who = []
    for root, own in ((TRAIN, labelled), (TRIED, tested)):
        placed, speakers = _placed(root, own)
        names |= placed
        who += speakers
    for line in training:
        if line.kind in FOLDERS or (line.kind == "speech" and not line.speaker):
            folder = FOLDERS.get(line.kind, UNLABELLED)
            rest = Path(line.path).relative_to(line.kind).with_suffix(".flac")
            names[line.path] = f"{folder}/{rest.as_posix()}"
    _write_recordings(corpus, out, names, workers)
    for name, trials in lists.items():
        _write_list(out / name, trials, names)
    _write_table(out / SOURCES, who)
    log.info("%s: %d recordings of %d speakers and noise", out, len(names), len(who))


def _read_manifest(corpus: Path) -> list[Line]:
    path = corpus / MANIFEST
    if not path.is_file():
        raise SettingsError(f"{corpus}: no {MANIFEST} here; name the folder that holds it.")
    keys = ("path", "source", "speaker", "split", "session")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not all(set(keys) <= row.keys() for row in rows):
        raise SettingsError(f"{path}: lacks a column; it needs {', '.join(keys)}.")
    return sorted((Line(*(row[key] for key in keys)) for row in rows), key=lambda line: line.path)


def _read_list(path: Path) -> list[list[str]]:
    return [fields for _, fields in read_fields(path)]


def _placed(root: str, lines: Iterable[Line]) -> tuple[dict[str, str], list[tuple[str, str, str]]]:
    """Return where each recording goes, and (id, source, speaker) of each speaker."""
    own: dict[tuple[str, str], dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for line in lines:
        own[line.source, line.speaker][line.session or SESSION].append(line.path)
    placed: dict[str, str] = {}
    speakers = []
    for number, ((source, speaker), sessions) in enumerate(sorted(own.items()), FIRST[root]):
        speakers.append((f"id{number:05d}", source, speaker))
        for session, paths in sessions.items():
            for index, path in enumerate(paths, 1):
                placed[path] = f"{root}/id{number:05d}/{session}/{index:05d}.flac"
    return placed, speakers


def _write_recordings(corpus: Path, out: Path, names: Mapping[str, str], workers: int) -> None:
    with map_of(workers) as work:
        for problem in work(partial(_write_recording, corpus, out), names.items()):
            if problem:
                raise AudioError(problem)


def _write_recording(corpus: Path, out: Path, job: tuple[str, str]) -> str:
    """Write one recording; return what is wrong with it."""
    path, name = job
    target = out / name
    found = None if target.is_file() else decode(corpus / path, target)
    return found.reason if isinstance(found, LeftOut) else ""


def _write_list(path: Path, trials: Iterable[list[str]], names: Mapping[str, str]) -> None:
    def lines() -> Iterator[str]:
        for target, *pair in trials:
            enrol, test = (names[name].removeprefix(f"{TRIED}/") for name in pair)
            yield f"{target} {enrol} {test}\n"

    with atomic_write(path) as temporary:
        temporary.write_text("".join(lines()), encoding="utf-8")


def _write_table(path: Path, speakers: Iterable[tuple[str, str, str]]) -> None:
    with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file)
        table.writerow(("speaker", "source", "original"))
        table.writerows(speakers)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Lay a small corpus out as VoxCeleb.")
    parser.add_argument("corpus", type=Path, help="folder with manifest.csv")
    parser.add_argument("out", type=Path, help="folder for the tree")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        lay_out(chosen.corpus, chosen.out)
    except WavLMMeetingError as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
