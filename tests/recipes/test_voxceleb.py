"""The recipe of speaker verification, from folders to the table, scaled down."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from commands import Command, assert_refused
from small_voxceleb import BACKEND_ALONE, small_corpus
from wavlm_meeting.audio import read_audio
from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.config import read_toml
from wavlm_meeting.errors import SettingsError

pytest.importorskip("lhotse", reason="recipes need the extra 'train'")
pytest.importorskip("lightning", reason="recipes need the extra 'train'")
pytest.importorskip("resemblyzer", reason="the baseline needs the extra 'train'")
pytest.importorskip("torchaudio", reason="MFCC need the extra 'train'")

from sklearn.metrics import roc_curve

import wavlm_meeting.recipes.voxceleb as package
from wavlm_meeting.recipes.voxceleb.recipe import run
from wavlm_meeting.recipes.voxceleb.settings import VoxCelebSettings
from wavlm_meeting.recipes.voxceleb.small import lay_out
from wavlm_meeting.recipes.voxceleb.table import PUBLISHED, table
from wavlm_meeting.recipes.voxceleb.train import keep_share
from wavlm_meeting.scoring.verification import VerificationScore
from wavlm_meeting.training.log import read_log
from wavlm_meeting.verification.backend import backend_of, load_backend
from wavlm_meeting.verification.load import load_speaker_model

SETTINGS = """
name = "few-voices"
encoder = "tiny"
baselines = true
resamples = 20
[data]
held_out = 4
workers = 1
lists = {dev = "trials_dev_cv.txt", test = "trials_test_cv.txt", H = "list_test_hard2.txt"}
[model.ecapa]
channels = 16
aggregated = 24
squeezed = 8
attention = 8
embedding = 12
[training.batches]
speakers = 4
utterances = 2
crop_s = 1.0
speeds = [1.0, 1.1]
[training.task]
steps = 8
teacher_weight = 1.0
pair_weight = 1.0
[training.trainer]
workers = 0
log_steps = 1
checkpoint_steps = 1
[frozen]
[joint.task]
freeze_encoder = false
[large_margin.task]
freeze_encoder = false
margin = 0.5
[large_margin.batches]
crop_s = 2.0
[cohort]
speakers = 5
utterances = 2
[calibration]
recordings = 4
trials = 300
"""
FBANK = """
encoder = "fbank"
resamples = 0
[data]
held_out = 4
workers = 1
lists = {test = "trials_test_cv.txt"}
[model]
features = "fbank"
instance_norm = false
[model.ecapa]
channels = 16
aggregated = 24
squeezed = 8
attention = 8
embedding = 12
padding = "reflect"
context = true
[joint]
seed = 2
[joint.augmentation]
untouched = 1.0
[joint.task]
steps = 60
learning_rate = 5e-3
[joint.batches]
speakers = 6
crop_s = 1.0
cache = true
[joint.trainer]
workers = 0
log_steps = 10
[cohort]
speakers = 5
utterances = 1
[calibration]
recordings = 2
trials = 200
"""
STAGES = (
    *("prepare", "teacher", "train", "large-margin", "export", "cohort", "calibrate"),
    *("baselines", "test"),
)


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, shared_dir: Path) -> Path:
    """Lay out a few speakers of the corpus as VoxCeleb."""
    folder = tmp_path_factory.mktemp("voxceleb")
    lay_out(small_corpus(folder / "corpus", shared_dir / "corpus"), folder / "tree", workers=1)
    return folder / "tree"


def test_from_folders_to_the_table(
    command: Command, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All stages, as typed: a model that loads, with a backend of its own, and the table."""
    (command.folder / "few.toml").write_text(SETTINGS)
    words = ("recipe", "run", "voxceleb", "--data", tree, "--out", "work", "--settings", "few.toml")
    answer = command(*words)
    assert answer.returncode == 0, answer.stderr
    notes = [line.removeprefix("note: ") for line in answer.stderr.splitlines()]
    assert [line for line in notes if line.endswith(": running")] == [
        f"{stage}: running" for stage in STAGES
    ]
    assert any("no list_test_hard2.txt" in line for line in notes)

    work = command.folder / "work"
    model = load_speaker_model(work / "model")
    backend = load_backend(backend_of(work / "model") or "", model.sha256)
    assert backend.cohort is not None
    assert backend.cohort.shape == (5, model.size) == (5, 12)
    assert backend.calibration is not None

    found = json.loads((work / "results/results.json").read_text())
    assert found.keys() == {"cosine", "s-norm", "calibrated"}
    lines = (work / "results/results.md").read_text().splitlines()
    for name, file in (("dev", "trials_dev_cv.txt"), ("test", "trials_test_cv.txt")):
        trials = [line.split() for line in (tree / file).read_text().splitlines()]
        scored = [
            line.split() for line in (work / f"results/cosine/{name}.txt").read_text().splitlines()
        ]
        assert [line[:2] for line in scored] == [line[1:] for line in trials]
        expected = _cosine(model, tree, *trials[0][1:])
        assert float(scored[0][2]) == pytest.approx(expected, abs=1e-4)
        targets = [line[0] == "1" for line in trials]
        false, hits, _ = roc_curve(targets, [float(line[2]) for line in scored])
        eer = float(np.interp(0.0, false - (1 - hits), false))
        assert found["cosine"][name]["eer"] == pytest.approx(eer)
        assert (work / f"results/{name}.png").is_file()
    titles = lines[0].split(" | ")
    assert titles[1:] == ["dev", "test |"]
    systems = [line.split(" | ")[0] for line in lines[2:8]]
    assert systems == [
        *("| cosine", "| s-norm", "| calibrated"),
        *("| Resemblyzer", "| Resemblyzer without preprocessing", "| MFCC"),
    ]

    caplog.set_level("INFO")
    again = partial(run, tree, work, str(command.folder / "few.toml"))
    again()
    assert [line for line in caplog.messages if "running" in line] == []
    assert sum("unchanged, passed over" in line for line in caplog.messages) == len(STAGES)
    # Other trials to calibrate on: what comes before stays, and what comes after is not wanted.
    changed = SETTINGS.replace("trials = 300", "trials = 200")
    (command.folder / "few.toml").write_text(changed)
    again("calibrate")
    assert [line for line in caplog.messages if "running" in line] == ["calibrate: running"]


