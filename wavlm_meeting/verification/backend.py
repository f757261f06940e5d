"""From embeddings to scores and log-likelihood ratios; no model is needed for it.

What it takes is one file, which may lie in the folder of its model.

M recordings, D embedding size, C speakers of the cohort, K trials.
"""

from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError, safe_open
from scipy.special import expit, logit

from wavlm_meeting.checkpoints.bundle import write_safetensors
from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.config import Settings
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.verification.calibration import Calibration, fit_calibration
from wavlm_meeting.verification.normalisation import (
    cohort_statistics,
    cosines,
    s_norm,
    unit_length,
)
from wavlm_meeting.verification.whitening import Whitening, fit_whitening

_FORMAT = "wavlm-meeting speaker backend 2"
"""What marks the file; another number for another layout."""

LEAST_SPEECH_S = 0.1
"""Speech that every recording is taken to have, since its logarithm counts."""

_STORED = np.float16
"""Numbers of a whitening in a file."""
_STEPS = 127
"""Of a cohort's numbers there, which are int8, up and down: 0.005 of a cosine at most."""

_TRIALS = 1_000_000
"""Trials whose measures are held at once."""


class BackendSettings(Settings):
    """How scores are normalised and calibrated."""

    top: int = Field(300, ge=2)
    """Speakers of the cohort, the closest ones, that a recording's scores are compared with."""
    whitening: float | None = Field(None, ge=0, le=1)
    """How far directions in which the cohort differs are made shorter, around its mean: 1 makes all
    the same, 0 only takes the mean away; None leaves embeddings as they are."""
    kept: int | None = Field(None, ge=2)
    """Speakers of the cohort that a file holds, evenly spaced in it; None holds all. A whitening is
    of all of them."""
    prior: float = Field(0.5, gt=0, lt=1)
    """Share of targets that the calibration is fitted for; 0.5 is what Cllr measures."""


@dataclass(frozen=True)
class Voices:
    """What is known of recordings."""

    embeddings: NDArray[np.float32]
    """(M, D): as the model gives them, of any length."""
    speech_s: NDArray[np.float64]
    """(M,): seconds of speech in each."""


@dataclass(frozen=True)
class Described:
    """What trials need of recordings."""

    units: NDArray[np.float32]
    """(M, D): embeddings at unit length, whitened if the backend does."""
    norms: NDArray[np.float64]
    """(M,): the lengths they had."""
    log_durations: NDArray[np.float64]
    """(M,): natural logarithms of the seconds of speech."""
    cohort: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    """Mean and deviation, both (M,), of the highest scores in the cohort, if there is one."""


