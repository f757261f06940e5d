"""Stage `teacher`: Resemblyzer's embedding of every training recording, at every speed.

A small corpus has few recordings of each speaker, and its labels teach the channel: what a teacher
knows of voices helps. Embeddings are taken relative to their mean over the corpus, which is most of
each: Resemblyzer's have no negative entries.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from resemblyzer import VoiceEncoder, preprocess_wav

from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes.voxceleb.prepare import Prepared
from wavlm_meeting.recipes.workers import map_of
from wavlm_meeting.training.recordings import read_recordings
from wavlm_meeting.units import SAMPLE_RATE

CHUNK = 200
"""Recordings that a worker takes at once."""
LONGEST_S = 8.0
"""What is heard of a recording."""


def write_teacher(prepared: Prepared, speeds: Sequence[float], workers: int = 0) -> None:
    """Write (recordings, speeds, 256) in the order of the manifest; zeros where no speech is."""
    count = len(read_recordings(prepared.train))
    with map_of(workers) as map_all:
        parts = map_all(partial(_embed, prepared.train, tuple(speeds)), range(0, count, CHUNK))
        found = np.concatenate(list(parts))
    known = found.any(axis=-1)
    found[known] -= found[known].mean(axis=0)
    with atomic_write(prepared.teacher) as temporary:
        np.save(temporary, found)


def _embed(manifest: Path, speeds: Sequence[float], first: int) -> NDArray[np.float32]:
    """Embed a chunk of the recordings of a manifest, from number `first` on."""
    recordings = read_recordings(manifest)
    encoder = VoiceEncoder("cpu", verbose=False)
    indices = range(first, min(first + CHUNK, len(recordings)))
    found = np.zeros((len(indices), len(speeds), 256), np.float32)
    for row, index in enumerate(indices):
        for column, speed in enumerate(speeds):
            length = min(recordings.length(index, speed), int(LONGEST_S * SAMPLE_RATE))
            speech = preprocess_wav(recordings.read(index, 0, length, speed), SAMPLE_RATE)
            if len(speech):
                found[row, column] = encoder.embed_utterance(speech)
    return found
