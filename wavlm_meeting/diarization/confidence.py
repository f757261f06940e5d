"""How sure a turn is: the share of it in which its speaker is expected to speak.

N turns.

What is to be expected is known from recordings with a reference, speakers being matched to it as in
scoring: `scoring.calibration.correct_shares` counts the shares that confidences stand for, and
`expected_calibration_error` how far they are from them.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import expit, logit

from wavlm_meeting.config import Settings
from wavlm_meeting.diarization.result import Diarization, Turn

LEAST = 0.001
"""Probabilities nearer to 0 or 1 than the third decimal tell nothing more."""


class ConfidenceSettings(Settings):
    """What a bundle's card says under `[heads.diarization.confidence]`: a logistic regression.

    As it is here, the mean probability is the confidence, which nobody has checked. Networks are
    too sure of themselves (Guo et al. 2017), and who a local speaker is taken for does not show in
    their probabilities at all.
    """

    offset: float = Field(0.0, allow_inf_nan=False)
    """Log-odds of a turn whose measures are 0."""
    probability: float = Field(1.0, allow_inf_nan=False)
    """Weight of the log-odds of the mean probability that the speaker is active."""
    likeness: float = Field(0.0, allow_inf_nan=False)
    """Weight of the cosine between the turn's voice and the speaker's mean one."""


def measures_of(turns: Sequence[Turn]) -> NDArray[np.float64]:
    """Return what the confidence of turns rests on, (N, 2): log-odds and likeness.

    The turns' own confidence is taken for the mean probability: they are not calibrated yet.
    """
    probability = np.array([turn.confidence for turn in turns], np.float64)
    likeness = np.array([turn.likeness for turn in turns], np.float64)
    return np.column_stack([logit(probability.clip(LEAST, 1.0 - LEAST)), likeness])


def calibrated(diarization: Diarization, settings: ConfidenceSettings) -> Diarization:
    """Turn the mean probabilities of a diarization's turns into confidences."""
    weights = np.array([settings.probability, settings.likeness])
    confidence = expit(measures_of(diarization.turns) @ weights + settings.offset)
    turns = (
        replace(turn, confidence=round(float(value), 3))
        for turn, value in zip(diarization.turns, confidence, strict=True)
    )
    return replace(diarization, turns=tuple(turns))
