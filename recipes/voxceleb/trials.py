"""Stages `test` and `baselines`: scores of all trial lists, by each system.

M recordings, D embedding size, K trials.
"""

import json
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.formats.trials import Scores, Trials, write_scores
from wavlm_meeting.recipes.manifests import Row
from wavlm_meeting.recipes.results import write_json
from wavlm_meeting.recipes.voxceleb.embedding import embed_rows
from wavlm_meeting.recipes.voxceleb.lists import recording_name
from wavlm_meeting.report.det import draw_det
from wavlm_meeting.scoring.verification import VerificationScore, det_curve, score_verification
from wavlm_meeting.verification.backend import load_backend
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.normalisation import cosines, unit_length

System = Callable[[NDArray[np.integer]], NDArray[np.float64]]
"""Scores pairs (K, 2) of recordings."""

Figures = dict[str, dict[str, VerificationScore]]
"""What was found, by system and list."""

RESULTS = "results.json"

log = logging.getLogger(__name__)


def model_systems(model: Path, backend_file: Path, rows: Sequence[Row]) -> dict[str, System]:
    """Embed all recordings once, and return the ways to score them."""
    loaded = load_speaker_model(model, "auto")
    backend = load_backend(backend_file, loaded.sha256)
    heard = embed_rows(loaded, rows)
    voices = backend.describe(heard)
    systems = {"cosine": cosine_system(heard.embeddings)}
    if backend.whitening is not None:
        systems["whitened"] = lambda pairs: backend.cosine(voices, voices, pairs)
    return systems | {
        "s-norm": lambda pairs: backend.normalised(voices, voices, pairs),
        "calibrated": lambda pairs: backend.log_likelihood_ratio(voices, voices, pairs),
    }


def cosine_system(embeddings: NDArray[np.float32]) -> System:
    """Return a system that compares embeddings (M, D) by their cosine."""
    units, _ = unit_length(embeddings)
    return lambda pairs: cosines(units, units, pairs)


def try_systems(
    systems: Mapping[str, System],
    lists: Mapping[str, Trials],
    rows: Sequence[Row],
    folder: Path,
    resamples: int,
) -> Figures:
    """Score every list by every system; scores and pictures are written into `folder`."""
    place = {row.name: number for number, row in enumerate(rows)}
    speakers = [row.speaker for row in rows]
    found: Figures = {system: {} for system in systems}
    for name, trials in lists.items():
        own = np.array([place[recording_name(field)] for field in trials.names])
        pairs = own[trials.pairs]
        curves = {}
        for system, score in systems.items():
            values = score(pairs)
            (folder / system).mkdir(parents=True, exist_ok=True)
            scores = Scores(values, trials.pairs, trials.names)
            write_scores(scores, folder / system / f"{name}.txt")
            figures = score_verification(trials.targets, values, pairs, speakers, resamples)
            found[system][name] = figures
            curves[system] = det_curve(trials.targets, values)
            log.info("%s, %s: EER %.2f %%", name, system, 100 * figures.eer)
        draw_det(curves, folder / f"{name}.png")
    return found


def write_figures(folder: Path, figures: Figures) -> None:
    """Write figures as JSON into a folder."""
    plain = {
        system: {name: asdict(each) for name, each in own.items()}
        for system, own in figures.items()
    }
    write_json(folder / RESULTS, plain)


def read_figures(folder: Path) -> Figures:
    """Read what `write_figures` wrote."""
    plain = json.loads((folder / RESULTS).read_text(encoding="utf-8"))
    return {
        system: {name: VerificationScore(**each) for name, each in own.items()}
        for system, own in plain.items()
    }
