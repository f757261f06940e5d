"""A corpus of people who hum, in the form that the recipe `libricss` lays out, for its tests."""

import csv
from pathlib import Path

import numpy as np
import soundfile

from wavlm_meeting.recipes.libricss.small import Line

RATE = 16_000
PEOPLE = {"train": (110.0, 140.0, 210.0), "dev": (120.0, 200.0), "test": (130.0, 190.0)}
"""Pitches of the people of each split, in Hz."""
UTTERANCES = 2
UTTERANCE_S = 2.0


def write_corpus(folder: Path) -> Path:
    """Write a manifest, two utterances of each person, and two noises."""
    lines = []
    for split, pitches in PEOPLE.items():
        for pitch in pitches:
            speaker = f"{split}-{pitch:.0f}"
            for number in range(UTTERANCES):
                path = f"speech/hummed/{speaker}/{number}.flac"
                _write(folder / path, hum(pitch, number))
                lines.append(Line(path, "hummed", speaker, split, "en", f"Hum {number}"))
    for number in range(2):
        path = f"noise/hiss/{number}.flac"
        rng = np.random.default_rng(number)
        _write(folder / path, 0.05 * rng.standard_normal(3 * RATE).clip(-3, 3))
        lines.append(Line(path, "hiss", "", "train", "", ""))
    with (folder / "manifest.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(Line._fields)
        table.writerows(lines)
    return folder


def hum(pitch: float, seed: int) -> np.ndarray:
    """Give syllables of a voice-like tone (N,), between two silences."""
    time_s = np.arange(int(UTTERANCE_S * RATE)) / RATE
    rng = np.random.default_rng((round(pitch), seed))
    wobble = pitch * (1 + 0.02 * np.sin(2 * np.pi * 5 * time_s + rng.uniform(0, 6)))
    phase = 2 * np.pi * np.cumsum(wobble) / RATE
    tone = sum(np.sin(k * phase) / k for k in range(1, 20))
    syllables = np.clip(np.sin(2 * np.pi * 3 * time_s) + 0.6, 0, 1)
    syllables[(time_s < 0.2) | (time_s > UTTERANCE_S - 0.2)] = 0.0
    return 0.1 * tone * syllables + 1e-4 * rng.standard_normal(len(time_s))


def _write(path: Path, samples: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, RATE)
