"""Embedding many recordings: each as if alone, in order, bad ones left out and named."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from known_voices import MAN, WOMAN, recordings
from wavlm_meeting.audio import read_audio
from wavlm_meeting.errors import AudioError, AudioWarning
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.model import SpeakerModel
from wavlm_meeting.verification.recordings import BATCH_S, batches, embed_recordings
from wavlm_meeting.verification.speech import speech_of

RATE = 16_000


@pytest.fixture(scope="module")
def model() -> SpeakerModel:
    """Give the embedded model."""
    return load_speaker_model("tiny")


@pytest.fixture(scope="module")
def mixed(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Give recordings of all lengths, one of them longer than is embedded at once."""
    files = recordings(shared_dir, WOMAN, 5)
    short = sorted((shared_dir / "corpus/speech/speech_commands").glob("*/*.opus"))[:1]
    long = tmp_path_factory.mktemp("long") / "long.wav"
    soundfile.write(long, np.concatenate([read_audio(file) for file in files] * 2), RATE)
    return [*files[:3], long, *recordings(shared_dir, MAN, 4), *short]


def test_each_as_if_alone(model: SpeakerModel, mixed: list[Path]) -> None:
    """In batches with others, in the list's order, each file has the embedding it has alone."""
    found = embed_recordings(model, mixed)
    for file, embedding, speech_s in zip(mixed, found.embeddings, found.speech_s, strict=True):
        samples = read_audio(file)
        np.testing.assert_allclose(embedding, model.embed(samples).numpy(), rtol=1e-3, atol=2e-3)
        assert speech_s == speech_of(samples).seconds


def test_channels(model: SpeakerModel, mixed: list[Path], tmp_path: Path) -> None:
    """A channel that is named is heard alone."""
    one, other = (read_audio(file)[: 3 * RATE] for file in (mixed[0], mixed[-2]))
    stereo = tmp_path / "stereo.wav"
    soundfile.write(stereo, np.stack([one, other], axis=1), RATE, subtype="FLOAT")
    found = embed_recordings(model, [stereo], channel=2)
    np.testing.assert_allclose(found.embeddings[0], model.embed(other).numpy(), atol=1e-3)


def test_bad_files_stop_no_other(
    model: SpeakerModel, mixed: list[Path], silence: Path, tmp_path: Path
) -> None:
    """Bad files are reported by their place, each once; the others keep their order."""
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF and nothing more")
    files = [silence, mixed[0], tmp_path / "gone.wav", mixed[-2], broken]
    lost: list[tuple[int, str]] = []
    found = embed_recordings(
        model, files, failed=lambda index, error: lost.append((index, str(error)))
    )
    assert sorted(index for index, _ in lost) == [0, 2, 4]
    assert all(str(files[index]) in line for index, line in lost)
    expected = embed_recordings(model, [mixed[0], mixed[-2]])
    np.testing.assert_allclose(found.embeddings, expected.embeddings, atol=2e-3)
    with pytest.raises(AudioError, match=r"gone\.wav"):
        embed_recordings(model, files)


def test_lists_take_what_is_short(model: SpeakerModel, mixed: list[Path], tmp_path: Path) -> None:
    """Too little speech is an error, or a warning where a list must be whole."""
    short = tmp_path / "short.wav"
    samples = read_audio(mixed[0])
    loud = int(np.argmax(np.abs(samples)))
    soundfile.write(short, samples[loud : loud + RATE // 5], RATE)
    with pytest.raises(AudioError, match=r"short\.wav: 0\.\d+ s of speech"):
        embed_recordings(model, [short])
    with pytest.warns(AudioWarning, match=r"short\.wav: 0\.\d+ s of speech"):
        assert embed_recordings(model, [short], enough=False).embeddings.shape == (1, model.size)


def test_progress_ends_at_the_end(model: SpeakerModel, mixed: list[Path]) -> None:
    """Progress grows to the length of all recordings."""
    steps: list[tuple[float, float | None]] = []
    embed_recordings(model, mixed[:3], progress=lambda *step: steps.append(step))
    total = sum(len(read_audio(file)) for file in mixed[:3]) / RATE
    assert steps == sorted(steps)
    assert steps[-1] == pytest.approx((total, total), abs=0.01)


def test_batches_are_bounded() -> None:
    """Batches hold every recording once, padded to no more than a minute unless one is longer."""
    seconds = np.random.default_rng(0).exponential(8.0, 500)
    seconds[7] = 3600.0
    found = list(batches(seconds))
    assert sorted(index for batch in found for index in batch) == list(range(500))
    for batch in found:
        assert len(batch) == 1 or len(batch) * seconds[batch].max() <= BATCH_S
    assert sum(len(batch) * seconds[batch].max() for batch in found) < 1.1 * seconds.sum()
