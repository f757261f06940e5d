"""The teachers: silero-vad says where speech is, Resemblyzer's encoder whose voice it is."""

from collections.abc import Iterator, Sequence
from functools import cache

import numpy as np
import torch
from numpy.typing import NDArray
from resemblyzer import VoiceEncoder
from resemblyzer.audio import normalize_volume

from wavlm_meeting.recipes.workers import Map
from wavlm_meeting.units import SAMPLE_RATE

THREADS = torch.get_num_threads()
from silero_vad import load_silero_vad  # noqa: E402 - its import leaves PyTorch one thread

torch.set_num_threads(THREADS)

Ints = NDArray[np.integer]
Floats = NDArray[np.float32]
Heard = tuple[Ints, Ints]
"""Samples, and the (start, end) of speech in them."""

EMBEDDING = 256
VAD_BATCH = 64
VAD_CHUNK = 512  # samples of one of silero's decisions
SHORTEST_S, LONGEST_S = 0.5, 6.0
"""Of the speech that a voice is described by."""


def find_speech(waves: Sequence[Ints], run: Map = map) -> Iterator[Ints]:
    """Give the (start, end) samples of the speech in each of `waves`, in their order."""
    order = sorted(range(len(waves)), key=lambda index: len(waves[index]))
    groups = [order[first : first + VAD_BATCH] for first in range(0, len(order), VAD_BATCH)]
    found: dict[int, Ints] = {}
    jobs = [[waves[index] for index in group] for group in groups]
    for group, spans in zip(groups, run(_speech_of, jobs), strict=True):
        found.update(zip(group, spans, strict=True))
    return (found[index] for index in range(len(waves)))


def _speech_of(waves: Sequence[Ints]) -> list[Ints]:
    model = _detector()
    batch = torch.zeros(len(waves), max(map(len, waves)))
    for row, wave in zip(batch, waves, strict=True):
        samples = torch.from_numpy(wave.astype(np.float32))
        row[: len(wave)] = samples * (0.3 / samples.abs().max().clamp(min=1.0))
    with torch.no_grad():
        model.reset_states()
        probabilities = model.audio_forward(batch, SAMPLE_RATE).numpy()
    return [speech_spans(row, len(wave)) for row, wave in zip(probabilities, waves, strict=True)]


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


def describe_voices(heard: Sequence[Heard], run: Map = map) -> Floats:
    """Return Resemblyzer's embedding of the speech in each of `heard` (M, 256).

    It has unit length, or is zeros where there is less than half a second of speech.
    """
    return np.stack(list(run(_voice_of, map(_voiced, heard))))


def _voiced(heard: Heard) -> Ints:
    """Return the first seconds of the speech, the pauses left out."""
    wave, spans = heard
    speech = [wave[start:end] for start, end in spans]
    voiced = np.concatenate(speech) if speech else np.zeros(0, np.int16)
    return voiced[: int(LONGEST_S * SAMPLE_RATE)]


def _voice_of(voiced: Ints) -> Floats:
    if len(voiced) < SHORTEST_S * SAMPLE_RATE:
        return np.zeros(EMBEDDING, np.float32)
    signal = normalize_volume(voiced.astype(np.float32) / 32768, -30, increase_only=True)
    vector: Floats = voice_encoder().embed_utterance(signal, rate=0.65)
    return vector.astype(np.float32)


@cache
def _detector() -> torch.jit.ScriptModule:
    return load_silero_vad()


@cache
def voice_encoder() -> VoiceEncoder:
    """Return Resemblyzer's network, loaded once."""
    return VoiceEncoder("cpu", verbose=False)
