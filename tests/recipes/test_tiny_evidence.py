"""The evidence is one table of measured figures, which the bundle's card keeps."""

import csv
import json
import shutil
import subprocess
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from pyannote.core import Annotation, Segment

from commands import Command
from small_prepared import Prepared, write_prepared
from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.checkpoints.card import read_card
from wavlm_meeting.checkpoints.catalog import embedded_models
from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.config import read_toml
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.errors import FormatError, SettingsError

pytest.importorskip("lightning", reason="the recipe needs the extra 'train'")

from wavlm_meeting.recipes.tiny import settings
from wavlm_meeting.recipes.tiny.evaluate import (
    EMBED_S,
    MIXED,
    Recording,
    by_source,
    embed,
    score_found,
    trials_errors,
)
from wavlm_meeting.recipes.tiny.evidence import (
    ROWS,
    evidence,
    parse_ablations,
    real_time_factor,
    tables,
)
from wavlm_meeting.recipes.tiny.figures import BY_BACKEND, SIMULATED, backend_figures
from wavlm_meeting.verification.load import load_speaker_model

PEOPLE = ("p225", "p226", "p227")
MEETING = "meetings/pyannote_sample.flac"
ABSENT = [
    form.format(name)
    for form in ("EER %, {}", BY_BACKEND)
    for name in ("trials_test_hard", "trials_test_cv")
]
"""Rows of lists that the small corpus lacks."""
SMALL = """
[encoder]
[evaluation]
speakers = [2]
conversations = 1
length_s = 6.0
overlap = [0.0, 1.0]
"""