def _cosine(model: torch.nn.Module, tree: Path, *names: str) -> float:
    """Compare two recordings one by one."""
    one, other = (model.embed(read_audio(tree / "vox1/wav" / name)) for name in names)
    return float(torch.cosine_similarity(one, other, dim=0))


def test_a_filterbank_instead_of_an_encoder(tree: Path, tmp_path: Path) -> None:
    """The baseline goes the same way; its model is one that loads."""
    (tmp_path / "fbank.toml").write_text(FBANK)
    run(tree, tmp_path / "out", str(tmp_path / "fbank.toml"))
    log = read_log(tmp_path / "out/joint")
    assert log[-1]["loss/classes"] < log[0]["loss/classes"]
    assert load_speaker_model(tmp_path / "out/model").size == 12
    assert "| calibrated |" in (tmp_path / "out/results/results.md").read_text()
    assert not (tmp_path / "out/results/baselines").exists()


def test_settings_that_do_not_fit(tree: Path, tmp_path: Path) -> None:
    """Nothing to train, a filterbank to freeze, two teachers; each is one line."""

    def refused(text: str, says: str, encoder: str | None = None) -> None:
        (tmp_path / "bad.toml").write_text(text)
        with pytest.raises(SettingsError, match=says) as caught:
            run(tree, tmp_path / "out", str(tmp_path / "bad.toml"), encoder=encoder)
        assert "\n" not in str(caught.value)
        assert not (tmp_path / "out").exists()

    refused("resamples = 3", "give a table frozen or joint")
    refused("[frozen]\n[training.task]\nstepps = 3", "'frozen.task.stepps': did you mean 'steps'")
    refused(FBANK + "[frozen]\n", "a filterbank has nothing to freeze")
    refused(SETTINGS, "but the model is on wavlm", encoder="fbank")
    refused(FBANK, "but the model is on fbank", encoder="tiny")
    speeds = SETTINGS.replace("[large_margin.batches]", "[large_margin.batches]\nspeeds = [1.0]")
    refused(speeds, "hear different speeds")
    with pytest.raises(SettingsError, match="large, small, small_joint, small_mini"):
        run(tree, tmp_path / "out", "huge")
    (tmp_path / "good.toml").write_text(SETTINGS)
    with pytest.raises(SettingsError, match=r"no stage 'tune': .*train, large-margin"):
        run(tree, tmp_path / "out", str(tmp_path / "good.toml"), "tune")
    refused('[frozen]\n[data.lists]\n"a/b" = "x.txt"', "data.lists.a/b")


def test_a_model_gets_a_backend_as_it_is(tree: Path, tmp_path: Path) -> None:
    """Without a training, `start` is left alone, and what is written belongs to it alone."""
    (tmp_path / "back.toml").write_text(BACKEND_ALONE)
    before = {path: path.read_bytes() for path in sorted(resolve("tiny").iterdir())}
    run(tree, tmp_path / "out", str(tmp_path / "back.toml"))
    assert {path: path.read_bytes() for path in sorted(resolve("tiny").iterdir())} == before
    assert [path.name for path in (tmp_path / "out/model").iterdir()] == ["backend.safetensors"]
    backend = load_backend(tmp_path / "out/model/backend.safetensors", load_speaker_model().sha256)
    assert backend.whitening is not None
    assert backend.calibration is not None
    figures = json.loads((tmp_path / "out/results/results.json").read_text())
    assert list(figures) == ["cosine", "whitened", "s-norm", "calibrated"]


