"""The recipe of the embedded model runs from a corpus to a bundle that diarizes."""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from wavlm_meeting.config import read_toml
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.recipes.tiny import collection, conversations, prepare, settings
from wavlm_meeting.wavlm.config import WavLMConfig

pytest.importorskip("speechbrain", reason="training needs the extra 'train'")
pytest.importorskip("silero_vad", reason="training needs the extra 'train'")

SHIPPED = Path(settings.__file__).with_name("tiny.toml")
SMALL = """
seed = 3
[encoder]
conv_layers = [[32, 400, 160], [16, 3, 2]]
frontend_norm = "layer"
normalize_waveform = true
width = 32
layers = 1
heads = 2
ffn = 32
pre_norm = true
position_kernel = 16
position_groups = 2
[data]
window_s = 4.0
batch = 2
speaker_shares = [0.5, 0.5]
[task]
steps = 3
[evaluation]
speakers = [2]
conversations = 1
length_s = 12.0
overlap = [0.0, 1.0]
[diarization]
window_s = 4.0
hop_s = 2.0
"""


@pytest.fixture(scope="module")
def corpus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a corpus of a few files: three speakers in each split, two utterances each, a noise."""
    source, small = shared_dir / "corpus", tmp_path_factory.mktemp("corpus")
    with (source / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    kept: list[dict[str, str]] = []
    for split in ("train", "dev", "test"):
        own = [r for r in rows if r["split"] == split and r["source"] == "commonvoice"]
        names = list(dict.fromkeys(row["speaker"] for row in own))
        several = [n for n in names if sum(r["speaker"] == n for r in own) > 1][:3]
        for name in several:
            kept += [row for row in own if row["speaker"] == name][:2]
        kept += [r for r in rows if r["split"] == split and r["source"] == "esc10"][:1]
    for row in kept:
        target = small / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / row["path"], target)
    with (small / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(kept)
    return small


def test_from_corpus_to_a_bundle_that_diarizes(corpus: Path, tmp_path: Path) -> None:
    """All stages run as typed; the second call goes on where the first stopped."""
    pytest.importorskip("resemblyzer", reason="the teacher needs the extra 'train'")
    (tmp_path / "small.toml").write_text(SMALL)
    command = [sys.executable, "-m", "wavlm_meeting.recipes.tiny", "--corpus", str(corpus)]
    command += ["--work", "work", "--settings", "small.toml", "--target", "out"]
    for stages in ("prepare,train", "prepare,train,export,baseline"):
        answer = subprocess.run(
            [*command, "--stages", stages],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stderr
    assert "from step 3" in answer.stderr
    assert re.search(r"baseline: test: DER \d+\.\d\d %", answer.stderr)
    pipeline = load_pipeline(str(tmp_path / "out"), "cpu")
    assert pipeline.settings.window_s == 4.0
    noise = np.random.default_rng(0).standard_normal(64_000).astype(np.float32)
    assert pipeline(0.1 * noise).duration_s == 4.0


def test_speech_spans_follow_the_hysteresis() -> None:
    """Speech starts at 0.5, outlives short dips, ends after 0.2 s below 0.35; blips are dropped."""
    p = np.array([0.4] * 4 + [0.9] * 8 + [0.1] * 4 + [0.4] * 3 + [0.0] * 10 + [0.9] * 2 + [0.0] * 9)
    spans = prepare.speech_spans(p, 512 * len(p))
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


def test_the_shipped_settings_are_the_shipped_model() -> None:
    """`tiny.toml` describes the encoder that is inside the package."""
    pipeline = load_pipeline("tiny", "cpu")
    shipped = read_toml(SHIPPED, settings.TinySettings)
    assert pipeline.encoder.config == WavLMConfig.model_validate(shipped.encoder.model_dump())
    assert pipeline.settings.head_sizes() == shipped.diarization.head_sizes()
