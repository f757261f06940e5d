"""`wavlm-meeting verify` and `embed` on real people, as typed."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from commands import Command, assert_refused
from known_voices import MAN, STRANGER, WOMAN, recordings
from wavlm_meeting.checkpoints.catalog import embedded_models
from wavlm_meeting.formats.trials import read_scores
from wavlm_meeting.scoring.verification import equal_error_rate
from wavlm_meeting.verification.backend import BACKEND, load_backend, save_backend
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.verify import verify


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """Give `tiny` as a folder without a calibration."""
    folder = tmp_path / "plain"
    shutil.copytree(embedded_models()["tiny"], folder)
    (folder / BACKEND).unlink(missing_ok=True)
    return folder


@pytest.fixture
def small_list(command: Command, shared_dir: Path) -> list[str]:
    """Give the names of two recordings of three people each, below the command's folder."""
    names = []
    for person in (WOMAN, MAN, STRANGER):
        for file in recordings(shared_dir, person, 2):
            copy = command.folder / "audio" / person / file.name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, copy)
            names.append(f"{person}/{file.name}")
    return names


def test_a_pair(command: Command, shared_dir: Path, calibration: Path) -> None:
    """A pair is answered with score, probability and decision, as the Python function does."""
    one, other = (*recordings(shared_dir, WOMAN, 1), *recordings(shared_dir, MAN, 1))
    words = ["verify", one, other, "--backend", calibration]
    answer = command(*words)
    assert (answer.returncode, answer.stderr) == (0, "")
    lines = answer.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["cosine", "log-likelihood", "probability"]
    assert lines[2].endswith(": different speakers")
    found = json.loads(command(*words, "--json", "--prior", "0.2").stdout)
    expected = verify(one, other, backend=calibration, prior=0.2)
    assert found["llr"] == pytest.approx(expected.llr, abs=1e-3)
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-3)
    assert found["same_speaker"] is False


def test_without_calibration(command: Command, shared_dir: Path, plain: Path) -> None:
    """An uncalibrated model gives its score, and a note of where a probability comes from."""
    one, other = recordings(shared_dir, WOMAN, 2)
    answer = command("verify", one, other, "--model", plain)
    assert answer.returncode == 0
    assert len(answer.stdout.splitlines()) == 1
    assert answer.stderr.startswith("note: ")
    assert "no calibration" in answer.stderr


def test_a_calibration_beside_the_model_is_used(
    command: Command, shared_dir: Path, plain: Path, calibration: Path
) -> None:
    """The backend in a model's folder is found; one of another model is refused by name."""
    shutil.copy(calibration, plain / BACKEND)
    one, other = recordings(shared_dir, WOMAN, 2)
    answer = command("verify", one, other, "--model", plain, "--json")
    assert json.loads(answer.stdout)["same_speaker"] is True
    backend = load_backend(calibration)
    save_backend(plain / BACKEND, replace(backend, model_sha256="f" * 64))
    refused = command("verify", one, other, "--model", plain)
    assert_refused(refused, BACKEND, "ffffffffffff", "different models")


def test_a_list(command: Command, small_list: list[str], calibration: Path) -> None:
    """A list's scores are written in its order, and its error rates are those of the scores."""
    pairs = [(a, b) for a in small_list for b in small_list if a < b]
    targets = [a.split("/")[0] == b.split("/")[0] for a, b in pairs]
    lines = [f"{int(same)} {a} {b}\n" for (a, b), same in zip(pairs, targets, strict=True)]
    (command.folder / "list.txt").write_text("".join(lines))
    words = ["verify", "--trials", "list.txt", "--root", "audio", "--out", "scores.txt"]
    answer = command(*words, "--backend", calibration, "--json")
    assert (answer.returncode, answer.stderr) == (0, "")
    scores = read_scores(command.folder / "scores.txt")
    assert [tuple(scores.names[place] for place in pair) for pair in scores.pairs] == pairs
    found = json.loads(answer.stdout)
    assert (found["trials"], found["recordings"]) == (15, 6)
    assert found["eer"] == equal_error_rate(np.array(targets), scores.values)
    alone = verify(*(command.folder / "audio" / name for name in pairs[0]), backend=calibration)
    assert scores.values[0] == pytest.approx(alone.llr, abs=0.01)


def test_a_list_with_a_mistake_writes_nothing(command: Command, small_list: list[str]) -> None:
    """A recording that is missing is named, and no scores are written."""
    text = f"1 {small_list[0]} {small_list[1]}\n0 {small_list[0]} gone.opus\n"
    (command.folder / "list.txt").write_text(text)
    answer = command("verify", "--trials", "list.txt", "--root", "audio", "--out", "scores.txt")
    assert_refused(answer, "audio/gone.opus", "no such file")
    assert not (command.folder / "scores.txt").exists()


def test_embed(command: Command, small_list: list[str], silence: Path) -> None:
    """Embeddings are those of the model, by name; a silent file is a line, and left out."""
    files = [f"audio/{name}" for name in small_list[:2]]
    answer = command("embed", files[0], silence, files[1], "--out", "voices.npz")
    assert answer.returncode == 2
    assert answer.stdout == "voices.npz: 2 embeddings of 192 numbers.\n"
    assert (
        answer.stderr == f"error: {silence}: silent; check the microphone, or name another "
        "--channel.\n"
    )
    found = np.load(command.folder / "voices.npz")
    assert found["names"].tolist() == files
    model = load_speaker_model("tiny")
    assert str(found["model_sha256"]) == model.sha256
    for file, embedding in zip(files, found["embeddings"], strict=True):
        samples, _ = soundfile.read(command.folder / file, dtype="float32")
        np.testing.assert_allclose(embedding, model.embed(samples).numpy(), rtol=1e-3, atol=2e-3)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["verify", "a.wav"], ["two recordings"]),
        (["verify", "a.wav", "b.wav", "--out", "x"], ["two recordings"]),
        (["verify", "--trials", "list.txt"], ["--out"]),
        (["verify", "a.wav", "b.wav", "--trials", "list.txt", "--out", "x"], ["without A and B"]),
        (["verify", "--trials", "gone.txt", "--out", "x"], ["gone.txt", "no such file"]),
        (["verify", "good.wav", "good.wav", "--prior", "1"], ["prior of 1", "0.5"]),
        (["verify", "good.wav", "good.wav", "--backend", "gone"], ["gone", "no such file"]),
        (["verify", "good.wav", "short.wav"], ["short.wav", "of speech"]),
        (["embed", "good.wav", "--out", "x.npy"], ["x.npy", ".npz"]),
        (["embed", "good.wav", "--out", "gone/x.npz"], ["no such folder"]),
    ],
)
def test_mistakes(words: list[str], says: list[str], command: Command, shared_dir: Path) -> None:
    """Each mistake is one line with its cure, and nothing is written."""
    samples, rate = soundfile.read(recordings(shared_dir, WOMAN, 1)[0])
    loud = int(np.argmax(np.abs(samples)))
    soundfile.write(command.folder / "good.wav", samples, rate)
    soundfile.write(command.folder / "short.wav", samples[loud : loud + rate // 5], rate)
    before = sorted(command.folder.iterdir())
    assert_refused(command(*words), *says)
    assert sorted(command.folder.iterdir()) == before
