"""What the card says of a model's quality, in per cent where nothing else is said."""

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.recipes.tiny.channels_report import by_channel
from wavlm_meeting.recipes.tiny.confidence import calibration_error, pair
from wavlm_meeting.recipes.tiny.evaluate import (
    Embed,
    Recording,
    by_source,
    calls,
    embed,
    meetings,
    score,
    simulated,
    solos,
    trials_errors,
)
from wavlm_meeting.recipes.tiny.settings import EvaluationSettings

Figures = dict[str, float | str]

TRIALS = ("trials_dev", "trials_test", "trials_test_hard", "trials_dev_cv", "trials_test_cv")
SIMULATED = "DER %, simulated {} conversations, no collar"
MEETINGS = "DER %, corpus/meetings{}, collar {:g} s"
MEETING_SPLITS = {
    "": ("train", "dev", "test"),
    ", not trained on": ("dev", "test"),
    ", test only": ("test",),
}

log = logging.getLogger(__name__)


def all_figures(
    pipeline: DiarizationPipeline, corpus: Path, work: Path, settings: EvaluationSettings
) -> Figures:
    """Return all figures of the card."""
    figures: Figures = {}
    for split in ("dev", "test"):
        recordings = simulated(work, split, settings)
        figures |= _simulated_figures(pipeline, recordings, SIMULATED.format(split), split)
        if split == "test":
            heard_otherwise = by_channel(pipeline, recordings)
            figures |= {
                f"DER %, simulated test, {name}": percent(der) for name, der in heard_otherwise
            }
    for name, short in (
        ("one test speaker alone", solos(work, "test", settings)),
        ("test calls through one channel", calls(work, "test", settings)),
    ):
        found = score(pipeline, short, [pipeline.listen(item.waveform) for item in short])
        figures[f"DER %, {name}, no collar"] = percent(found.total.der)
    return (
        figures
        | meeting_figures(pipeline, corpus)
        | trial_figures(partial(embed, pipeline), corpus)
    )


def _simulated_figures(
    pipeline: DiarizationPipeline, recordings: list[Recording], name: str, split: str
) -> Figures:
    """Return what is known of the simulated conversations of a split; `name` is their DER's."""
    heard = [pipeline.listen(recording.waveform) for recording in recordings]
    found = score(pipeline, recordings, heard)
    figures: Figures = {name: percent(found.total.der)}
    pairs = pair(pipeline, recordings, heard)
    right = sum(
        len(reference.labels()) == len(diarization.speakers) for reference, diarization in pairs
    )
    title = f"simulated {split} conversations"
    figures[f"numbers of speakers right, {title}"] = f"{right} of {len(pairs)}"
    if any(diarization.turns for _, diarization in pairs):
        figures[f"ECE, {title}"] = round(calibration_error(pairs), 4)
    given = score(pipeline, recordings, heard, count_given=True)
    figures[f"{name}, count given"] = percent(given.total.der)
    figures[f"{name}, missed/false/confused"] = "/".join(
        f"{percent(part / found.total.total_s):.2f}"
        for part in (found.total.missed_s, found.total.false_alarm_s, found.total.confusion_s)
    )
    for source, der in by_source(recordings, found).items():
        figures[f"DER %, simulated {split}, {source}"] = percent(der)
    return figures


def meeting_figures(
    pipeline: DiarizationPipeline, corpus: Path, collars: Sequence[float] = (0.0, 0.25)
) -> Figures:
    """Return the DER of the real meetings, of those that were trained on and of others."""
    heard = {item.name: pipeline.listen(item.waveform) for item in meetings(corpus)}
    figures: Figures = {}
    for name, splits in MEETING_SPLITS.items():
        own = meetings(corpus, splits)
        local = [heard[recording.name] for recording in own]
        for collar in collars if own else ():
            found = score(pipeline, own, local, corpus, collar=collar)
            figures[MEETINGS.format(name, collar)] = percent(found.total.der)
    return figures


def trial_figures(embed_all: Embed, corpus: Path, lists: Sequence[str] = TRIALS) -> Figures:
    """Return the equal error rate of each list of trials in the corpus, and of its sources."""
    figures: Figures = {}
    for trials in lists:
        if not (corpus / f"{trials}.txt").exists():
            log.info("report: no %s.txt in the corpus, left out", trials)
            continue
        for source, rate in trials_errors(embed_all, corpus, f"{trials}.txt").items():
            figures[f"EER %, {trials}{source and f', {source}'}"] = percent(rate)
    return figures


def percent(share: float) -> float:
    """Return a share in per cent, as the card writes it."""
    return round(100 * share, 2)
