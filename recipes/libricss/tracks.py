"""Stage `separate`: LibriCSS on two tracks, whole sessions and utterance by utterance.

Written is FLAC: `<microphones>/continuous/<session>_1.flac` and `_2`, and
`<microphones>/utterances/<utterance>_1.flac` and `_2` for utterances that are cut out where the
reference says, as both kinds of evaluation need them (Chen et al., arXiv 2001.11482, section 4).

J tracks, C microphones, n samples of a block.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from lhotse import CutSet
from numpy.typing import NDArray

from wavlm_meeting.audio.write import TrackForm, write_tracks
from wavlm_meeting.separation.model import TALKERS
from wavlm_meeting.separation.pipeline import SeparationPipeline
from wavlm_meeting.training.progress import Report
from wavlm_meeting.units import SAMPLE_RATE

CONTINUOUS, UTTERANCES = "continuous", "utterances"
BLOCK = 30 * SAMPLE_RATE
"""Samples that are read at once."""

Samples = NDArray[np.float32]


def folder_of(tracks: Path, microphones: int, kind: str) -> Path:
    """Return where the tracks of this kind lie."""
    return tracks / f"{microphones}" / kind


def track_files(folder: Path, name: str) -> list[Path]:
    """Return the files of the tracks of a session or an utterance."""
    return [folder / f"{name}_{number}.flac" for number in range(1, TALKERS + 1)]


def separate_sessions(
    separator: SeparationPipeline,
    manifest: Path,
    tracks: Path,
    microphones: int,
    report: Report | None = None,
) -> None:
    """Separate the sessions of a manifest, and their utterances; what is there stays."""
    whole = folder_of(tracks, microphones, CONTINUOUS)
    parts = folder_of(tracks, microphones, UTTERANCES)
    for folder in (whole, parts):
        folder.mkdir(parents=True, exist_ok=True)
    sessions = list(CutSet.from_jsonl_lazy(manifest))
    for number, session in enumerate(sessions, 1):
        (source,) = session.recording.sources
        jobs = [(whole, session.id, 0.0, session.duration)]
        jobs += [(parts, each.id, each.start, each.duration) for each in session.supervisions]
        for folder, name, start_s, duration_s in jobs:
            first = round(start_s * SAMPLE_RATE)
            last = min(first + round(duration_s * SAMPLE_RATE), session.recording.num_samples)
            files = track_files(folder, name)
            if not all(file.is_file() for file in files):
                blocks = separator.stream(_blocks(Path(source.source), first, last, microphones))
                write_tracks(files, blocks, TrackForm(SAMPLE_RATE, "flac"), last - first)
        if report is not None:
            report(number, len(sessions), {})


def _blocks(path: Path, first: int, last: int, microphones: int) -> Iterator[Samples]:
    """Give a stretch of a recording as blocks (C, n) of its first microphones."""
    with soundfile.SoundFile(os.fsencode(path)) as file:
        file.seek(first)
        while first < last:
            heard = file.read(min(BLOCK, last - first), dtype="float32", always_2d=True)
            yield np.ascontiguousarray(heard[:, :microphones].T)
            first += len(heard)
