"""DiariZen's models in our pipeline, with voices heard by `tiny`."""

from pathlib import Path

import numpy as np
import pytest
import torch

from small_diarizen import WHOLE, draw_state, write_diarizen
from wavlm_meeting.audio.windows import Window
from wavlm_meeting.checkpoints.bundle import write_bundle
from wavlm_meeting.checkpoints.conformer_head import (
    CONFORMER_CLASSIFIER,
    build_diarizen,
    parse_classifier,
)
from wavlm_meeting.checkpoints.diarizen import is_diarizen_id, read_diarizen
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.diarization.model import powerset_table

pytestmark = pytest.mark.filterwarnings("ignore:.*non-commercial:UserWarning")


def window(seconds: float = 4.0) -> Window:
    """Give a window of noise, as an iterator of windows gives it."""
    samples = np.random.default_rng(3).standard_normal(int(16_000 * seconds)).astype(np.float32)
    return Window(0, samples, len(samples), is_last=True)


def test_segmentation_is_the_models_and_voices_are_tinys(tmp_path: Path) -> None:
    """Activities are those of DiariZen's network; embeddings are of `tiny`'s size and length 1."""
    folder = write_diarizen(tmp_path / "model", draw_state(WHOLE, large=True))
    pipeline = load_pipeline(str(folder), "cpu")
    assert (pipeline.settings.window_s, pipeline.settings.hop_s) == (4.0, 1.0)
    (local,) = pipeline.analyse([window()])
    model = read_diarizen(folder)
    numbers = parse_classifier(model.card.heads[CONFORMER_CLASSIFIER], "test")
    encoder, head = build_diarizen(model, numbers, powerset_table(4, 2))
    with torch.no_grad():
        states = encoder(torch.from_numpy(window().samples)[None]).hidden_states
        expected = head.activities(head(states))[0].numpy()
    np.testing.assert_allclose(local.activity, expected, atol=2e-3)
    assert local.embeddings.shape == (4, load_pipeline("tiny", "cpu").settings.embedding_size)
    np.testing.assert_allclose(np.linalg.norm(local.embeddings, axis=1), 1.0, atol=1e-2)


def test_embeddings_follow_the_masks(tmp_path: Path) -> None:
    """A voice is described by the part of the window in which DiariZen hears it, and no other."""
    folder = write_diarizen(tmp_path / "model", draw_state(WHOLE, large=True))
    embedding = load_pipeline(str(folder), "cpu").heads.embedding
    first = [torch.zeros(1, 199, 32)] * embedding.count
    second = [torch.randn(1, 100, 320, generator=torch.Generator().manual_seed(1))] * 7
    masks = torch.zeros(1, 2, 199)
    masks[0, 0, :80], masks[0, 1, 120:] = 1, 1
    changed = [states.clone() for states in second]
    for states in changed:
        states[:, 60:] = 0.0
    with torch.no_grad():
        before, after = (embedding([*first, *each], masks)[0] for each in (second, changed))
    torch.testing.assert_close(before[0], after[0])
    assert (before[1] - after[1]).abs().max() > 1e-2


def test_a_recording_goes_through(tmp_path: Path, conversation: Path) -> None:
    """A whole recording is diarized, and a bundle of the model gives the same turns."""
    folder = write_diarizen(tmp_path / "model", draw_state(WHOLE, large=False))
    found = load_pipeline(str(folder), "cpu")(conversation)
    assert found.model == "model"
    assert found.turns
    model = read_diarizen(folder)
    write_bundle(tmp_path / "bundle", model.state, model.card)
    again = load_pipeline(str(tmp_path / "bundle"), "cpu")(conversation)
    assert again.turns == found.turns


def test_releases_are_known_by_their_owner() -> None:
    """Ids of DiariZen's authors alone are fetched as DiariZen's."""
    assert is_diarizen_id("BUT-FIT/diarizen-wavlm-large-s80-md")
    assert not is_diarizen_id("BUT-FIT/other")
    assert not is_diarizen_id("somebody/diarizen-copy")