@dataclass(frozen=True)
class Backend:
    """How the embeddings of one model are scored.

    Pairs (K, 2) name a row of `enrol` and one of `test`; every score is the same when the two are
    exchanged. Without a cohort there is no s-norm, and the calibration reads the cosine; without a
    calibration there are no log-likelihood ratios.
    """

    model_sha256: str
    """SHA-256 of the weights of the model whose embeddings these are."""
    top: int
    """As in `BackendSettings`."""
    cohort: NDArray[np.float32] | None = None
    """(C, D): voices of other people, at unit length; see `make_cohort`. Files hold int8."""
    calibration: Calibration | None = None
    """What makes log-likelihood ratios of scores."""
    whitening: Whitening | None = None
    """What embeddings pass first; the cohort has passed it."""

    def describe(self, voices: Voices) -> Described:
        """Compute what every trial with these recordings needs, once for each of them.

        Raises SettingsError for an embedding that is zero, not finite or of another size.
        """
        units, norms = unit_length(voices.embeddings)
        if self.cohort is not None and self.cohort.shape[1] != units.shape[1]:
            raise SettingsError(
                f"embeddings have {units.shape[1]} numbers, the backend's have "
                f"{self.cohort.shape[1]}; take the model that it was made for."
            )
        if self.whitening is not None:
            units = self.whitening(units)
        return Described(
            units,
            norms,
            np.log(voices.speech_s.clip(min=LEAST_SPEECH_S)),
            None if self.cohort is None else cohort_statistics(units, self.cohort, self.top),
        )

    def cosine(
        self, enrol: Described, test: Described, pairs: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return the cosine of the two embeddings of each pair, (K,)."""
        return cosines(enrol.units, test.units, pairs)

    def normalised(
        self, enrol: Described, test: Described, pairs: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return the cosine after adaptive s-norm, (K,); raises SettingsError without a cohort."""
        if enrol.cohort is None or test.cohort is None:
            raise SettingsError(
                "s-norm needs a cohort, and this backend has none; make one with a recipe "
                "(wavlm-meeting recipe run voxceleb), or take the cosine."
            )
        return s_norm(self.cosine(enrol, test, pairs), enrol.cohort, test.cohort, pairs)

    def log_likelihood_ratio(
        self, enrol: Described, test: Described, pairs: NDArray[np.integer]
    ) -> NDArray[np.float64]:
        """Return how many times likelier one speaker is than two, as natural logarithms, (K,).

        Raises SettingsError without a calibration.
        """
        calibration = self._calibrated()
        scores = raw_scores(self, enrol, test, pairs)
        found = np.empty(len(pairs))
        for start in range(0, len(pairs), _TRIALS):
            rows = slice(start, start + _TRIALS)
            found[rows] = calibration(scores[rows], quality_measures(enrol, test, pairs[rows]))
        return found

    def threshold(self, false_accept_rate: float) -> float:
        """Return the log-likelihood ratio that this share of pairs of strangers reaches.

        Raises SettingsError without a calibration, and for a rate that is none.
        """
        return self._calibrated().threshold(false_accept_rate)

    def _calibrated(self) -> Calibration:
        if self.calibration is None:
            raise SettingsError(
                "probabilities need a calibration, and this model's backend has none; make one "
                "with a recipe (wavlm-meeting recipe run voxceleb), or take the score alone."
            )
        return self.calibration


def raw_scores(
    backend: Backend, enrol: Described, test: Described, pairs: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return what the calibration reads, (K,): s-norm if there is a cohort, else the cosine."""
    score = backend.cosine if backend.cohort is None else backend.normalised
    return score(enrol, test, pairs)


def quality_measures(
    enrol: Described, test: Described, pairs: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return what is known beside the score, (K, F): each measure's lower and higher side.

    Lengths of embeddings, log durations and, with a cohort, mean scores in it: what tells good
    recordings from bad ones (Thienpondt et al. 2021, arXiv 2010.11255).
    """
    measures = [(enrol.norms, test.norms), (enrol.log_durations, test.log_durations)]
    if enrol.cohort is not None and test.cohort is not None:
        measures.append((enrol.cohort[0], test.cohort[0]))
    columns = []
    for of_enrol, of_test in measures:
        sides = of_enrol[pairs[:, 0]], of_test[pairs[:, 1]]
        columns += [np.minimum(*sides), np.maximum(*sides)]
    return np.column_stack(columns)


def fit_backend(
    model_sha256: str,
    cohort: NDArray[np.float32] | None,
    voices: Voices,
    targets: NDArray[np.bool_],
    pairs: NDArray[np.integer],
    settings: BackendSettings | None = None,
) -> Backend:
    """Fit a calibration to trials of people who are neither in the cohort nor in training.

    Args:
        model_sha256: SHA-256 of the weights of the model that made all embeddings.
        cohort: Voices (C, D) of `make_cohort`; None leaves out s-norm.
        voices: The recordings of the trials, (M,), as long and as bad as those to come.
        targets: Whether a trial has one speaker, (K,).
        pairs: The two recordings of each trial, (K, 2).
        settings: How to normalise and calibrate.

    Raises:
        TrainingError: The trials allow no calibration.
    """
    settings = settings or BackendSettings()
    plain = plain_backend(model_sha256, cohort, settings)
    described = plain.describe(voices)
    calibration = fit_calibration(
        raw_scores(plain, described, described, pairs),
        quality_measures(described, described, pairs),
        targets,
        settings.prior,
    )
    return replace(plain, calibration=calibration)


def plain_backend(
    model_sha256: str, cohort: NDArray[np.float32] | None, settings: BackendSettings
) -> Backend:
    """Return a backend without a calibration; parameters are those of `fit_backend`."""
    if cohort is None:
        return Backend(model_sha256, settings.top)
    whitening = None
    if settings.whitening is not None:
        exact = fit_whitening(cohort, settings.whitening)
        whitening = Whitening(_as_stored(exact.mean), _as_stored(exact.matrix))
        cohort = whitening(cohort)
    if settings.kept is not None and settings.kept < len(cohort):
        cohort = cohort[np.linspace(0, len(cohort) - 1, settings.kept).round().astype(np.int64)]
    stored = _decoded(*_coded(cohort))
    return Backend(model_sha256, settings.top, stored, whitening=whitening)


def _as_stored(array: NDArray[np.float32]) -> NDArray[np.float32]:
    """Round as a file does, so that a calibration is of the scores that it will get."""
    return array.astype(_STORED).astype(np.float32)


def _coded(cohort: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float16]]:
    """Return a cohort as a file holds it: steps (C, D), and how large they are in each row (C, 1).

    What has been coded once is coded in the same way again.
    """
    highest = np.abs(cohort).max(axis=1, keepdims=True)
    scales = (np.maximum(highest, 1e-2) / _STEPS).astype(np.float16)
    steps = np.round(cohort / scales.astype(np.float32)).clip(-_STEPS, _STEPS)
    return steps.astype(np.int8), scales


def _decoded(steps: NDArray[np.int8], scales: NDArray[np.float16]) -> NDArray[np.float32]:
    return steps.astype(np.float32) * scales.astype(np.float32)


def probability(llr: float, prior: float) -> float:
    """Return how probable one speaker is, if `prior` is how probable it was before listening.

    Raises SettingsError for a prior that is not between 0 and 1.
    """
    if not 0.0 < prior < 1.0:
        raise SettingsError(f"a prior of {prior:g} is none; give one between 0 and 1, such as 0.5.")
    return float(expit(llr + logit(prior)))


def save_backend(path: str | Path, backend: Backend) -> None:
    """Write a backend as a safetensors file, whole or not at all."""
    arrays: dict[str, NDArray[np.number] | float] = {}
    if backend.cohort is not None:
        arrays["cohort"], arrays["cohort_scales"] = _coded(backend.cohort)
    if backend.whitening is not None:
        mean, matrix = backend.whitening.mean, backend.whitening.matrix
        arrays |= {"mean": mean.astype(_STORED), "whitening": matrix.astype(_STORED)}
    if backend.calibration is not None:
        names = [each.name for each in fields(Calibration)]
        arrays |= {name: getattr(backend.calibration, name) for name in names}
    tensors = {name: torch.as_tensor(np.asarray(array)) for name, array in arrays.items()}
    metadata = {
        "format": _FORMAT,
        "model_sha256": backend.model_sha256,
        "top": str(backend.top),
        "toolkit": version("wavlm-meeting"),
    }
    with atomic_write(path) as temporary:
        write_safetensors(tensors, temporary, metadata)


def load_backend(path: str | Path, model_sha256: str | None = None) -> Backend:
    """Read a backend; with `model_sha256` (the hash of a model's weights) for that model alone.

    Raises:
        CheckpointError: The file is missing, damaged or no backend, or belongs to another model.
    """
    metadata, arrays = _read(Path(path))
    if metadata.get("format") != _FORMAT:
        raise CheckpointError(f"{path}: no backend of this version; make it again with its recipe.")
    if model_sha256 is not None and metadata["model_sha256"] != model_sha256:
        raise CheckpointError(
            f"{path}: was made for the model {metadata['model_sha256'][:12]}..., not for "
            f"{model_sha256[:12]}...; scores of different models do not compare: take that model, "
            "or make a backend for this one."
        )
    for name in arrays.keys() & {"mean", "whitening"}:
        arrays[name] = arrays[name].astype(np.float32)
    cohort = None
    if "cohort" in arrays:
        cohort = _decoded(arrays.pop("cohort"), arrays.pop("cohort_scales"))
    calibration = whitening = None
    if "whitening" in arrays:
        whitening = Whitening(arrays.pop("mean"), arrays.pop("whitening"))
    if arrays:
        weight, offset = float(arrays.pop("weight")), float(arrays.pop("offset"))
        calibration = Calibration(weight=weight, offset=offset, **arrays)
    return Backend(metadata["model_sha256"], int(metadata["top"]), cohort, calibration, whitening)


def backend_of(model: str | Path) -> Path | None:
    """Find the backend in a model's folder, or beside a model's file."""
    folder = Path(model) if Path(model).is_dir() else Path(model).parent
    path = folder / BACKEND
    return path if path.is_file() else None


def _read(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """Read metadata and tensors of a safetensors file."""
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; name a backend, or make one with a recipe.")
    try:
        with safe_open(path, "numpy") as file:
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return file.metadata() or {}, arrays
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}); fetch it again."
        ) from None
