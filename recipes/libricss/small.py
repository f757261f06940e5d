"""A small corpus, laid out as LibriSpeech and LibriCSS: the recipe then runs on it to the table.

    python -m wavlm_meeting.recipes.libricss.small CORPUS OUT

CORPUS holds `manifest.csv` (path, source, speaker, split, language, transcript) and the recordings
below `speech/` and `noise/`. Labelled speech of the train split becomes train-clean-100, that of
the test split, but for single words, test-clean. Sessions of LibriCSS are simulated from English
speech with transcripts: the first of each condition from the dev split, the others from the test
split.
"""

import argparse
import csv
import logging
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.audio.simulate import Placement, Samples, Utterance
from wavlm_meeting.errors import AudioError, SettingsError, WavLMMeetingError
from wavlm_meeting.recipes.libricss.prepare import RECORDING, RELEASE, TRANSCRIPT, coloured_noise
from wavlm_meeting.recipes.libricss.rooms import RoomSettings, simulate_pool
from wavlm_meeting.recipes.libricss.sessions import (
    CONDITIONS,
    Condition,
    draw_placements,
    draw_session,
    overlap_of,
    scene_of,
)
from wavlm_meeting.recipes.reading import LeftOut, decode
from wavlm_meeting.recipes.workers import map_of
from wavlm_meeting.training.separation_mixtures import MixturePlan, render_mixture
from wavlm_meeting.training.separation_rooms import RoomPool
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.speech import FRAME, speech_of

MANIFEST = "manifest.csv"
PARTS = {"train": "train-clean-100", "test": "test-clean"}
SINGLE_WORDS = ("arabic_commands", "fsdd", "speech_commands")
"""Sources of words with pauses between them: two such talkers hardly talk at once."""
FIRST_SPEAKER = 10_001
"""Number that speakers begin with: LibriSpeech's own end before."""
TALKERS = 8
"""Of a session, where there are so many; as in LibriCSS."""
SESSIONS = 2
"""Of each condition: one for choices and one for figures. LibriCSS has 10."""
SESSION_S = 60.0
"""Length of each. LibriCSS's are ten minutes long."""
SNR_DB = (15.0, 25.0)
"""Signal-to-noise ratio in them (uniform)."""
HEADER = "start_time\tend_time\tspeaker\tutterance_id\ttranscription\n"

log = logging.getLogger(__name__)


class Line(NamedTuple):
    """One line of the manifest."""

    path: str
    source: str
    speaker: str
    split: str
    language: str
    transcript: str

    @property
    def kind(self) -> str:
        """Return the folder that it lies in: speech, noise, rir, ..."""
        return self.path.split("/", 1)[0]


class Told(NamedTuple):
    """What a session is made of: who can say what."""

    voices: Mapping[str, Sequence[Utterance]]
    samples: Sequence[Samples]
    """By the index of the utterance."""
    names: Sequence[str]
    """Of the utterances."""
    words: Sequence[str]


def lay_out(
    corpus: Path,
    out: Path,
    *,
    sessions: int = SESSIONS,
    session_s: float = SESSION_S,
    workers: int = 0,
) -> None:
    """Write the tree; recordings that are there stay.

    Raises SettingsError without a manifest, or where a split has too few talkers with transcripts,
    AudioError for a recording that cannot be read.
    """
    lines = read_manifest(corpus)
    names = _write_speech(corpus, out, lines, workers)
    for line in lines:
        if line.kind == "noise" and line.split == "train":
            target = out / "musan/noise" / line.source / Path(line.path).name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(corpus / line.path, target)
    told = {split: _told(corpus, lines, split, names) for split in ("dev", "test")}
    with tempfile.TemporaryDirectory() as folder, map_of(workers) as work:
        count = len(CONDITIONS) * sessions
        pool = RoomPool(
            simulate_pool(Path(folder), RoomSettings(rooms=count, places=TALKERS), 0, work)
        )
        for number in range(sessions):
            for condition in CONDITIONS:
                own = told["test" if number else "dev"]
                _write_session(out / RELEASE, condition, number, own, session_s, pool)
    log.info("%s: %d recordings, %d sessions", out, len(names), count)


def read_manifest(corpus: Path) -> list[Line]:
    """Read the manifest; raises SettingsError if it is none."""
    path = corpus / MANIFEST
    if not path.is_file():
        raise SettingsError(f"{corpus}: no {MANIFEST} here; name the folder that holds it.")
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    if not all({*Line._fields} <= row.keys() for row in rows):
        raise SettingsError(f"{path}: lacks a column; it needs {', '.join(Line._fields)}.")
    return sorted(Line(*(row[key] for key in Line._fields)) for row in rows)


def _write_speech(
    corpus: Path, out: Path, lines: Sequence[Line], workers: int
) -> dict[str, tuple[str, str]]:
    """Write LibriSpeech; return (speaker, utterance) of each recording that has a speaker."""
    names: dict[str, tuple[str, str]] = {}
    jobs: list[tuple[Path, Path]] = []
    words: dict[Path, list[str]] = defaultdict(list)
    spoken = defaultdict(list)
    for line in lines:
        if line.kind == "speech" and line.speaker:
            spoken[line.source, line.speaker].append(line)
    about = []
    for number, ((source, speaker), own) in enumerate(sorted(spoken.items()), FIRST_SPEAKER):
        about.append(f"{number} | {own[0].split} | {source} | {speaker}\n")
        for index, line in enumerate(own):
            name = f"{number}-1-{index:04d}"
            names[line.path] = str(number), name
            part = PARTS.get(line.split)
            if part and (line.split == "train" or source not in SINGLE_WORDS):
                folder = out / "LibriSpeech" / part / str(number) / "1"
                jobs.append((corpus / line.path, folder / f"{name}.flac"))
                words[folder / f"{number}-1.trans.txt"].append(f"{name} {_written(line)}\n")
    with map_of(workers) as work:
        for problem in work(_decode, jobs):
            if problem:
                raise AudioError(problem)
    for path, own_words in words.items():
        path.write_text("".join(own_words), encoding="utf-8")
    (out / "LibriSpeech/SPEAKERS.TXT").write_text("".join(about), encoding="utf-8")
    return names


