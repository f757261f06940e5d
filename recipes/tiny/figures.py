"""What the card says of a model's quality, in per cent where nothing else is said."""

import logging
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.audio.simulate import Samples
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.formats.trials import read_trials
from wavlm_meeting.recipes.tiny.channels_report import by_channel
from wavlm_meeting.recipes.tiny.confidence import calibration_error, pair
from wavlm_meeting.recipes.tiny.evaluate import (
    Embed,
    Recording,
    by_source,
    calls,
    elsewhere,
    embed,
    meetings,
    score,
    simulated,
    solos,
    trials_errors,
)
from wavlm_meeting.recipes.tiny.settings import EvaluationSettings
from wavlm_meeting.scoring.verification import equal_error_rate
from wavlm_meeting.verification.backend import backend_of
from wavlm_meeting.verification.verify import score_trials

Figures = dict[str, float | str]

TRIALS = ("trials_dev", "trials_test", "trials_test_hard", "trials_dev_cv", "trials_test_cv")
SIMULATED = "DER %, simulated {} conversations, no collar"
BY_BACKEND = "EER %, {}, by the backend"
MEETINGS = "DER %, corpus/meetings{}, collar {:g} s"
MEETING_SPLITS = {
    "": ("train", "dev", "test"),
    ", not trained on": ("dev", "test"),
    ", test only": ("test",),
}

SCENES: dict[str, dict[str, float]] = {
    "rooms and noise": {},
    "other microphones": {"room": 0.0, "noise": 0.0, "equaliser_db": 4.0, "tilt_db": 4.0},
    "telephones": {"room": 0.0, "noise": 0.0, "telephone": 1.0, "companded": 0.5},
}
"""Where voices are heard, too, by what differs from simulated conversations; microphones are as far
apart as in the trainings of `mini`, and half of the telephones are those of ITU-T G.711."""

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
    embed_all = partial(embed, pipeline)
    return (
        figures
        | meeting_figures(pipeline, corpus)
        | voice_figures(embed_all, corpus, work, settings)
    )


def voice_figures(
    embed_all: Embed, corpus: Path, work: Path, settings: EvaluationSettings
) -> Figures:
    """Return the equal error rates of the card: as recorded, and in scenes of their own."""
    return trial_figures(embed_all, corpus) | scene_figures(embed_all, corpus, work, settings)


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
    for trials in _there(corpus, lists):
        for source, rate in trials_errors(embed_all, corpus, f"{trials}.txt").items():
            figures[f"EER %, {trials}{source and f', {source}'}"] = percent(rate)
    return figures


def backend_figures(bundle: Path, corpus: Path, lists: Sequence[str]) -> Figures:
    """Return the equal error rate of each list as `verify` scores it, where a backend lies beside.

    A bundle without one has no such figures: its scores are the cosines.
    """
    figures: Figures = {}
    for trials in _there(corpus, lists) if backend_of(bundle) else ():
        listed = read_trials(corpus / f"{trials}.txt")
        scores = score_trials(listed, corpus, str(bundle), device="cpu").values
        figures[BY_BACKEND.format(trials)] = percent(equal_error_rate(listed.targets, scores))
    return figures


def _there(corpus: Path, lists: Sequence[str]) -> Iterator[str]:
    """Give the lists of trials that the corpus has."""
    for trials in lists:
        if (corpus / f"{trials}.txt").exists():
            yield trials
        else:
            log.info("report: no %s.txt in the corpus, left out", trials)


def scene_figures(
    embed_all: Embed, corpus: Path, work: Path, settings: EvaluationSettings
) -> Figures:
    """Return the equal error rate of each list where every recording has a scene of its own."""
    figures: Figures = {}
    for trials, (scene, changes) in product(TRIALS, SCENES.items()):
        if not (corpus / f"{trials}.txt").exists():
            continue
        conversation = settings.conversation.model_copy(update=changes)
        drawn = settings.model_copy(update={"conversation": conversation})
        split = "dev" if "dev" in trials else "test"
        heard = partial(_heard_elsewhere, embed_all, work, split, drawn)
        rates = trials_errors(heard, corpus, f"{trials}.txt")
        figures[f"EER %, {trials}, {scene}"] = percent(rates[""])
    return figures


def _heard_elsewhere(
    embed_all: Embed,
    work: Path,
    split: str,
    settings: EvaluationSettings,
    waveforms: Sequence[Samples],
) -> NDArray[np.float32]:
    return embed_all(elsewhere(waveforms, work, split, settings))


def percent(share: float) -> float:
    """Return a share in per cent, as the card writes it."""
    return round(100 * share, 2)
