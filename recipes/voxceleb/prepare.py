"""Stage `prepare`: the folders as published -> manifests of what is trained on and tested.

Speakers of the trial lists are never trained on. Some training speakers are held out: scores are
calibrated on them.
"""

import hashlib
import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import TypeAlias

import numpy as np

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes.manifests import write_manifest
from wavlm_meeting.recipes.reading import Found, LeftOut, ready_recordings
from wavlm_meeting.recipes.sounds import ROOMS, find_sounds, sound_files
from wavlm_meeting.recipes.voxceleb.corpora import Speaker, find_speakers
from wavlm_meeting.recipes.voxceleb.lists import find_lists, recording_name
from wavlm_meeting.recipes.voxceleb.reading import speaker_recordings, wanted_recordings
from wavlm_meeting.recipes.voxceleb.rooms import simulate_rooms
from wavlm_meeting.recipes.voxceleb.settings import DataSettings
from wavlm_meeting.recipes.workers import Map, map_of
from wavlm_meeting.units import SAMPLE_RATE

CHUNK = 200
"""Files of noise that a worker takes at once."""

Ready: TypeAlias = list[Found | LeftOut]
"""What became of the recordings of one speaker, or of one chunk."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The folder of manifests."""

    folder: Path

    @property
    def train(self) -> Path:
        """What is trained on."""
        return self.folder / "train.jsonl.gz"

    @property
    def held_out(self) -> Path:
        """Training speakers that are not trained on."""
        return self.folder / "held_out.jsonl.gz"

    @property
    def tested(self) -> Path:
        """Every recording of a trial list."""
        return self.folder / "tested.jsonl.gz"

    @property
    def teacher(self) -> Path:
        """A teacher's embeddings of what is trained on."""
        return self.folder / "teacher.npy"

    @property
    def sounds(self) -> Path | None:
        """Noise, music and voices for the background, by source; None where there are none."""
        path = self.folder / "sounds.jsonl.gz"
        return path if path.is_file() else None

    @property
    def rooms(self) -> Path | None:
        """Impulse responses; None where there are none."""
        path = self.folder / "rooms.jsonl.gz"
        return path if path.is_file() else None


def prepare(data: Path, out: Path, prepared: Prepared, settings: DataSettings) -> None:
    """Run the stage; what was decoded before a stop is not decoded again.

    Raises SettingsError where speakers, trial lists or recordings of these are missing, and for
    training speakers that are in a list; FormatError for a broken list.
    """
    speakers = find_speakers(data)
    tested = _tested(data, settings, speakers)
    training = _training(data, settings, speakers, tested)
    sounds = find_sounds(data)
    prepared.folder.mkdir(parents=True, exist_ok=True)
    digest = hashlib.sha256(str(data.resolve()).encode()).hexdigest()[:8]
    decoded = out / "decoded" / digest  # names are those of one data folder
    left: list[LeftOut] = []
    with map_of(settings.workers) as work:
        named = partial(wanted_recordings, decoded=decoded)
        rows = work(named, [(speakers[name], wanted) for name, wanted in tested.items()])
        missing = _write_tested(prepared.tested, rows, tested)
        if missing:
            raise SettingsError(_missing_line(missing, data))
        left += _write_training(prepared, work, training, decoded, settings)
        rooms = {ROOMS: sounds.pop(ROOMS)}
        if count := settings.simulated_rooms:
            simulated = simulate_rooms(out / "rooms", count, settings.seed, work)
            rooms[ROOMS] += (simulated,)
        for name, kinds in (("sounds", sounds), ("rooms", rooms)):
            if any(kinds.values()):
                path = prepared.folder / f"{name}.jsonl.gz"
                left += _write_sounds(path, work, kinds, data, decoded)
    _write_left_out(prepared.folder / "left_out.jsonl", left)


def _tested(
    data: Path, settings: DataSettings, speakers: Mapping[str, Speaker]
) -> dict[str, frozenset[str]]:
    """Return the recordings of all trial lists, by speaker."""
    tested: dict[str, set[str]] = defaultdict(set)
    for trials in find_lists(data, settings.lists).values():
        for name in map(recording_name, trials.names):
            tested[name.split("/")[0]].add(name)
    unknown = sorted(tested.keys() - speakers.keys())
    if unknown:
        raise SettingsError(
            f"{data}: no folder of {len(unknown)} speakers of the trial lists, such as "
            f"{unknown[0]}; add their part of VoxCeleb1, or take the list out of data.lists."
        )
    return {name: frozenset(own) for name, own in sorted(tested.items())}