def _written(line: Line) -> str:
    """Return a transcript as LibriSpeech has it: upper case, on one line."""
    return " ".join(line.transcript.upper().split())


def _decode(job: tuple[Path, Path]) -> str:
    """Write one recording; return what is wrong with it."""
    path, target = job
    found = None if target.is_file() else decode(path, target)
    return found.reason if isinstance(found, LeftOut) else ""


def _told(
    corpus: Path, lines: Iterable[Line], split: str, names: Mapping[str, tuple[str, str]]
) -> Told:
    """Read the utterances of a split with words that are known."""
    voices: dict[str, list[Utterance]] = defaultdict(list)
    samples: list[Samples] = []
    utterances, words = [], []
    for line in lines:
        if line.split == split and line.path in names and line.transcript and line.language == "en":
            heard = read_audio(corpus / line.path)
            frames = np.flatnonzero(speech_of(heard).frames)
            if not len(frames):
                continue
            speaker, name = names[line.path]
            span = (int(frames[0]) * FRAME, (int(frames[-1]) + 1) * FRAME)
            voices[speaker].append(Utterance(len(samples), speaker, (span,)))
            samples.append(heard)
            utterances.append(name)
            words.append(_written(line))
    if len(voices) < 2:
        raise SettingsError(
            f"{corpus}: English speech with transcripts of {len(voices)} speakers of the split "
            f"{split}; a session takes 2."
        )
    return Told(voices, samples, utterances, words)


def _write_session(
    release: Path, name: str, number: int, told: Told, session_s: float, pool: RoomPool
) -> None:
    """Write one session, the same each time."""
    condition = CONDITIONS[name]
    rng = np.random.default_rng([*name.encode(), number])
    talkers = rng.permutation(sorted(told.voices))[:TALKERS].tolist()
    voices = {each: told.voices[each] for each in talkers}
    length = int(session_s * SAMPLE_RATE)
    placements = draw_placements(rng, voices, condition, length)
    noise = coloured_noise(rng, length, 1.0)
    plan = draw_session(rng, placements, length, scene_of(SNR_DB), [(0, length)], pool)
    folder = release / name / _session_name(condition, number, placements)
    for each in (folder / RECORDING, folder / TRANSCRIPT, folder / "clean/mix.wav"):
        each.parent.mkdir(parents=True, exist_ok=True)
    _write_sounds(folder, plan, told, noise, pool)
    lines = [_line(each, told) for each in sorted(placements, key=lambda each: each.start)]
    (folder / TRANSCRIPT).write_text(HEADER + "".join(lines), encoding="utf-8")


def _write_sounds(
    folder: Path, plan: MixturePlan, told: Told, noise: Samples, pool: RoomPool
) -> None:
    """Write what the microphones hear, and what each talker says where nothing else is."""

    def load_noise(_: int) -> Samples:
        return noise

    heard = render_mixture(plan, told.samples.__getitem__, load_noise, pool).waveforms
    gain = min(1.0, 0.9 / float(np.abs(heard).max()))
    soundfile.write(folder / RECORDING, gain * heard.T, SAMPLE_RATE)
    dry = replace(plan, room=None, scene=replace(plan.scene, noise=None))
    clean = render_mixture(dry, told.samples.__getitem__).images[:, 0]
    clean *= min(1.0, 0.9 / float(np.abs(clean.sum(0)).max()))
    soundfile.write(folder / "clean/each_spk.wav", clean.T, SAMPLE_RATE)
    soundfile.write(folder / "clean/mix.wav", clean.sum(0), SAMPLE_RATE)


def _session_name(condition: Condition, number: int, placements: Sequence[Placement]) -> str:
    shortest, longest = condition.pause_s
    return (
        f"overlap_ratio_{100 * condition.overlap:.1f}_sil{shortest}_{longest}_session{number}_"
        f"actual{100 * overlap_of(placements):.1f}"
    )


def _line(placed: Placement, told: Told) -> str:
    start_s = placed.start / SAMPLE_RATE
    end_s = start_s + (placed.end - placed.begin) / SAMPLE_RATE
    index = placed.utterance.index
    fields = (placed.utterance.speaker, told.names[index], told.words[index])
    return "\t".join((f"{start_s:.6f}", f"{end_s:.6f}", *fields)) + "\n"


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Lay a small corpus out as LibriCSS.")
    parser.add_argument("corpus", type=Path, help="folder with manifest.csv")
    parser.add_argument("out", type=Path, help="folder for the tree")
    parser.add_argument("--sessions", type=int, default=SESSIONS, help="of each condition")
    parser.add_argument("--session-s", type=float, default=SESSION_S, help="length of each")
    chosen = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        lay_out(chosen.corpus, chosen.out, sessions=chosen.sessions, session_s=chosen.session_s)
    except WavLMMeetingError as problem:
        parser.error(str(problem))


if __name__ == "__main__":
    main()
