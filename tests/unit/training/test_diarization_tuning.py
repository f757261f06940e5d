"""Figures on recordings with references, and thresholds that are surely better."""

from pathlib import Path

import numpy as np
import pytest

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.formats.rttm import read_rttm

pytest.importorskip("lhotse", reason="training needs the extra 'train'")

from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.scoring.diarization import score_diarization
from wavlm_meeting.training.diarization_finetuning import grid_around
from wavlm_meeting.training.diarization_recordings import Conversation, conversation_of
from wavlm_meeting.training.diarization_tuning import (
    diarized,
    errors_of,
    hear,
    score,
    sure_gain,
    tune,
    with_values,
)


@pytest.fixture(scope="module")
def recordings(shared_dir: Path) -> list[Conversation]:
    """Give three real conversations of 19 to 30 s."""
    folder = shared_dir / "corpus/meetings"
    return [
        conversation_of(name, folder / f"{name}.flac", read_rttm(folder / f"{name}.rttm")[name])
        for name in (
            "falcon_test",
            "pyannote_sample",
            "ami_ES2003b_000-030",
        )
    ]


def test_figures_are_those_of_the_scoring(recordings: list[Conversation]) -> None:
    """Over whole files; each recording's errors are its part in the rate of all."""
    pipeline = load_pipeline("tiny", "cpu")
    heard = hear(pipeline, recordings)
    found = diarized(pipeline, recordings, heard)
    figures = score(recordings, found)
    expected = score_diarization(
        {each.name: each.reference() for each in recordings},
        {each.name: own.to_annotation() for each, own in zip(recordings, found, strict=True)},
        {each.name: each.scored() for each in recordings},
        0.25,
    )
    assert figures.counts[0.25] == expected.total
    errors = errors_of(recordings, found, 0.25)
    assert errors.mean() == pytest.approx(expected.total.der)
    values = figures.values()
    parts = [values[f"{name}, collar 0"] for name in ("missed", "false", "confused")]
    assert sum(parts) == pytest.approx(values["der, collar 0"])
    assert 0 <= figures.counted_right <= figures.recordings == 3

    # Thresholds that find hardly any speech are left for better ones.
    pipeline.settings = with_values(pipeline.settings, {"onset": 0.95, "turn_s": 3.0})
    bad = errors_of(recordings, diarized(pipeline, recordings, heard), 0.0)
    grids = ({"turn_s": (0.1, 3.0), "onset": (0.3, 0.5)},)
    errors = tune(pipeline, recordings, heard, grids)
    assert pipeline.settings.onset in (0.3, 0.5)
    assert errors.mean() < bad.mean()
    again = errors_of(recordings, diarized(pipeline, recordings, heard), 0.0)
    np.testing.assert_allclose(errors, again)


def test_a_gain_is_sure_if_recordings_agree() -> None:
    """The same gain everywhere counts in full; one that a single recording makes is worth less."""
    before = np.array([0.4, 0.2, 0.3])
    assert sure_gain(before, before - 0.1) == pytest.approx(0.1)
    lucky = before - np.array([0.3, 0.0, 0.0])
    assert sure_gain(before, lucky) < 0  # a mean of 0.1 says nothing here
    assert sure_gain(before, before) == 0.0
    assert sure_gain(before, before + 0.1) < 0
    assert sure_gain(np.array([0.5]), np.array([0.4])) == pytest.approx(0.1)


def test_values_of_clustering_are_found_there() -> None:
    """A threshold is changed within the clustering, an onset beside it, and nothing else."""
    own = load_pipeline("tiny", "cpu").settings
    changed = with_values(own, {"threshold": 0.33, "onset": 0.44})
    assert (changed.clustering.threshold, changed.onset) == (0.33, 0.44)
    back = {"threshold": own.clustering.threshold, "onset": own.onset}
    assert with_values(changed, back) == own
    changed = with_values(own, {"method": "vbx", "vbx.threshold": 0.44})
    assert (changed.clustering.method, changed.clustering.vbx.threshold) == ("vbx", 0.44)
    back = {
        "method": own.clustering.method,
        "vbx.threshold": own.clustering.vbx.threshold,
    }
    assert with_values(changed, back) == own
    with pytest.raises(SettingsError, match="did you mean 'onset'"):
        with_values(own, {"onsett": 0.4})
    with pytest.raises(SettingsError, match=r"clustering\.vbx\.threshold"):
        with_values(own, {"vbx.threshold": -1.0})


@pytest.mark.parametrize(
    ("method", "name"), [("agglomerative", "threshold"), ("vbx", "vbx.speaker_factor")]
)
def test_what_is_tuned_decides_how_many_speakers_there_are(method: str, name: str) -> None:
    """Fine-tuning tries what the model's clustering goes by, around what it is and that itself."""
    own = with_values(load_pipeline("tiny", "cpu").settings, {"method": method})
    grid = grid_around(own)
    assert grid.keys() == {name, "onset"}
    for values in grid.values():
        assert list(values) == sorted(set(values))
    tried = [with_values(own, {name: value}) for value in grid[name]]
    assert own in tried
    assert len({settings.model_dump_json() for settings in tried}) == len(tried)