def _training(
    data: Path,
    settings: DataSettings,
    speakers: Mapping[str, Speaker],
    tested: Mapping[str, frozenset[str]],
) -> list[Speaker]:
    """Return the speakers of the parts to train on; none of them is in a trial list."""
    training = [each for each in speakers.values() if each.part in settings.train]
    if not training:
        parts = Counter(each.part for each in speakers.values())
        there = ", ".join(f"{count} of {part}" for part, count in parts.items())
        raise SettingsError(
            f"{data}: no speakers of {' or '.join(settings.train)} to train on; there are {there}."
        )
    both = [each.name for each in training if each.name in tested]
    if both:
        raise SettingsError(
            f"{len(both)} training speakers are in the trial lists, such as {both[0]}: train on "
            "another part (data.train), or take the list out of data.lists."
        )
    return training


def held_out_speakers(speakers: Sequence[Speaker], count: int, seed: int) -> set[str]:
    """Draw the speakers that are not trained on, of those who have several sessions."""
    several = [each.name for each in speakers if len(each.sessions()) > 1] if count else []
    if len(several) < count:
        raise SettingsError(
            f"{count} speakers are to be held out, but {len(several)} have several sessions: "
            "lower data.held_out."
        )
    if count and count >= len(speakers):
        raise SettingsError("all speakers would be held out: lower data.held_out.")
    return set(np.random.default_rng(seed).permutation(several)[:count].tolist())


def _write_tested(
    path: Path, rows: Iterable[Ready], tested: Mapping[str, frozenset[str]]
) -> dict[str, str]:
    """Write what the lists name; return what is not there or cannot be read, with the reason."""
    missing = {name: "no such recording" for own in tested.values() for name in own}
    with write_manifest(path) as write:
        for each in (each for ready in rows for each in ready):
            if isinstance(each, LeftOut):
                missing[each.name] = each.reason
            else:
                del missing[each.name]
                write(each, each.name.split("/")[0])
    return missing


def _missing_line(missing: Mapping[str, str], data: Path) -> str:
    first = min(missing)
    return (
        f"{data}: {len(missing)} recordings of the trial lists are missing, such as {first} "
        f"({missing[first].removesuffix('.')}); add them, or take the list out of data.lists."
    )


def _write_training(
    prepared: Prepared,
    work: Map,
    training: Sequence[Speaker],
    decoded: Path,
    settings: DataSettings,
) -> list[LeftOut]:
    apart = held_out_speakers(training, settings.held_out, settings.seed)
    left: list[LeftOut] = []
    samples = recordings = 0
    ready = work(partial(speaker_recordings, decoded=decoded), training)
    with write_manifest(prepared.train) as train, write_manifest(prepared.held_out) as held_out:
        for speaker, own in zip(training, ready, strict=True):
            write = held_out if speaker.name in apart else train
            for each in own:
                if isinstance(each, LeftOut):
                    left.append(each)
                    continue
                write(each, speaker.name, speaker.source)
                samples, recordings = samples + each.samples, recordings + 1
    log.info(
        "prepare: %d recordings of %d speakers, %.2f hours; %d speakers held out, %d recordings "
        "left out",
        recordings, len(training), samples / SAMPLE_RATE / 3600, len(apart), len(left),
    )  # fmt: skip
    if not recordings:
        raise SettingsError("no recording of the training speakers can be read; unpack them again.")
    return left


def _write_sounds(
    path: Path, work: Map, kinds: Mapping[str, tuple[Path, ...]], data: Path, decoded: Path
) -> list[LeftOut]:
    """Write sounds of some kinds, which are the sources in the manifest."""
    left: list[LeftOut] = []
    with write_manifest(path) as write:
        for kind, folders in kinds.items():
            # A room's response at two microphones is not their mean.
            read = partial(ready_recordings, decoded=decoded, channel=1 if kind == ROOMS else None)
            chunks = _chunks(sound_files(kind, folders, data))
            for each in (each for ready in work(read, chunks) for each in ready):
                if isinstance(each, LeftOut):
                    left.append(each)
                else:
                    write(each, source=kind)
    return left


def _write_left_out(path: Path, left: Iterable[LeftOut]) -> None:
    with atomic_write(path) as temporary:
        lines = (json.dumps(asdict(each)) + "\n" for each in left)
        temporary.write_text("".join(lines), encoding="utf-8")


def _chunks(files: Iterator[tuple[str, Path]]) -> Iterator[list[tuple[str, Path]]]:
    while chunk := list(islice(files, CHUNK)):
        yield chunk
