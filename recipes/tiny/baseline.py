"""What the teachers reach by themselves on the reported sets: the baseline of the embedded model.

silero-vad finds speech, Resemblyzer describes windows of 1.6 s of it, average linkage joins them up
to the threshold that is best on dev; one speaker at a time. Trials are scored by the cosine of what
Resemblyzer makes of whole recordings as they are, as in the figures that the bar was set by. Sets
and scoring are those of `export`; `evidence` reads what is written.
"""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment
from resemblyzer import VoiceEncoder
from resemblyzer.audio import normalize_volume
from scipy.cluster.hierarchy import fcluster, linkage

from wavlm_meeting.audio.simulate import Samples
from wavlm_meeting.recipes.results import write_json
from wavlm_meeting.recipes.tiny.evaluate import Recording, meetings, score_found, simulated
from wavlm_meeting.recipes.tiny.evidence import TEACHERS
from wavlm_meeting.recipes.tiny.figures import (
    MEETING_SPLITS,
    MEETINGS,
    SIMULATED,
    Figures,
    percent,
    trial_figures,
)
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.recipes.tiny.teachers import find_speech
from wavlm_meeting.units import SAMPLE_RATE

THRESHOLDS = tuple(np.arange(0.1, 0.6, 0.025).round(3).tolist())
"""Cosine distances that are tried on dev."""
WINDOWS_PER_S = 4.0

log = logging.getLogger(__name__)


class TeacherDiarization:
    """One recording as the teachers hear it, ready to be cut at any threshold."""

    def __init__(
        self, recording: Recording, spans: NDArray[np.integer], voices: VoiceEncoder
    ) -> None:
        self.spans = spans
        voiced = np.concatenate([recording.waveform[start:end] for start, end in spans])
        voiced = normalize_volume(voiced, -30, increase_only=True)
        _, partials, slices = voices.embed_utterance(
            voiced, return_partials=True, rate=WINDOWS_PER_S, min_coverage=0.5
        )
        centres = np.array([(part.start + part.stop) / 2 for part in slices])
        middles = (centres[1:] + centres[:-1]) / 2
        self.edges = np.concatenate([[0], middles, [len(voiced)]]).astype(np.int64)
        self.merges = (
            linkage(partials.astype(np.float64), "average", "cosine") if len(partials) > 1 else None
        )

    def cut(self, uri: str, threshold: float) -> Annotation:
        """Return the turns at this threshold."""
        labels = [1] if self.merges is None else fcluster(self.merges, threshold, "distance")
        found = Annotation(uri=uri)
        offset, track = 0, 0  # samples of speech before this span
        for start, end in self.spans:
            for label, left, right in zip(labels, self.edges[:-1], self.edges[1:], strict=True):
                first = max(start, start + left - offset)
                last = min(end, start + right - offset)
                if first < last:
                    segment = Segment(first / SAMPLE_RATE, last / SAMPLE_RATE)
                    found[segment, track] = str(label)
                    track += 1
            offset += end - start
        return found.support()


def baseline(corpus: Path, work: Path, settings: TinySettings) -> Figures:
    """Choose the threshold on dev; return, log and write the figures of each reported set."""
    voices = VoiceEncoder("cpu", verbose=False)
    sets = {split: simulated(work, split, settings.evaluation) for split in ("dev", "test")}
    sets |= {f"meetings{name}": meetings(corpus, of) for name, of in MEETING_SPLITS.items()}
    heard = {name: _listen(recordings, voices) for name, recordings in sets.items()}
    on_dev = {t: _der(sets["dev"], heard["dev"], t) for t in THRESHOLDS}
    threshold = min(on_dev, key=on_dev.__getitem__)
    log.info("baseline: threshold %g", threshold)
    figures: Figures = {}
    for name, recordings in sets.items():
        if recordings:
            is_real = name not in ("dev", "test")
            der = _der(recordings, heard[name], threshold, corpus if is_real else None)
            log.info("baseline: %s: DER %.2f %%", name, 100 * der)
            of = name.removeprefix("meetings")
            figures[MEETINGS.format(of, 0.0) if is_real else SIMULATED.format(name)] = percent(der)
    rates = trial_figures(partial(_embed, voices), corpus)
    for name, rate in rates.items():
        log.info("baseline: %s: %s", name, rate)
    write_json(work / TEACHERS, figures | rates)
    return figures | rates


def _embed(voices: VoiceEncoder, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
    """Return Resemblyzer's embeddings (M, 256) of recordings, which have unit length."""
    return np.stack([voices.embed_utterance(waveform) for waveform in waveforms])


def _listen(recordings: list[Recording], voices: VoiceEncoder) -> list[TeacherDiarization | None]:
    samples: list[NDArray[np.integer]] = [
        np.round(r.waveform * 32767).clip(-32768, 32767).astype(np.int16) for r in recordings
    ]
    return [
        TeacherDiarization(recording, spans, voices) if len(spans) else None
        for recording, spans in zip(recordings, find_speech(samples), strict=True)
    ]


def _der(
    recordings: list[Recording],
    heard: list[TeacherDiarization | None],
    threshold: float,
    corpus: Path | None = None,
) -> float:
    found = [
        voices.cut(recording.name, threshold) if voices else Annotation(uri=recording.name)
        for recording, voices in zip(recordings, heard, strict=True)
    ]
    return score_found(recordings, found, corpus).total.der
