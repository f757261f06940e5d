"""The head for verification: what its teacher says, of what it learns, and the stage as typed."""

import shutil
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from small_tiny import SMALL, lay_out
from wavlm_meeting.checkpoints.card import read_card
from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.config import read_toml
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.verification.load import load_speaker_model

pytest.importorskip("speechbrain", reason="training needs the extra 'train'")
pytest.importorskip("resemblyzer", reason="the teacher needs the extra 'train'")
from resemblyzer import VoiceEncoder
from resemblyzer.audio import normalize_volume

from wavlm_meeting.recipes.tiny.__main__ import main
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.evaluate import embed, embedder
from wavlm_meeting.recipes.tiny.settings import TinySettings, VoiceSettings
from wavlm_meeting.recipes.tiny.voice_data import VoiceBatch, VoiceBatches
from wavlm_meeting.recipes.tiny.voice_task import pieces_of
from wavlm_meeting.recipes.tiny.voice_teacher import (
    MEL_RATE,
    Directions,
    describe,
    find_directions,
)

VOICES = """
[voices]
recordings = 3
window_s = 3.0
pieces = 2
pieces_s = [1.6, 2.4]
steps = 3
[voices.head.ecapa]
channels = 8
aggregated = 8
dilations = [2]
scale = 2
embedding = 4
[voices.trainer]
workers = 0
checkpoint_steps = 1
"""


@pytest.fixture(scope="module")
def speech(shared_dir: Path) -> np.ndarray:
    """Give six seconds of one reader."""
    path = min((shared_dir / "corpus/speech/librispeech").rglob("*_a.opus"))
    samples, _ = soundfile.read(path, dtype="float32")
    return np.resize(samples, 96_000)


