"""Stage 1: decode the corpus once, find the speech in it, and ask the teacher for voices.

Writes into the work folder `samples.npy` (all utterances, int16, one after the other) and
`utterances.npz` (where each lies, whose it is, where speech is in it, the teacher's embedding).
Training speech is there at three speeds: resampled by a tenth, a voice is another speaker's. Speech
is found by silero-vad (MIT) and the teacher is Resemblyzer's encoder (Apache-2.0); both are needed
here only, never to run the model. Of a real conversation there is a line for each speaker, all with
the same samples, and one for each longer pause, as background noise.
"""

import csv
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from resemblyzer import VoiceEncoder
from resemblyzer.audio import normalize_volume
from scipy.signal import resample_poly

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes.tiny.meetings import alone, pauses, read_meetings
from wavlm_meeting.units import SAMPLE_RATE

THREADS = torch.get_num_threads()
from silero_vad import load_silero_vad  # noqa: E402 - its import leaves PyTorch one thread

torch.set_num_threads(THREADS)

Ints = NDArray[np.integer]

log = logging.getLogger(__name__)

SPEEDS = ((10, 9), (10, 11))
"""Further copies of the training speech: (samples after, samples before) of 0.9 and 1.1 x speed."""
TABLE = "utterances.npz"
VAD_BATCH = 64
VAD_CHUNK = 512  # samples of one of silero's decisions


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


def prepare(corpus: Path, work: Path) -> None:
    """Run the stage; a finished one is left as it is."""
    if (work / TABLE).exists():
        log.info("prepare: %s is there, skipped", work / TABLE)
        return
    work.mkdir(parents=True, exist_ok=True)
    rows = read_manifest(corpus)
    samples = [_decode(corpus / row.path, row.kind) for row in rows]
    _add_speeds(rows, samples)
    speech: list[Ints] = [np.zeros((0, 2), np.int64)] * len(rows)
    spoken = [index for index, row in enumerate(rows) if row.kind == "speech"]
    for index, spans in zip(spoken, find_speech([samples[i] for i in spoken]), strict=True):
        speech[index] = spans
    log.info("prepare: speech found in %d recordings", len(spoken))
    embed = _teacher()
    teacher = [embed(wave, spans) for wave, spans in zip(samples, speech, strict=True)]
    for meeting in read_meetings(corpus, "train"):
        wave = _decode(corpus / meeting.path, "meeting")
        for up, down in ((1, 1), *SPEEDS):
            faster = _at_speed(wave, up, down)
            turns = {name: spans * up // down for name, spans in meeting.turns.items()}
            for name, spans in turns.items():
                rows.append(Row(meeting.path, _renamed(name, up, down), "", "train", "meeting"))
                samples.append(faster)
                speech.append(spans)
                teacher.append(embed(faster, alone(turns, name, len(faster))))
        for start, end in pauses(meeting.turns, len(wave)):
            rows.append(Row(meeting.path, "", "", "train", "noise"))
            samples.append(wave[start:end])
            speech.append(np.zeros((0, 2), np.int64))
            teacher.append(np.zeros(256, np.float32))
    _write(work, rows, samples, speech, teacher)


def _write(
    work: Path,
    rows: list[Row],
    samples: list[Ints],
    speech: list[Ints],
    teacher: list[NDArray[np.float32]],
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
            teacher=np.stack(teacher).astype(np.float32),
        )


def _decode(path: Path, kind: str) -> Ints:
    wave = read_audio(path)
    if kind == "rir":
        wave = wave / np.abs(wave).max()
    return np.clip(np.round(wave * 32767), -32768, 32767).astype(np.int16)


def _add_speeds(rows: list[Row], samples: list[Ints]) -> None:
    """Append the training speech at other speeds, as other speakers."""
    spoken = [i for i, row in enumerate(rows) if (row.kind, row.split) == ("speech", "train")]
    for up, down in SPEEDS:
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


def find_speech(waves: list[Ints]) -> Iterator[Ints]:
    """Give the (start, end) samples of the speech in each of `waves`, in their order."""
    model = load_silero_vad()
    found: dict[int, Ints] = {}
    order = sorted(range(len(waves)), key=lambda index: len(waves[index]))
    for first in range(0, len(order), VAD_BATCH):
        group = order[first : first + VAD_BATCH]
        batch = torch.zeros(len(group), max(len(waves[index]) for index in group))
        for row, index in zip(batch, group, strict=True):
            wave = torch.from_numpy(waves[index].astype(np.float32))
            row[: len(wave)] = wave * (0.3 / wave.abs().max().clamp(min=1.0))
        with torch.no_grad():
            model.reset_states()
            probabilities = model.audio_forward(batch, SAMPLE_RATE).numpy()
        for row, index in zip(probabilities, group, strict=True):
            found[index] = speech_spans(row, len(waves[index]))
    return (found[index] for index in range(len(waves)))


def speech_spans(probabilities: NDArray[np.floating], length: int) -> Ints:
    """Turn a speech probability for each chunk into (start, end) samples.

    Speech begins at 0.5 and lasts until 0.35 is undercut for 0.2 s; less than 0.1 s is dropped.
    """
    spans: list[tuple[int, int]] = []
    start, last = None, 0
    for chunk, probability in enumerate(probabilities):
        if probability >= 0.5 and start is None:
            start = chunk
        if start is not None and probability >= 0.35:
            last = chunk + 1
        elif start is not None and chunk - last >= 6:
            spans.append((start, last))
            start = None
    if start is not None:
        spans.append((start, last))
    samples = np.array(spans, np.int64).reshape(-1, 2) * VAD_CHUNK
    return np.minimum(samples[samples[:, 1] - samples[:, 0] > 3 * VAD_CHUNK], length)


def _teacher() -> Callable[[Ints, Ints], NDArray[np.float32]]:
    """Return a function from samples and speech spans to a unit vector (256,), or zeros."""
    encoder = VoiceEncoder("cpu", verbose=False)

    def embed(wave: Ints, spans: Ints) -> NDArray[np.float32]:
        speech = [wave[start:end] for start, end in spans]
        voiced = np.concatenate(speech) if speech else np.zeros(0, np.int16)
        if len(voiced) < 0.5 * SAMPLE_RATE:
            return np.zeros(256, np.float32)
        signal = voiced[: 6 * SAMPLE_RATE].astype(np.float32) / 32768
        signal = normalize_volume(signal, -30, increase_only=True)
        vector: NDArray[np.float32] = encoder.embed_utterance(signal, rate=0.65)
        return vector

    return embed
