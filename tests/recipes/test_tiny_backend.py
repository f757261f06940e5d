"""The stage that makes scores of voices probabilities."""

import shutil
from pathlib import Path

import pytest

from small_voxceleb import BACKEND_ALONE, small_corpus
from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.errors import SettingsError

pytest.importorskip("speechbrain", reason="training needs the extra 'train'")
from wavlm_meeting.recipes.tiny.__main__ import main
from wavlm_meeting.recipes.tiny.backend import backend
from wavlm_meeting.verification.backend import backend_of, load_backend
from wavlm_meeting.verification.load import load_speaker_model


def test_a_bundle_gets_a_backend_of_its_own(tmp_path: Path, shared_dir: Path) -> None:
    """It lies beside the weights that it was fitted to, whatever was there before."""
    corpus = small_corpus(tmp_path / "corpus", shared_dir / "corpus")
    bundle = shutil.copytree(resolve("mini"), tmp_path / "bundle")
    (bundle / BACKEND).unlink()
    (tmp_path / "few.toml").write_text(BACKEND_ALONE)
    settings = tmp_path / "settings.toml"
    encoder = "[encoder]\nconv_layers = [[32, 400, 160]]\nwidth = 32\nlayers = 1\nheads = 2\n"
    settings.write_text(f'backend = "{tmp_path / "few.toml"}"\n{encoder}')
    with pytest.raises(SettingsError, match="name the bundle"):
        main(corpus, tmp_path / "work", settings, stages="backend", workers=1)
    main(corpus, tmp_path / "work", settings, bundle, stages="backend", workers=1)
    with pytest.raises(SettingsError, match="small_joint trains a model"):
        backend(corpus, tmp_path / "work", bundle, "small_joint")
    model = load_speaker_model(bundle)
    found = load_backend(backend_of(bundle) or "", model.sha256)
    assert found.cohort is not None
    assert found.cohort.shape[1] == model.size
    assert found.calibration is not None
