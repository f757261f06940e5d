"""Make confidences honest: fit them to recordings with a reference, and say how far off they are.

N turns of all recordings together.
"""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from wavlm_meeting.diarization.confidence import ConfidenceSettings, measures_of
from wavlm_meeting.diarization.heard import Heard
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.result import Diarization
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.errors import TrainingError
from wavlm_meeting.recipes.tiny.evaluate import Recording
from wavlm_meeting.scoring.calibration import correct_shares, expected_calibration_error

Floats = NDArray[np.float64]
Pair = tuple[Annotation, Diarization]
"""A reference and what was found."""


def fit_confidence(
    pipeline: DiarizationPipeline, recordings: list[Recording], heard: list[Heard]
) -> ConfidenceSettings:
    """Fit the confidences of a pipeline to recordings and what it heard of them.

    The pipeline's settings are to be chosen before, since turns are what they make. Raises
    TrainingError if turns are all right or all wrong.
    """
    settings = pipeline.settings.model_copy(update={"confidence": ConfidenceSettings()})
    return fit(pair(pipeline, recordings, heard, settings))


def pair(
    pipeline: DiarizationPipeline,
    recordings: list[Recording],
    heard: list[Heard],
    settings: DiarizationSettings | None = None,
) -> list[Pair]:
    """Put together what was heard, the number of speakers unknown, and pair it with references.

    `settings` are the pipeline's own if None.
    """
    return [
        (recording.reference, pipeline.assemble(recording.name, local, 1, None, settings))
        for recording, local in zip(recordings, heard, strict=True)
    ]


def fit(pairs: Iterable[Pair]) -> ConfidenceSettings:
    """Fit a logistic regression to diarizations whose confidences are mean probabilities.

    A turn counts as its seconds, those in which the speaker speaks for and the others against.
    Raises TrainingError if there are none of one kind.
    """
    pairs = list(pairs)
    shares, seconds = _shares(pairs), _seconds(pairs)
    right_s, wrong_s = shares * seconds, (1.0 - shares) * seconds
    if not right_s.sum() > 0 or not wrong_s.sum() > 0:
        raise TrainingError("confidences need turns that are right and wrong; add recordings.")
    measures = np.concatenate([measures_of(diarization.turns) for _, diarization in pairs])
    scaler = StandardScaler().fit(measures, sample_weight=seconds)
    scaled = scaler.transform(measures)
    model = LogisticRegression(max_iter=1000, tol=1e-6)
    model.fit(
        np.concatenate([scaled, scaled]),
        np.repeat([True, False], len(seconds)),
        sample_weight=np.concatenate([right_s, wrong_s]),
    )
    weights = model.coef_[0] / scaler.scale_
    return ConfidenceSettings(
        offset=round(float(model.intercept_[0] - weights @ scaler.mean_), 4),
        probability=round(float(weights[0]), 4),
        likeness=round(float(weights[1]), 4),
    )


def calibration_error(pairs: Iterable[Pair], *, equal_count: bool = False) -> float:
    """Return the expected calibration error over the turns of all recordings, in 10 bins."""
    pairs = list(pairs)
    confidence = np.array([turn.confidence for _, each in pairs for turn in each.turns])
    return expected_calibration_error(
        confidence, _shares(pairs), _seconds(pairs), equal_count=equal_count
    )


def _shares(pairs: list[Pair]) -> Floats:
    """Return the share of each turn (N,) in which its speaker speaks."""
    shares = [correct_shares(reference, diarization.turns) for reference, diarization in pairs]
    return np.concatenate([np.zeros(0), *shares])


def _seconds(pairs: list[Pair]) -> Floats:
    """Return the lengths of turns (N,)."""
    return np.array([turn.end - turn.start for _, each in pairs for turn in each.turns])