def test_a_share_of_the_cohort_is_heard_through_a_telephone(tree: Path, tmp_path: Path) -> None:
    """The others are heard as they were, and a backend is fitted to calls as well."""
    called = "telephone = 0.5\n[calibration]\ntelephone = true"
    calls = BACKEND_ALONE.replace("[calibration]", called)
    cohorts = []
    for number, settings in enumerate((BACKEND_ALONE, calls)):
        (tmp_path / "back.toml").write_text(settings)
        out = tmp_path / f"out{number}"
        run(tree, out, str(tmp_path / "back.toml"), "prepare..calibrate")
        assert load_backend(out / "model/backend.safetensors").calibration is not None
        cohorts.append(np.load(out / "cohort.npy"))
    same = (cohorts[0] * cohorts[1]).sum(axis=1) > 0.9999
    assert (same.sum(), len(same)) == (3, 7)


def test_a_share_of_the_start_is_kept() -> None:
    """The weights lie between the two models', at the share of the way."""
    model, before = load_speaker_model(), load_speaker_model()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    keep_share(model, before, 0.75)
    old = before.state_dict()
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight.detach(), old[name] + 0.25, atol=1e-5, rtol=1e-5)


def test_mistakes_as_typed(command: Command) -> None:
    """No corpus, and an encoder where there is none to choose."""
    (command.folder / "empty").mkdir()
    answer = command("recipe", "run", "voxceleb", "--data", "empty", "--out", "work")
    assert answer.returncode == 2
    assert answer.stderr.splitlines()[-1].startswith("error: empty: no VoxCeleb here")
    other = ("recipe", "run", "mix94k", "--data", "empty", "--out", "work", "--encoder", "tiny")
    assert_refused(command(*other), "--encoder is for voxceleb")


def test_the_shipped_settings() -> None:
    """They are read; the method of `large` is the published one, and the others follow it."""
    folder = Path(package.__path__[0])
    large, plus, fbank, small, small_mini, joint_of_small = (
        read_toml(folder / f"{name}.toml", VoxCelebSettings)
        for name in ("large", "base_plus", "fbank", "small", "small_mini", "small_joint")
    )
    assert list(large.trainings()) == ["frozen", "joint", "large_margin"]
    assert large.data.train == ("vox2-dev",)
    assert list(large.data.lists) == ["O", "E", "H"]
    assert (large.model.ecapa.channels, large.model.ecapa.embedding) == (512, 256)
    assert (large.backend.top, large.cohort.speakers) == (300, 3000)
    frozen, joint, last = large.trainings().values()
    assert frozen.task.freeze_encoder
    assert (frozen.task.margin, frozen.task.scale, frozen.batches.crop_s) == (0.2, 32.0, 3.0)
    assert (frozen.task.top_k, frozen.task.top_k_margin) == (5, 0.1)
    assert frozen.task.margin_rise == (0.1, 0.1)  # 2 of 20 passes without a margin
    assert frozen.augmentation.untouched == 0.4
    assert not joint.task.freeze_encoder
    assert (last.task.margin, last.batches.crop_s, last.task.top_k) == (0.5, 6.0, 0)
    assert frozen.batches.speeds == (1.0, 0.9, 1.1)
    assert plus.trainings()["joint"].batches == joint.batches
    assert list(fbank.trainings()) == ["joint", "large_margin"]
    assert (small.start, small.trainings(), small.baselines) == ("tiny", {}, True)
    assert list(joint_of_small.trainings()) == ["joint"]
    assert joint_of_small.taught()[:3] == (1.0, 0.9, 1.1)
    assert joint_of_small.data == small.data
    assert (small_mini.start, small_mini.trainings()) == ("mini", {})
    assert small_mini.calibration == small.calibration
    assert small_mini.backend.whitening == joint_of_small.backend.whitening


def test_the_table_has_published_figures_beside() -> None:
    """Figures stand in their columns; a list that nobody published has no published figure."""
    own = VerificationScore(3, 5, 0.0125, 0.1, 0.2, 0.3, 0.25, {"eer": (0.01, 0.02)})
    lines = table({"calibrated": {"H": own, "mine": own}}).splitlines()
    assert lines[0] == "| EER, % | H | mine |"
    assert lines[2] == "| calibrated | 1.25 (1.00 to 2.00) | 1.25 (1.00 to 2.00) |"
    assert len(lines[3 : 3 + len(PUBLISHED)]) == 5
    assert lines[6] == "| published: WavLM Large, tuned | 1.176 |  |"
    assert lines[-1] == "| mine | calibrated | 8 | 0.100 | 0.200 | 0.300 | 0.250 |"
    assert "published" not in table({"cosine": {"mine": own}})
