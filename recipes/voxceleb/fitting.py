"""Stages `cohort` and `calibrate`: what turns a model's embeddings into log-likelihood ratios."""

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.trials import Trials
from wavlm_meeting.recipes.manifests import read_manifest
from wavlm_meeting.recipes.voxceleb.calibration import (
    called_too,
    draw_trials,
    listed_trials,
    short_piece,
    some_of_each,
)
from wavlm_meeting.recipes.voxceleb.embedding import embed_rows
from wavlm_meeting.recipes.voxceleb.settings import CalibrationSettings, CohortSettings
from wavlm_meeting.verification.backend import BackendSettings, fit_backend, save_backend
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.normalisation import make_cohort

log = logging.getLogger(__name__)


def write_cohort(model: Path, cuts: Path, target: Path, settings: CohortSettings) -> None:
    """Embed recordings of training speakers, and keep each speaker's mean voice."""
    rng = np.random.default_rng(settings.seed)
    names = sorted({row.speaker for row in read_manifest(cuts)})
    chosen = rng.permutation(names)[: settings.speakers].tolist()
    kept, called = set(chosen), set(chosen[: round(settings.telephone * len(chosen))])
    own = (row for row in read_manifest(cuts) if row.speaker in kept)
    rows = some_of_each(own, settings.utterances, rng)
    loaded = load_speaker_model(model, "auto")
    embeddings, speakers = [], []
    for telephone in (False, True):
        heard = [row for row in rows if (row.speaker in called) == telephone]
        embeddings.append(embed_rows(loaded, heard, telephone=telephone).embeddings)
        speakers += [row.speaker for row in heard]
    cohort = make_cohort(np.concatenate(embeddings), speakers)
    with atomic_write(target) as temporary:
        np.save(temporary, cohort)
    log.info("cohort: %d speakers, %d recordings", len(cohort), len(rows))


def calibrate(
    model: Path,
    cuts: Path,
    cohort: Path,
    target: Path,
    settings: CalibrationSettings,
    backend: BackendSettings,
    lists: Sequence[Trials] = (),
) -> None:
    """Fit a backend to trials of held-out speakers, or to those of `lists`, and write `target`."""
    rng = np.random.default_rng(settings.seed)
    if lists:
        rows, pairs, targets = listed_trials(list(read_manifest(cuts)), lists)
    else:
        rows = some_of_each(read_manifest(cuts), settings.recordings, rng)
        pairs, targets = draw_trials(rows, settings)
    pieces = [(0.0, row.seconds) for row in rows]
    pieces += [short_piece(row.seconds, settings, rng) for row in rows]
    loaded = load_speaker_model(model, "auto")
    voices = embed_rows(loaded, [*rows, *rows], pieces)
    if settings.telephone:
        called = embed_rows(loaded, [*rows, *rows], pieces, telephone=True)
        voices, pairs, targets = called_too(voices, called, pairs, targets)
    fitted = fit_backend(loaded.sha256, np.load(cohort), voices, targets, pairs, backend)
    target.parent.mkdir(parents=True, exist_ok=True)
    save_backend(target, fitted)
    log.info("calibrate: %d trials of %d recordings", len(targets), len(rows))
