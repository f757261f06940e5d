"""Stage 3: choose how to cluster on dev, report on test, write the bundle with its card."""

import logging
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from wavlm_meeting.checkpoints.bundle import ENCODER, rounded, write_bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.checkpoints.trainings import read_weights, steps_done
from wavlm_meeting.diarization.heard import Heard
from wavlm_meeting.diarization.load import PART, load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.errors import SettingsError, TrainingError
from wavlm_meeting.recipes.tiny.confidence import fit_confidence, pair
from wavlm_meeting.recipes.tiny.evaluate import (
    Recording,
    calls,
    meetings,
    score_found,
    simulated,
    solos,
)
from wavlm_meeting.recipes.tiny.figures import all_figures
from wavlm_meeting.recipes.tiny.separate import trained_head
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.recipes.tiny.train import begin_with, build_task
from wavlm_meeting.separation.load import PART as SEPARATION
from wavlm_meeting.training.diarization_tuning import with_values

log = logging.getLogger(__name__)

SEPARATED = "separate"
"""Folder of the separation head's training within that of a round."""
WRONG_NUMBER = 0.1
"""What a recording whose number of speakers is wrong costs, in DER: DER alone is nearly the same
for thresholds that get half of the numbers right and a quarter."""

Separation = tuple[dict[str, Any], dict[str, Tensor]]
"""Sizes and parameters of a separation head."""
Grid = tuple[dict[str, tuple[float | str, ...]], ...]

