"""How well a model diarizes recordings with references, and the thresholds that do it best."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from wavlm_meeting.config import merged, parse_settings
from wavlm_meeting.diarization.clustering import ClusteringSettings
from wavlm_meeting.diarization.heard import Heard
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.result import Diarization
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.scoring.diarization import ErrorCounts, score_diarization
from wavlm_meeting.training.diarization_recordings import Conversation
from wavlm_meeting.training.progress import Report

COLLARS = (0.0, 0.25)
"""Seconds on each side of a boundary that figures are given with."""
SURE = 0.9
"""How sure a gain must be, by what a few recordings can tell."""
Grid: TypeAlias = Mapping[str, tuple[float, ...]]
"""Settings of the pipeline or of its clustering, and the values to try: all combinations."""
Errors: TypeAlias = NDArray[np.float64]
"""Of each recording, as shares of their mean speaker time."""


@dataclass(frozen=True)
class Figures:
    """What is said of one system on some recordings."""

    counts: Mapping[float, ErrorCounts]
    """Seconds and speakers, by collar."""
    recordings: int
    """How many there are."""
    counted_right: int
    """Recordings in which as many speakers were found as there are."""

    def values(self) -> dict[str, float]:
        """Return the figures by name, rates as shares."""
        found: dict[str, float] = {}
        for collar, counts in self.counts.items():
            total_s = counts.total_s or 1.0
            where = f"collar {collar:g}"
            found[f"der, {where}"] = counts.der
            found[f"missed, {where}"] = counts.missed_s / total_s
            found[f"false, {where}"] = counts.false_alarm_s / total_s
            found[f"confused, {where}"] = counts.confusion_s / total_s
        found["jer"] = self.counts[min(self.counts)].jer
        found["counted right"] = self.counted_right / max(self.recordings, 1)
        return found


def hear(
    pipeline: DiarizationPipeline,
    recordings: Sequence[Conversation],
    report: Report | None = None,
) -> list[Heard]:
    """Run the networks over recordings; raises AudioError if one cannot be read."""
    heard = []
    for number, each in enumerate(recordings):
        heard.append(pipeline.listen(each.path))
        if report is not None:
            report(number + 1, len(recordings), {})
    return heard


def diarized(
    pipeline: DiarizationPipeline, recordings: Sequence[Conversation], heard: Sequence[Heard]
) -> list[Diarization]:
    """Put together what was heard, with the pipeline's present settings."""
    return [
        pipeline.assemble(each.name, local, 1, None)
        for each, local in zip(recordings, heard, strict=True)
    ]


def score(
    recordings: Sequence[Conversation],
    found: Sequence[Diarization],
    collars: Sequence[float] = COLLARS,
) -> Figures:
    """Score results over the stretches that have a reference, overlap included."""
    reference = {each.name: each.reference() for each in recordings}
    scored = {each.name: each.scored() for each in recordings}
    hypothesis = {
        each.name: own.to_annotation() for each, own in zip(recordings, found, strict=True)
    }
    counts = {
        collar: score_diarization(reference, hypothesis, scored, collar).total for collar in collars
    }
    right = sum(
        len(each.speakers) == len(own.to_annotation().labels())
        for each, own in zip(recordings, found, strict=True)
    )
    return Figures(counts, len(recordings), right)


def tune(
    pipeline: DiarizationPipeline,
    recordings: Sequence[Conversation],
    heard: Sequence[Heard],
    grids: Sequence[Grid],
    collar: float = 0.0,
) -> Errors:
    """Give the pipeline the settings that are surely best on what was heard; return its errors.

    One grid after the other is tried in all its combinations. What counts is `sure_gain` over the
    pipeline as it is: a few recordings would else prefer some of many settings by chance.
    """

    def rate(settings: DiarizationSettings) -> Errors:
        pipeline.settings = settings
        return errors_of(recordings, diarized(pipeline, recordings, heard), collar)

    best, errors = pipeline.settings, rate(pipeline.settings)
    reference = errors
    for grid in grids:
        start = best
        for values in product(*grid.values()):
            tried = with_values(start, dict(zip(grid, values, strict=True)))
            found = rate(tried)
            if sure_gain(reference, found) > sure_gain(reference, errors):
                best, errors = tried, found
    pipeline.settings = best
    return errors


def errors_of(
    recordings: Sequence[Conversation], found: Sequence[Diarization], collar: float
) -> Errors:
    """Return each recording's part in the DER: their mean is that of all together."""
    reference = {each.name: each.reference() for each in recordings}
    scored = {each.name: each.scored() for each in recordings}
    hypothesis = {
        each.name: own.to_annotation() for each, own in zip(recordings, found, strict=True)
    }
    files = score_diarization(reference, hypothesis, scored, collar).files
    counts = [files[each.name] for each in recordings]
    wrong_s = [each.missed_s + each.false_alarm_s + each.confusion_s for each in counts]
    mean_s = float(np.mean([each.total_s for each in counts]))
    return np.array(wrong_s) / max(mean_s, 1e-9)


def sure_gain(before: Errors, after: Errors) -> float:
    """Return by how much errors fell on the mean, at least, with a probability of `SURE`.

    That is the bound of Student's t over the recordings, paired; one alone is believed.
    """
    fell = before - after
    if len(fell) < 2:
        return float(fell.mean())
    error = fell.std(ddof=1) / np.sqrt(len(fell))
    return float(fell.mean() - student.ppf(SURE, len(fell) - 1) * error)


def with_values(
    settings: DiarizationSettings, values: Mapping[str, float | str]
) -> DiarizationSettings:
    """Change settings by name, those of clustering and of its tables (`vbx.threshold`), too.

    Raises SettingsError for a name that none has, and a value that cannot be.
    """
    above: dict[str, Any] = {}
    for key, value in values.items():
        path = key.split(".")
        if path[0] in ClusteringSettings.model_fields:
            path = ["clustering", *path]
        *tables, name = path
        place = above
        for table in tables:
            place = place.setdefault(table, {})
        place[name] = value
    return parse_settings(merged(settings.model_dump(), above), DiarizationSettings, "tuning")