@pytest.fixture(scope="module")
def prepared(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Give a corpus of a few files, what `prepare` makes of it, and settings with the head."""
    corpus = lay_out(shared_dir, tmp_path_factory.mktemp("corpus"))
    paths = sorted(path.relative_to(corpus) for path in (corpus / "speech").rglob("*.opus"))
    trials = [f"{int(a.parent == b.parent)} {a} {b}" for a, b in combinations(paths, 2)]
    (corpus / "trials_dev_cv.txt").write_text("\n".join(trials) + "\n")
    work = tmp_path_factory.mktemp("work")
    settings = work / "small.toml"
    settings.write_text(SMALL + VOICES)
    main(corpus, work, settings, stages="prepare", workers=1)
    return corpus, work, settings


def test_the_teacher_is_asked_as_its_authors_do(speech: np.ndarray) -> None:
    """Where all is speech, each stretch has what `embed_utterance` gives for it, wherever it is."""
    quiet = normalize_volume(0.01 * speech, -30, increase_only=True)
    (found,) = describe(quiet[None], np.ones((1, 150), np.bool_))
    _, expected, slices = VoiceEncoder("cpu", verbose=False).embed_utterance(
        quiet, return_partials=True, rate=2.5
    )
    known = [n for n, own in enumerate(slices) if own.stop <= len(quiet)]
    assert len(known) > 8
    for n in known:
        assert found.spans[n].tolist() == pytest.approx(
            [slices[n].start / 16_000, slices[n].stop / 16_000]
        )
        assert found.embeddings[n] @ expected[n] > 0.995
    (loud,) = describe(20 * quiet[None], np.ones((1, 150), np.bool_))
    assert (found.embeddings * loud.embeddings).sum(axis=1).min() > 0.99


def test_pauses_are_left_out(speech: np.ndarray) -> None:
    """Stretches go on after a pause, whatever is heard in it; hardly any speech says nothing."""
    pause = np.random.default_rng(0).standard_normal(16_000).astype(np.float32)
    heard = np.concatenate([speech[:48_000], 0.1 * pause, speech[48_000:64_000]])
    active = np.ones(125, np.bool_)
    active[75:100] = False
    (whole,) = describe(speech[None, :64_000], np.ones((1, 100), np.bool_))
    (parts,) = describe(heard[None], active[None])
    assert (parts.spans[:, 1] - parts.spans[:, 0]).max() == pytest.approx(2.6)
    assert len(parts.spans) == len(whole.spans)
    assert (parts.embeddings * whole.embeddings).sum(axis=1).min() > 0.9
    frames = np.arange(150)
    none, brief = describe(np.stack([speech] * 2), np.stack([frames < 0, frames < 12]))
    assert none.embeddings.shape == brief.embeddings.shape == (0, 256)
    (little,) = describe(speech[None], frames[None] < 25)
    assert little.spans.tolist() == [[0.0, pytest.approx(1.0, abs=2 / MEL_RATE)]]


def test_voices_around_their_mean_keep_their_angles() -> None:
    """In as many directions as there are, cosines are those around the mean."""
    rng = np.random.default_rng(1)
    voices, mean = rng.standard_normal((2, 5, 256)).astype(np.float32)
    basis = np.linalg.qr(rng.standard_normal((256, 256)))[0].astype(np.float32)
    found = Directions(mean[0], basis)(voices)
    centred = voices - mean[0]
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    np.testing.assert_allclose(found @ found.T, centred @ centred.T, atol=1e-5)
    assert np.isfinite(Directions(mean[0], basis)(mean[:1])).all()


def test_pieces_are_taught_by_what_is_said_within_them(
    prepared: tuple[Path, Path, Path],
) -> None:
    """A batch is the same whatever came before; its targets are the teacher's of the pieces."""
    _, work, path = prepared
    settings = read_toml(path, TinySettings)
    voices = VoiceSettings(recordings=6, window_s=6.0, pieces=3, pieces_s=(3.0, 4.0), steps=9)
    directions = find_directions(work, 4)
    parts = load_collection(work, "train"), settings.data, voices, settings.encoder, directions
    batch = VoiceBatches(*parts).batch(2)
    again = next(iter(VoiceBatches(*parts, first=2)))
    assert all(torch.equal(a, b) for a, b in zip(batch, again, strict=True))
    lengths = batch.targets.norm(dim=2)
    assert (((lengths - 1).abs() < 1e-4) | (lengths == 0)).all()
    assert (lengths > 0).float().mean() > 0.5
    near = []
    length = int(batch.length_s * 100) * 160
    for row, begins in enumerate(batch.begins_s):
        for piece, begin in enumerate(begins):
            cut = batch.waveforms[row, int(begin * 16_000) :][:length].numpy()
            cut = cut[: len(cut) // 160 * 160]
            loud = np.abs(cut).reshape(-1, 160).max(axis=1) > 0.05 * np.abs(cut).max()
            (said,) = describe(cut[None], loud[None])
            if lengths[row, piece] and len(said.embeddings):
                own = directions(said.embeddings.mean(axis=0))
                near.append(float(own @ batch.targets[row, piece].numpy()))
    assert np.median(near) > 0.8
    with pytest.raises(SettingsError, match="100000 directions need more"):
        find_directions(work, 100_000)


def test_pieces_are_cut_where_they_begin() -> None:
    """Of states as coarse as an encoder's, to the nearest frame, and never beyond the end."""
    state = torch.arange(150.0)[None, :, None].expand(2, 150, 3)  # frames of 40 ms
    batch = VoiceBatch(
        torch.zeros(2, 96_000),
        torch.tensor([[0.0, 1.0], [0.41, 5.9]]),
        torch.tensor(2.0),
        torch.zeros(2, 2, 4),
    )
    found = pieces_of(state, batch)
    assert found.shape == (4, 50, 3)
    assert found[:, 0, 0].tolist() == [0, 25, 10, 100]
    assert (found.diff(dim=1) == 1).all()


def test_a_bundle_gets_a_head_that_verification_takes(
    prepared: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Nothing else in it moves, its backend goes, and its card says what the head reaches."""
    corpus, work, settings = prepared
    bundle = shutil.copytree(resolve("mini"), tmp_path / "bundle")
    before = load_model(str(bundle))
    with pytest.raises(SettingsError, match="name the bundle"):
        main(corpus, work, settings, stages="voices", workers=1)
    with pytest.raises(SettingsError, match="mini is no folder"):
        main(corpus, work, settings, Path("mini"), stages="voices", workers=1)
    main(corpus, work, settings, bundle, stages="voices", workers=1)
    after = load_model(str(bundle))
    for part, state in before.state.items():
        for name, tensor in state.items():
            assert torch.equal(tensor, after.state[part][name]), name
    assert not (bundle / BACKEND).exists()
    figures = read_card(bundle).figures
    changed = {name for name in figures if figures[name] != before.card.figures.get(name)}
    assert changed
    assert all(name.startswith("EER %") for name in changed)

    samples = np.random.default_rng(2).standard_normal(32_000).astype(np.float32)
    model = load_speaker_model(bundle)
    assert model.size == 4
    voice = embedder(bundle)([samples])[0]
    torch.testing.assert_close(
        torch.from_numpy(voice), torch.nn.functional.normalize(model.embed(samples), dim=0)
    )
    pipeline = load_pipeline("mini", "cpu")
    bare = embedder(resolve("mini"))([samples])
    np.testing.assert_array_equal(bare, embed(pipeline, [samples]))

    main(corpus, work, settings, bundle, stages="voices", workers=1)  # done already: the same again
    assert load_speaker_model(bundle).sha256 == model.sha256
    bare_settings = tmp_path / "bare.toml"
    bare_settings.write_text(SMALL)
    with pytest.raises(SettingsError, match=r"no table \[voices\]"):
        main(corpus, work, bare_settings, bundle, stages="voices", workers=1)