VOICES: Grid = (
    {
        "threshold": (0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
        "least_s": (0.5, 1.0, 1.25, 1.5, 2.0),
    },
    {"least_speaker_s": (0.0, 2.0, 5.0, 8.0)},
    {
        "evident_s": (0.8, 1.0),
        "evident_share": (0.05, 0.1, 0.2, 1.0),
        "evident_threshold": (0.1, 0.3, 0.5),
    },
    {
        "method": ("vbx",),
        "vbx.threshold": (0.5, 0.55, 0.6, 0.65, 0.7),
        "vbx.acoustic_factor": (0.15, 0.2, 0.3, 0.4),
        "vbx.speaker_factor": (0.5, 0.7, 1.0, 1.5),
    },
)
"""What is tried on dev: all combinations within a group, one group after the other; of equal ones
the first is taken, and none that is no better than what was chosen before. Without the
target-speaker head, which changes little of who is who and takes most of the time."""
ROUNDS = 2
"""How often these are gone through: a later group changes what is best of an earlier one."""
FRAMES: Grid = (
    {"target_share": (0.0, 0.2, 0.35, 0.5, 0.7), "onset": (0.4, 0.5, 0.6)},
    {"gap_s": (0.0, 0.2, 0.4)},
)
"""And these after it, with the head."""
FRAMES_ALONE: Grid = ({"onset": (0.3, 0.4, 0.5, 0.6, 0.7)}, {"gap_s": (0.0, 0.2, 0.4)})
"""Or these, for a model without it."""


def export(
    corpus: Path,
    work: Path,
    folder: Path,
    settings: TinySettings,
    target: Path,
    start: Path | None = None,
    *,
    brief: bool = False,
) -> Card:
    """Choose on dev, report on dev and test, and write what `folder` holds to `target`.

    Where nothing was trained in `folder`, the weights are those of the bundle `start`: what was
    chosen for it once is chosen anew. `brief` is one round of choices and a card without figures.
    """
    if start is None or steps_done(folder):
        pipeline = trained_pipeline(folder, settings, start)
    else:
        pipeline = load_pipeline(str(start), "cpu")
        pipeline.settings = settings.diarization
    for module in (pipeline.encoder, pipeline.heads):  # what is measured is what will be read
        module.load_state_dict(rounded(module.state_dict(), settings.card.storage))
    pipeline.settings = choose(pipeline, corpus, work, settings, rounds=1 if brief else ROUNDS)
    figures = {} if brief else report(pipeline, corpus, work, settings)
    return written(target, pipeline, settings, figures, _separation(folder, settings, start))


def written(
    target: Path,
    pipeline: DiarizationPipeline,
    settings: TinySettings,
    figures: Mapping[str, float | str],
    separation: Separation | None = None,
) -> Card:
    """Write encoder and heads to `target`, and return the card that lies beside them."""
    state = {ENCODER: pipeline.encoder.state_dict(), PART: pipeline.heads.state_dict()}
    heads = {PART: pipeline.settings.model_dump()}
    if separation is not None:
        heads[SEPARATION], state[SEPARATION] = separation
    card = Card(
        name=settings.card.name,
        version=settings.card.version,
        licence=settings.card.licence,
        description=settings.card.description,
        encoder=pipeline.encoder.config,
        heads=heads,
        training=settings.card.training,
        figures=dict(figures),
    )
    return write_bundle(target, state, card, settings.card.storage)


def _separation(folder: Path, settings: TinySettings, start: Path | None) -> Separation | None:
    """Return sizes and parameters of the separation head: trained here, or that of `start`."""
    if settings.separation is not None and steps_done(folder / SEPARATED):
        head = trained_head(folder / SEPARATED, settings.encoder, settings.separation)
        sizes = settings.separation.head.model_dump(mode="json", exclude_defaults=True)
        return sizes, head.state_dict()
    if start is None or steps_done(folder):
        return None
    bundle = load_model(str(start))
    if SEPARATION not in bundle.state:
        return None
    return bundle.card.heads[SEPARATION], bundle.state[SEPARATION]


def trained_pipeline(
    folder: Path, settings: TinySettings, start: Path | None = None
) -> DiarizationPipeline:
    """Return the last checkpoint, ready to run; `start` is what its training began with.

    Raises SettingsError where that has a share in it and is not given, or where what it is averaged
    with is of another model, and CheckpointError where that has not been trained.
    """
    checkpoint = _mean(read_weights(folder), folder.parent, settings.averaged_with)
    task = build_task(settings, len(checkpoint["voices"]))
    task.load_state_dict(checkpoint)
    if settings.start_share:
        if start is None:
            raise SettingsError("start_share: needs the weights to share; give --start, too.")
        earlier = build_task(settings, len(checkpoint["voices"]))
        begin_with(earlier, start)
        with torch.no_grad():
            for own, other in zip(task.parameters(), earlier.parameters(), strict=True):
                own.lerp_(other, settings.start_share)
    return DiarizationPipeline(task.encoder, task.heads, settings.diarization, "tiny", "")


def _mean(weights: dict[str, Tensor], work: Path, others: tuple[str, ...]) -> dict[str, Tensor]:
    """Return the mean of `weights` and those of other trainings."""
    parts = [weights]
    for name in others:
        other = read_weights(work / name)
        if {key: value.shape for key, value in other.items()} != {
            key: value.shape for key, value in weights.items()
        }:
            raise SettingsError(f"averaged_with: {name} is a training of another model.")
        parts.append(other)
    return {
        key: torch.stack([part[key] for part in parts]).mean(dim=0)
        if value.is_floating_point()
        else value
        for key, value in weights.items()
    }


def choose(
    pipeline: DiarizationPipeline,
    corpus: Path,
    work: Path,
    settings: TinySettings,
    rounds: int = ROUNDS,
) -> DiarizationSettings:
    """Return the settings with the lowest DER, and few wrong numbers, on what is not test.

    That is the mean over the dev conversations, recordings of one dev speaker each, which must not
    fall apart, and, as heard through one microphone, calls of dev speakers and the real meetings of
    train and dev.
    One group of settings after the other is chosen, then how sure turns are is fitted to the same.
    """
    sets: list[tuple[list[Recording], list[Heard], Path | None]] = []
    for recordings, uems in (
        (simulated(work, "dev", settings.evaluation), None),
        (solos(work, "dev", settings.evaluation), None),
        (calls(work, "dev", settings.evaluation), None),
        (meetings(corpus, ("train", "dev")), corpus),
    ):
        if recordings:
            heard = [pipeline.listen(recording.waveform) for recording in recordings]
            sets.append((recordings, heard, uems))
    chosen = settings.diarization.model_copy(update={"target_share": 0.0})
    frames = FRAMES if settings.diarization.target_width else FRAMES_ALONE
    lowest = float("inf")
    for group in rounds * VOICES + frames:
        ders = {}
        for values in product(*group.values()):
            pipeline.settings = with_values(chosen, dict(zip(group, values, strict=True)))
            ders[values] = float(np.mean([_cost(pipeline, *part) for part in sets]))
        best = min(ders, key=ders.__getitem__)
        better = ders[best] < lowest
        say = "choose: %s = %s, cost %.2f %%" if better else "choose: %s: not %s, cost %.2f %%"
        log.info(say, ", ".join(group), best, 100 * ders[best])
        if better:
            lowest = ders[best]
            chosen = with_values(chosen, dict(zip(group, best, strict=True)))
    pipeline.settings = chosen
    try:
        confidence = fit_confidence(
            pipeline,
            [each for recordings, *_ in sets for each in recordings],
            [each for _, heard, _ in sets for each in heard],
        )
    except TrainingError as error:
        log.warning("choose: %s", error)
        return chosen
    log.info("choose: confidence = %s", confidence)
    return chosen.model_copy(update={"confidence": confidence})


def _cost(
    pipeline: DiarizationPipeline,
    recordings: list[Recording],
    heard: list[Heard],
    corpus: Path | None,
) -> float:
    """Return the DER, and what wrong numbers of speakers cost beside it."""
    pairs = pair(pipeline, recordings, heard)
    found = [diarization.to_annotation() for _, diarization in pairs]
    wrong = np.mean([len(known.labels()) != len(each.speakers) for known, each in pairs])
    return score_found(recordings, found, corpus).total.der + WRONG_NUMBER * float(wrong)


def report(
    pipeline: DiarizationPipeline, corpus: Path, work: Path, settings: TinySettings
) -> dict[str, float | str]:
    """Return the figures of the card, in per cent, and log them."""
    figures = all_figures(pipeline, corpus, work, settings.evaluation)
    for name, figure in figures.items():
        log.info("report: %s: %s", name, figure)
    return figures
