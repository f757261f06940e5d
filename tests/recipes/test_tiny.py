"""The recipe of the embedded model runs from a corpus to a bundle that diarizes."""

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from small_tiny import SMALL, lay_out
from wavlm_meeting.config import read_toml
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.diarization.loss import conversation_activities
from wavlm_meeting.recipes.tiny import (
    collection,
    conversations,
    data,
    meetings,
    prepare,
    settings,
    teachers,
)
from wavlm_meeting.separation.load import load_separator

pytest.importorskip("speechbrain", reason="training needs the extra 'train'")
pytest.importorskip("silero_vad", reason="training needs the extra 'train'")

SHIPPED = Path(settings.__file__).with_name("tiny.toml")


@pytest.fixture(scope="module")
def corpus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a corpus of a few files."""
    return lay_out(shared_dir, tmp_path_factory.mktemp("corpus"))


def test_from_corpus_to_a_bundle_that_diarizes(corpus: Path, tmp_path: Path) -> None:
    """All stages run as typed; the second call goes on where the first stopped.

    A bundle gets settings anew without being trained: its weights stay what they are.
    """
    pytest.importorskip("resemblyzer", reason="the teacher needs the extra 'train'")
    (tmp_path / "small.toml").write_text(SMALL)
    command = [sys.executable, "-m", "wavlm_meeting.recipes.tiny", "--corpus", str(corpus)]
    command += ["--work", "work", "--settings", "small.toml", "--target", "out"]
    every = "prepare,pretrain,train,separate,export,baseline"
    for stages in ("prepare,pretrain,train", every):
        answer = subprocess.run(
            [*command, "--stages", stages],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
    assert "from step 3" in answer.stderr
    assert "separate: 2 updates" in answer.stderr
    assert re.search(r"baseline: test: DER \d+\.\d\d %", answer.stderr)
    assert load_separator(str(tmp_path / "out"), "cpu").settings.width == 16
    pipeline = load_pipeline(str(tmp_path / "out"), "cpu")
    assert pipeline.settings.window_s == 4.0
    noise = np.random.default_rng(0).standard_normal(64_000).astype(np.float32)
    assert pipeline(0.1 * noise).duration_s == 4.0
    (tmp_path / "anew.toml").write_text(SMALL.replace("hop_s = 2.0", "hop_s = 1.0"))
    again = ["--settings", "anew.toml", "--target", "anew", "--start", "out", "--stages", "export"]
    subprocess.run([*command, *again], cwd=tmp_path, capture_output=True, check=True)
    anew = load_pipeline(str(tmp_path / "anew"), "cpu")
    assert (anew.sha256, anew.settings.hop_s) == (pipeline.sha256, 1.0)
    again = ["--settings", "anew.toml", "--start", "out", "--stages", "train"]
    answer = subprocess.run(
        [*command, *again], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    fitted = re.search(r"map to the teacher from (\d+) voices", answer.stderr)
    assert fitted, answer.stderr
    assert int(fitted[1]) > 10


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("--corpus nowhere --stages prepare", "nowhere/manifest.csv: No such file"),
        ("--corpus . --settings wrong.toml", "batches"),
        ("--corpus . --stages train", "run the stage 'prepare' first"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, arguments: str, told: str) -> None:
    """It names the cure, the exit status is 2, and nothing is left behind."""
    (tmp_path / "wrong.toml").write_text(SMALL.replace("batch = 2", "batches = 2", 1))
    command = [sys.executable, "-W", "ignore", "-m", "wavlm_meeting.recipes.tiny", "--work", "work"]
    answer = subprocess.run(
        [*command, *arguments.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert line.startswith("error: ")
    assert told in line
    assert not any((tmp_path / "work").rglob("*.np[yz]"))


def test_speech_spans_follow_the_hysteresis() -> None:
    """Speech starts at 0.5, outlives short dips, ends after 0.2 s below 0.35; blips are dropped."""
    p = np.array([0.4] * 4 + [0.9] * 8 + [0.1] * 4 + [0.4] * 3 + [0.0] * 10 + [0.9] * 2 + [0.0] * 9)
    spans = teachers.speech_spans(p, 512 * len(p))
    assert spans.tolist() == [[4 * 512, 19 * 512]]


def test_splits_do_not_share_speakers(corpus: Path) -> None:
    """Nobody who is trained on is reported on."""
    rows = prepare.read_manifest(corpus)
    speakers = {
        split: {r.speaker for r in rows if r.split == split and r.kind == "speech"}
        for split in ("train", "dev", "test")
    }
    assert all(speakers.values())
    assert not speakers["train"] & (speakers["dev"] | speakers["test"])
    assert not speakers["dev"] & speakers["test"]


def test_the_reported_set_is_what_it_says(tmp_path: Path) -> None:
    """Each number of speakers, overlap within bounds, and the same set every time."""
    rng = np.random.default_rng(0)
    count, length = 24, 48_000
    samples = (rng.standard_normal(count * length) * 2000).astype(np.int16)
    np.save(tmp_path / "samples.npy", samples)
    np.savez(
        tmp_path / "utterances.npz",
        path=np.array([f"{n}.wav" for n in range(count)]),
        speaker=np.array([f"speaker {n // 3}" for n in range(count)]),
        source=np.array(["a", "b"] * (count // 2)),
        split=np.array(["test"] * count),
        kind=np.array(["speech"] * count),
        start=np.arange(count) * length,
        length=np.full(count, length),
        span_count=np.ones(count, int),
        spans=np.array([[0, length]] * count),
        teacher=np.zeros((count, 256), np.float32),
    )
    wanted = read_toml(SHIPPED, settings.TinySettings).evaluation.model_copy(
        update={"conversations": 1, "length_s": 60.0, "speakers": (2, 3)}
    )
    found = collection.load_collection(tmp_path, "test")
    plans = conversations.draw_set(found, wanted)
    assert [len(plan.speakers) for plan in plans] == [2, 3]
    assert plans == conversations.draw_set(found, wanted)
    for plan in plans:
        assert wanted.overlap[0] <= conversations.overlap_share(plan) <= wanted.overlap[1]
    for (_, waveform, reference), plan in zip(
        conversations.rendered(found, plans), plans, strict=True
    ):
        assert len(waveform) == plan.length
        assert len(reference.labels()) == len(plan.speakers)


def test_solo_speech_and_pauses_of_a_meeting() -> None:
    """Alone is alone, and a pause keeps its distance from every word."""
    second = 16_000
    turns = {
        "a": np.array([[second, 3 * second]]),
        "b": np.array([[2 * second, 4 * second], [8 * second, 9 * second]]),
    }
    assert meetings.alone(turns, "a", 10 * second).tolist() == [[second, 2 * second]]
    assert meetings.alone(turns, "b", 10 * second).tolist() == [
        [3 * second, 4 * second],
        [8 * second, 9 * second],
    ]
    margin = int(meetings.PAUSE_MARGIN_S * second)
    assert meetings.pauses(turns, 10 * second).tolist() == [
        [4 * second + margin, 8 * second - margin]
    ]


@pytest.mark.parametrize("in_a_row", [1, 3])
def test_windows_of_a_meeting_follow_its_turns(tmp_path: Path, in_a_row: int) -> None:
    """A training window of a real recording is loud, and says who speaks, where its turns are.

    Windows in a row are one stretch of it: nobody's only turn falls into two.
    """
    second, rng = 16_000, np.random.default_rng(0)
    said = np.zeros((2, 20 * second), bool)
    said[0, 3 * second : 8 * second] = True
    said[1, 10 * second : 16 * second] = True
    loud = rng.standard_normal(20 * second) * np.where(said.any(axis=0), 3000, 3)
    np.save(tmp_path / "samples.npy", loud.astype(np.int16))
    np.savez(
        tmp_path / "utterances.npz",
        path=np.array(["m.wav"] * 2),
        speaker=np.array(["a", "b"]),
        source=np.array(["", ""]),
        split=np.array(["train"] * 2),
        kind=np.array(["meeting"] * 2),
        start=np.zeros(2, int),
        length=np.full(2, 20 * second),
        span_count=np.ones(2, int),
        spans=np.array([[3 * second, 8 * second], [10 * second, 16 * second]]),
        teacher=np.eye(2, 256, dtype=np.float32),
    )
    found = collection.load_collection(tmp_path, "train")
    shipped = read_toml(SHIPPED, settings.TinySettings)
    plain = shipped.data.conversation.model_copy(update={"room": 0.0, "telephone": 0.0})
    chosen = shipped.data.model_copy(
        update={
            "meetings": 1.0,
            "batch": 9,
            "conversation": plain,
            "conversation_windows": 3,
            "in_a_row": in_a_row,
        }
    )
    batch = data.WindowBatches(found, chosen, shipped.encoder, 4, seed=1).batch(0)
    hop = shipped.encoder.hop
    voices = set()
    for waveform, activities, teacher in zip(
        batch.waveforms, batch.activities, batch.teacher, strict=True
    ):
        frames = waveform[: len(activities) * hop].reshape(-1, hop).square().mean(dim=1)
        active = activities.sum(dim=1) > 0
        inner = active[1:-1] & active[:-2] & active[2:]
        silent = ~(active[1:-1] | active[:-2] | active[2:])
        if inner.any() and silent.any():
            assert frames[1:-1][inner].min() > 10 * frames[1:-1][silent].max()
        voices |= {int(row.argmax()) for row in teacher if row.any()}
    assert voices == {0, 1}
    if in_a_row > 1:
        joined = conversation_activities(batch.activities, batch.voices, 3, 2)  # (3, 3 * T, 2)
        begins = (joined.diff(dim=1) > 0).sum(dim=1) + joined[:, 0]
        assert joined.any(dim=1).sum() >= 3
        assert begins.max() == 1
