"""Stage 1: decode the corpus once, find the speech in it, and ask the teacher for voices.

Writes into the work folder `samples.npy` (all utterances, int16, one after the other) and
`utterances.npz` (where each lies, whose it is, where speech is in it, the teacher's embedding).
Training speech is there at further speeds, too: resampled by a tenth, a voice is another speaker's.
Speech is found by silero-vad (MIT) and the teacher is Resemblyzer's encoder (Apache-2.0); both are
needed here only, never to run the model. Of a real conversation there is a line for each speaker,
all with the same samples, and one for each longer pause, as background noise.
"""

import csv
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.signal import resample_poly

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes.tiny.meetings import alone, pauses, read_meetings
from wavlm_meeting.recipes.tiny.teachers import describe_voices, find_speech
from wavlm_meeting.recipes.workers import map_of

Ints = NDArray[np.integer]

log = logging.getLogger(__name__)

Speeds = Sequence[tuple[int, int]]
"""Of further copies: samples after and before, (10, 11) for 1.1 times the speed."""
TABLE = "utterances.npz"


@dataclass(frozen=True)
class Row:
    """One line of the corpus manifest: where, whose, from which collection, in which split."""

    path: str
    speaker: str
    source: str
    split: str
    kind: str


def read_manifest(corpus: Path) -> list[Row]:
    """Return the rows of `manifest.csv` below `speech/` and `noise/`, in a fixed order."""
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            Row(row["path"], row["speaker"], row["source"], row["split"], kind)
            for row in csv.DictReader(file)
            if (kind := row["path"].split("/", 1)[0]) in ("speech", "noise", "rir")
        ]
    return sorted(rows, key=lambda row: row.path)


def prepare(corpus: Path, work: Path, speeds: Speeds, workers: int = 0) -> None:
    """Run the stage in so many processes, one a core if 0; a finished one is left as it is."""
    if (work / TABLE).exists():
        log.info("prepare: %s is there, skipped", work / TABLE)
        return
    work.mkdir(parents=True, exist_ok=True)
    rows = read_manifest(corpus)
    samples = [_decode(corpus / row.path, row.kind) for row in rows]
    _add_speeds(rows, samples, speeds)
    speech: list[Ints] = [np.zeros((0, 2), np.int64)] * len(rows)
    spoken = [index for index, row in enumerate(rows) if row.kind == "speech"]
    with map_of(workers) as run:
        spans = find_speech([samples[index] for index in spoken], run)
        for index, found in zip(spoken, spans, strict=True):
            speech[index] = found
        log.info("prepare: speech found in %d recordings", len(spoken))
        heard = list(zip(samples, speech, strict=True))
        _add_meetings(corpus, speeds, rows, samples, speech, heard)
        teacher = describe_voices(heard, run)
    _write(work, rows, samples, speech, teacher)


def _add_meetings(
    corpus: Path,
    speeds: Speeds,
    rows: list[Row],
    samples: list[Ints],
    speech: list[Ints],
    heard: list[tuple[Ints, Ints]],
) -> None:
    """Append each speaker of the meetings of the train split, and the pauses as noises.

    `heard` are the samples and the speech in them that a voice is described by.
    """
    nothing = np.zeros((0, 2), np.int64)
    for meeting in read_meetings(corpus, "train"):
        wave = _decode(corpus / meeting.path, "meeting")
        for up, down in ((1, 1), *speeds):
            faster = _at_speed(wave, up, down)
            turns = {name: spans * up // down for name, spans in meeting.turns.items()}
            for name, spans in turns.items():
                rows.append(Row(meeting.path, _renamed(name, up, down), "", "train", "meeting"))
                samples.append(faster)
                speech.append(spans)
                heard.append((faster, alone(turns, name, len(faster))))
        for start, end in pauses(meeting.turns, len(wave)):
            rows.append(Row(meeting.path, "", "", "train", "noise"))
            samples.append(wave[start:end])
            speech.append(nothing)
            heard.append((samples[-1], nothing))


def _write(
    work: Path,
    rows: list[Row],
    samples: list[Ints],
    speech: list[Ints],
    teacher: NDArray[np.float32],
) -> None:
    """Write samples, each array of them once, and the table of the recordings."""
    first: dict[int, int] = {}
    laid: list[Ints] = []
    total = 0
    for wave in samples:
        if id(wave) not in first:
            first[id(wave)] = total
            laid.append(wave)
            total += len(wave)
    with atomic_write(work / "samples.npy") as path:
        np.save(path, np.concatenate(laid))
    with atomic_write(work / TABLE) as path:
        np.savez(
            path,
            path=np.array([row.path for row in rows]),
            speaker=np.array([row.speaker for row in rows]),
            source=np.array([row.source for row in rows]),
            split=np.array([row.split for row in rows]),
            kind=np.array([row.kind for row in rows]),
            start=np.array([first[id(wave)] for wave in samples]),
            length=np.array([len(wave) for wave in samples]),
            span_count=np.array([len(spans) for spans in speech]),
            spans=np.concatenate(speech),
            teacher=teacher,
        )


def _decode(path: Path, kind: str) -> Ints:
    wave = read_audio(path)
    if kind == "rir":
        wave = wave / np.abs(wave).max()
    return np.clip(np.round(wave * 32767), -32768, 32767).astype(np.int16)


def _add_speeds(rows: list[Row], samples: list[Ints], speeds: Speeds) -> None:
    """Append the training speech at other speeds, as other speakers."""
    spoken = [i for i, row in enumerate(rows) if (row.kind, row.split) == ("speech", "train")]
    for up, down in speeds:
        for row, wave in [(rows[i], samples[i]) for i in spoken]:
            samples.append(_at_speed(wave, up, down))
            rows.append(replace(row, speaker=_renamed(row.speaker, up, down)))


def _at_speed(wave: Ints, up: int, down: int) -> Ints:
    if up == down:
        return wave
    faster = resample_poly(wave.astype(np.float32), up, down)
    return np.clip(np.round(faster), -32768, 32767).astype(np.int16)


def _renamed(speaker: str, up: int, down: int) -> str:
    """Return another speaker's name at another speed; no name stays none."""
    return speaker if up == down or not speaker else f"{speaker} x{down / up:g}"