@pytest.fixture(scope="module")
def corpus(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a corpus of three test speakers with a list of trials, a meeting; and it prepared."""
    source, folder = shared_dir / "corpus", tmp_path_factory.mktemp("evidence") / "corpus"
    paths = [
        file.relative_to(source).as_posix()
        for who in PEOPLE
        for file in sorted((source / "speech/vctk" / who).glob("*.opus"))[:3]
    ]
    for path in (*paths, MEETING):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source / path, folder / path)
    for kind in (".rttm", ".uem"):
        shutil.copy((source / MEETING).with_suffix(kind), folder / "meetings")
    with (source / "manifest.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["path"] in {*paths, MEETING}]
    with (folder / "manifest.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(rows)
    pairs = [(int(Path(a).parent == Path(b).parent), a, b) for a, b in combinations(paths, 2)]
    lines = "".join(f"{target} {a} {b}\n" for target, a, b in pairs)
    (folder / "trials_test.txt").write_text(lines)
    waves = {path: np.round(read_audio(folder / path) * 32767).astype(np.int16) for path in paths}
    spoken = [
        Prepared(wave, Path(path).parent.name, "vctk", "test") for path, wave in waves.items()
    ]
    others = [
        Prepared(one.samples, f"{split} {one.speaker}", "vctk", split)
        for split in ("train", "dev")
        for one in spoken
    ]
    write_prepared(folder.parent / "work", [*spoken, *others])
    (folder.parent / "small.toml").write_text(SMALL)
    return folder


def test_the_table_as_typed(corpus: Path) -> None:
    """One command prints a row for all that could be measured, and the card keeps the figures.

    The teachers' are those that the stage before it measured, a further bundle has its own table,
    and the weights are what they were.
    """
    pytest.importorskip("resemblyzer", reason="the teachers need the extra 'train'")
    folder = corpus.parent
    shutil.copytree(embedded_models()["tiny"], folder / "bundle")
    before = read_card(folder / "bundle")
    command = [sys.executable, "-m", "wavlm_meeting.recipes.tiny", "--corpus", "corpus"]
    command += ["--work", "work", "--settings", "small.toml", "--start", "bundle"]
    command += ["--stages", "channels,baseline,evidence", "--ablations", "same=tiny"]
    command += ["--workers", "1"]
    answer = subprocess.run(
        command,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr
    first, second = (part.splitlines() for part in answer.stdout.strip().split("\n\n"))
    assert first[0] == f"|  | teachers | tiny {before.version} | to reach |"
    cells = {row.split(" | ")[0][2:]: row.strip("| ").split(" | ") for row in first[2:]}
    assert list(cells) == [name for name in ROWS if name not in ABSENT]
    card = read_card(folder / "bundle")
    for name, (_, teachers, own, *_) in cells.items():
        assert float(own) == pytest.approx(card.figures[name], rel=1e-5)
        if f"teachers: {name}" in card.figures:
            assert float(teachers) == pytest.approx(card.figures[f"teachers: {name}"], rel=1e-5)
    assert cells[SIMULATED.format("test")][1] != f"{ROWS[SIMULATED.format('test')].teachers:g}"
    for row in second[2:]:
        name, own, same = row.strip("| ").split(" | ")
        assert own == same == f"{card.figures[f'same: {name}']:g}"
    assert len(second) == 2 + 5
    assert card.weights == before.weights
    assert (folder / "work" / "coded.npy").exists()


def test_errors_by_the_backend_are_those_of_verify(
    command: Command, corpus: Path, tmp_path: Path
) -> None:
    """Scores are those that the command gives; without a backend there is no such figure."""
    bundle = shutil.copytree(embedded_models()["mini"], tmp_path / "bundle")
    listed = corpus / "trials_test.txt"
    words = ["verify", "--trials", listed, "--root", corpus, "--out", "scores", "--model", bundle]
    answer = command(*words, "--json")
    assert answer.returncode == 0, answer.stderr
    own = backend_figures(bundle, corpus, ("trials_test", "trials_none"))
    assert own == {
        BY_BACKEND.format("trials_test"): round(100 * json.loads(answer.stdout)["eer"], 2)
    }
    (bundle / BACKEND).unlink()
    assert backend_figures(bundle, corpus, ("trials_test",)) == {}


def test_what_is_no_bundle_or_no_ablation_is_said(corpus: Path) -> None:
    """A missing bundle names the option, a malformed ablation the form."""
    chosen = read_toml(corpus.parent / "small.toml", settings.TinySettings)
    with pytest.raises(SettingsError, match="--start"):
        evidence(corpus, corpus.parent / "work", chosen, None)
    assert parse_ablations("a=x,b=y/z") == {"a": "x", "b": "y/z"}
    assert parse_ablations("") == {}
    for text in ("a", "=x", "a=", "a=x,a=y"):
        with pytest.raises(SettingsError, match="NAME=BUNDLE"):
            parse_ablations(text)


def test_a_table_leaves_empty_what_is_unknown() -> None:
    """Every figure stands in its row; without ablations there is one table."""
    (name, row), (other, _) = list(ROWS.items())[:2]
    text = tables("tiny 9", {name: 3.5, other: 1.0}, {name: 5.5}, {})
    assert text.splitlines() == [
        "|  | teachers | tiny 9 | to reach |",
        "|---|---|---|---|",
        f"| {name} | 5.5 | 3.5 | {row.bar:g} |",
        f"| {other} |  | 1 | {ROWS[other].bar:g} |",
    ]
    second = tables("tiny 9", {name: 3.5, other: 1.0}, {}, {"bare": {other: 2.0}})
    assert second.splitlines()[-3:] == [
        "|  | tiny 9 | bare |",
        "|---|---|---|",
        f"| {other} | 1 | 2 |",
    ]


def test_recordings_of_any_length_are_embedded_together_as_alone(shared_dir: Path) -> None:
    """A batch, padded, gives each recording the mean of what its pieces get in verification."""
    pipeline, model = load_pipeline("mini", "cpu"), load_speaker_model("mini")
    wave = read_audio(shared_dir / "corpus" / MEETING)[7 * 16_000 :]
    pieces = [wave[:6000], wave[:300_000], wave[40_000:91_200], wave[60_000:128_000]]
    units = embed(pipeline, pieces)
    window = int(EMBED_S * 16_000)
    for piece, unit in zip(pieces, units, strict=True):
        starts = range(0, max(1, len(piece) - 16_000), window)
        vectors = np.stack([model.embed(piece[start : start + window]) for start in starts])
        mean = np.mean(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), axis=0)
        assert unit == pytest.approx(mean / np.linalg.norm(mean), abs=1e-4)


def test_errors_of_trials_by_source(tmp_path: Path) -> None:
    """Within a source nothing of another counts; one without targets has no rate of its own."""
    degrees = {"a0": 0, "a1": 10, "a2": 80, "b0": 0, "b1": 80, "b2": 10, "c0": 0, "c1": 50}
    for number, name in enumerate(degrees):
        soundfile.write(tmp_path / f"{name}.wav", np.full(1600, number, np.int16), 16_000)
    rows = "".join(f"{name}.wav,{name[0]}\n" for name in degrees)
    (tmp_path / "manifest.csv").write_text(f"path,source\n{rows}")
    angles = np.radians([float(angle) for angle in degrees.values()])
    voices = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    def rates(*trials: str) -> dict[str, float]:
        text = "".join(
            f"{kind} {one}.wav {other}.wav\n" for kind, one, other in map(str.split, trials)
        )
        (tmp_path / "list.txt").write_text(text)
        return trials_errors(
            lambda waves: voices[[round(32768 * float(wave[0])) for wave in waves]],
            tmp_path,
            "list.txt",
        )

    alike, unlike = ("1 a0 a1", "0 a0 a2"), ("1 b0 b1", "0 b2 b0")
    found = rates(*unlike, *alike, "0 c0 c1", "0 a0 b0")
    assert {name: found[name] for name in found if name} == {"a": 0.0, "b": 1.0}
    assert 0 < found[""] < 1
    assert rates(*alike) == {"": 0.0}
    with pytest.raises(FormatError, match="both kinds"):
        rates("1 a0 a1")


def test_errors_of_conversations_by_source() -> None:
    """Seconds of a source's conversations are added before they are divided."""
    silent = np.zeros(1, np.float32)
    said = {"x": 10.0, "y": 30.0, "z": 5.0}
    sources = {"x": "a", "y": "a", "z": MIXED}
    recordings, found = [], []
    for name, seconds in said.items():
        reference, heard = Annotation(uri=name), Annotation(uri=name)
        reference[Segment(0.0, seconds)] = "speaker"
        if name != "x":
            heard[Segment(0.0, seconds)] = "1"
        recordings.append(Recording(name, silent, reference, sources[name]))
        found.append(heard)
    ders = by_source(recordings, score_found(recordings, found))
    assert ders == {"a": pytest.approx(0.25), MIXED: 0.0}


def test_speed_leaves_the_threads_as_they_were(corpus: Path) -> None:
    """The real-time factor is positive, and PyTorch has the threads that it had."""
    before, wave = torch.get_num_threads(), read_audio(corpus / MEETING)[8 * 16_000 : 12 * 16_000]
    assert real_time_factor(load_pipeline("tiny", "cpu"), wave) > 0
    assert torch.get_num_threads() == before
