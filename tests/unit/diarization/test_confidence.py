"""Confidences follow the settings, and change nothing else."""

from dataclasses import replace

import numpy as np
import pytest

from wavlm_meeting.config import parse_settings
from wavlm_meeting.diarization.confidence import ConfidenceSettings, calibrated
from wavlm_meeting.diarization.result import Diarization, Turn
from wavlm_meeting.errors import SettingsError


def of(probabilities: list[float], likeness: float = 0.8) -> Diarization:
    """Make a diarization with turns of these mean probabilities."""
    turns = [
        Turn(2.0 * place, 2.0 * place + 1, "a", value, 0.25, likeness)
        for place, value in enumerate(probabilities)
    ]
    return Diarization("x", 100.0, tuple(turns), ((1.0, 2.0),), "tiny", "0" * 64, {1: 1.0})


def confidences(diarization: Diarization) -> list[float]:
    """Return the confidence of each turn."""
    return [turn.confidence for turn in diarization.turns]


def test_without_a_calibration_probabilities_stay() -> None:
    """The default is the mean probability, short of being certain."""
    values = [0.123, 0.5, 0.77, 0.999]
    assert confidences(calibrated(of(values), ConfidenceSettings())) == values
    assert confidences(calibrated(of([0.0, 1.0]), ConfidenceSettings())) == [0.001, 0.999]


def test_a_known_share_is_said_of_every_turn() -> None:
    """Where nothing tells turns apart and four of five are right, each is so by 0.8."""
    settings = ConfidenceSettings(offset=float(np.log(4)), probability=0.0)
    assert confidences(calibrated(of([0.2, 0.9]), settings)) == [0.8, 0.8]


def test_the_regression_is_the_formula() -> None:
    """1 / (1 + exp(-offset - a log(p / (1 - p)) - b cosine)), whatever the measures."""
    settings = ConfidenceSettings(offset=-2.0, probability=0.7, likeness=3.0)
    odds = np.exp(-2.0) * (0.9 / 0.1) ** 0.7 * np.exp(3.0 * 0.6)
    found = confidences(calibrated(of([0.9], likeness=0.6), settings))
    assert found == pytest.approx([odds / (1 + odds)], abs=0.0005)


def test_nothing_but_the_confidence_changes() -> None:
    """Times, speakers, overlaps, counts and order stay."""
    before = of([0.3, 0.9, 0.6])
    after = calibrated(before, ConfidenceSettings(offset=1.0, likeness=2.0))
    assert confidences(after) != confidences(before)
    turns = zip(after.turns, before.turns, strict=True)
    restored = (replace(turn, confidence=old.confidence) for turn, old in turns)
    assert replace(after, turns=tuple(restored)) == before


def test_silence_stays_silent() -> None:
    """No turns, no confidences."""
    assert calibrated(of([]), ConfidenceSettings(offset=1.0)) == of([])


def test_a_misspelt_weight_is_refused() -> None:
    """A card with an unknown weight names the nearest one."""
    with pytest.raises(SettingsError, match="did you mean 'likeness'"):
        parse_settings({"likenes": 1.0}, ConfidenceSettings, "card.toml")
