"""Confidences are fitted to what was right, and are honest about what was not seen."""

from pathlib import Path

import numpy as np
import pytest
from pyannote.core import Annotation, Segment

from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.diarization.confidence import ConfidenceSettings, calibrated
from wavlm_meeting.diarization.result import Diarization, Turn
from wavlm_meeting.errors import TrainingError
from wavlm_meeting.recipes.tiny.confidence import Pair, calibration_error, fit, fit_confidence
from wavlm_meeting.recipes.tiny.evaluate import meetings

LAW = ConfidenceSettings(offset=-3.0, probability=0.7, likeness=4.5)
"""How often turns are right in the simulated world."""


def world(seed: int, turns: int = 500) -> list[Pair]:
    """Draw a recording of one speaker whose turns are right for as long as the law says."""
    rng = np.random.default_rng(seed)
    lengths = rng.exponential(2, turns) + 0.1
    starts = np.cumsum(lengths + 1) - lengths
    probabilities, cosines = rng.beta(8, 1, turns), rng.uniform(0.2, 1, turns)
    said = [
        Turn(start, start + length, "a", probability, 0.0, likeness)
        for start, length, probability, likeness in np.column_stack(
            [starts, lengths, probabilities, cosines]
        ).tolist()
    ]
    found = Diarization("x", said[-1].end, tuple(said), (), "tiny", "0" * 64)
    reference = Annotation(uri="x")
    for turn in calibrated(found, LAW).turns:
        right_s = turn.confidence * (turn.end - turn.start)
        reference[Segment(turn.start, turn.start + right_s)] = "someone"
    return [(reference, found)]


def with_confidence(pairs: list[Pair], settings: ConfidenceSettings) -> list[Pair]:
    """Apply settings to what was found."""
    return [(reference, calibrated(found, settings)) for reference, found in pairs]


def test_the_law_of_a_simulated_world_is_found() -> None:
    """Weights come back, and the error on turns not seen is small where it was large."""
    fitted = fit(world(0))
    assert fitted.probability == pytest.approx(LAW.probability, abs=0.02)
    assert fitted.likeness == pytest.approx(LAW.likeness, abs=0.1)
    unseen = world(1)
    for equal_count in (False, True):
        before = calibration_error(unseen, equal_count=equal_count)
        honest = with_confidence(unseen, fitted)
        assert before > 0.1
        assert calibration_error(honest, equal_count=equal_count) < 0.005


def test_turns_weigh_by_their_length() -> None:
    """One long turn that is right and many short ones that are not: by seconds, not by number."""
    reference = Annotation(uri="x")
    reference[Segment(0, 75)] = "someone"
    wrong = [Turn(100.0 + 2 * k, 101.0 + 2 * k, "a", 0.9) for k in range(25)]
    found = Diarization("x", 200.0, (Turn(0, 75, "a", 0.9), *wrong), (), "tiny", "0" * 64)
    (turn, *_) = calibrated(found, fit([(reference, found)])).turns
    assert turn.confidence == pytest.approx(0.75, abs=0.005)


@pytest.mark.parametrize("pairs", [[], [(Annotation(uri="x"), world(0, 5)[0][1])]])
def test_without_right_or_wrong_turns_nothing_is_fitted(pairs: list[Pair]) -> None:
    """No recordings, or nothing right in them: the line says what to add."""
    with pytest.raises(TrainingError, match="add recordings"):
        fit(pairs)


def test_a_pipeline_is_fitted_as_if_it_had_not_been_before(shared_dir: Path) -> None:
    """Refitting on real meetings does not see the confidences that the pipeline gives already."""
    pipeline = load_pipeline("tiny", "cpu")
    recordings = meetings(shared_dir / "corpus", ("test",))[:2]
    heard = [pipeline.listen(recording.waveform) for recording in recordings]
    fitted = fit_confidence(pipeline, recordings, heard)
    boastful = ConfidenceSettings(offset=9.0, probability=0.1)
    pipeline.settings = pipeline.settings.model_copy(update={"confidence": boastful})
    assert fit_confidence(pipeline, recordings, heard) == fitted
    assert fitted != ConfidenceSettings()
