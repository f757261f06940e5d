"""The recipe of meetings, from AMI's layout to the table, scaled down."""

import csv
from pathlib import Path

import pytest

from commands import Command
from wavlm_meeting.config import read_toml
from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.formats.rttm import read_rttm

pytest.importorskip("lhotse", reason="recipes need the extra 'train'")
pytest.importorskip("lightning", reason="recipes need the extra 'train'")
pytest.importorskip("speechbrain", reason="recipes need the extra 'train'")

import wavlm_meeting.recipes.ami as package
from wavlm_meeting.recipes.ami.recipe import run
from wavlm_meeting.recipes.ami.settings import DISTANT, HEADSET, AmiSettings
from wavlm_meeting.recipes.ami.small import lay_out
from wavlm_meeting.recipes.ami.table import table
from wavlm_meeting.recipes.diarization import Prepared
from wavlm_meeting.training.diarization_recordings import read_conversations

SETTINGS = """
name = "few-meetings"
start = "tiny"
workers = 1
[train.task]
steps = 2
teacher_weight = 0.0
class_weight = 0.05
[train.batches]
conversations = 2
windows = 2
window_s = 2.0
simulated = 0.5
named = true
speaker_shares = [0.5, 0.5]
[train.trainer]
checkpoint_steps = 1
log_steps = 1
workers = 0
[tuning]
grids = [{threshold = [0.6], onset = [0.4]}]
"""


@pytest.fixture(scope="module")
def tree(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay the meetings of the shared corpus out as AMI, with a little speech and noise."""
    corpus, small = shared_dir / "corpus", tmp_path_factory.mktemp("corpus")
    with (corpus / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    meetings = [row for row in rows if row["source"] == "ami_pyannote_tests"]
    chosen = {  # two meetings to train on, and one to choose on and to test on
        name: [row["path"] for row in meetings if row["split"] == name][:2]
        for name in ("train", "dev", "test")
    }
    several = [row for row in rows if row["split"] == "train" and row["source"] == "commonvoice"]
    voices = sorted({row["speaker"] for row in several})[:3]
    kept = [row for row in rows if any(row["path"] in own for own in chosen.values())]
    kept += [row for row in several if row["speaker"] in voices]
    kept += [row for row in rows if row["path"].startswith("noise/") and row["split"] == "train"][
        :2
    ]
    for row in kept:
        target = small / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(corpus / row["path"])
        for suffix in (".rttm", ".uem"):
            if (corpus / row["path"]).with_suffix(suffix).exists():
                target.with_suffix(suffix).symlink_to((corpus / row["path"]).with_suffix(suffix))
    with (small / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(kept)
    out = tmp_path_factory.mktemp("tree")
    lay_out(small, out, speakers=3)
    return out


def test_from_folders_to_the_table(
    command: Command, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All stages, as typed: manifests of the splits, a model that diarizes, figures of each row."""
    (command.folder / "few.toml").write_text(SETTINGS)
    words = ("recipe", "run", "ami", "--data", tree, "--out", "work", "--settings", "few.toml")
    answer = command(*words)
    assert answer.returncode == 0, answer.stderr
    running = [line for line in answer.stderr.splitlines() if line.endswith(": running")]
    assert running == [f"note: {name}: running" for name in ("prepare", "train", "tune", "test")]

    work = command.folder / "work"
    prepared = Prepared(work / "prepared")
    listed = {
        split: (tree / f"AMI-diarization-setup/lists/{split}.meetings.txt").read_text().split()
        for split in ("train", "dev", "test")
    }
    trained = read_conversations(prepared.train)
    assert [each.name for each in trained] == [
        f"{meeting}.{microphone}"
        for microphone in (HEADSET, DISTANT)
        for meeting in listed["train"]
    ]
    (heard,) = {each.name for each in read_conversations(prepared.test(DISTANT))}
    assert heard == f"{listed['test'][0]}.{DISTANT}"
    meeting = listed["train"][0]
    reference = read_rttm(tree / f"AMI-diarization-setup/only_words/rttms/train/{meeting}.rttm")[
        meeting
    ]
    assert trained[0].speakers == reference.labels() or set(trained[0].speakers) == set(
        reference.labels()
    )
    assert prepared.speech is not None
    assert prepared.noise is not None

    found = read_rttm(work / f"results/{HEADSET}/{listed['test'][0]}.{HEADSET}.rttm")
    assert found
    lines = (work / "results/results.md").read_text().splitlines()
    rows = [line.split(" | ")[:2] for line in lines[2:]]
    assert rows[0] == [f"| {HEADSET}", "this model"]
    assert rows[1] == [f"| {DISTANT}", "this model"]
    assert rows[-1] == [f"| {DISTANT}", "published: pyannote community-1"]
    assert command("diarize", tree / f"amicorpus/{meeting}/audio/{meeting}.{HEADSET}.wav",
                   "--model", "work/model").returncode == 0  # fmt: skip

    caplog.set_level("INFO")
    run(tree, work, str(command.folder / "few.toml"))
    assert [line for line in caplog.messages if line.endswith("running")] == []
    # Other values to try: what was trained stays.
    changed = SETTINGS.replace("threshold = [0.6]", "threshold = [0.55]")
    (command.folder / "few.toml").write_text(changed)
    run(tree, work, str(command.folder / "few.toml"), "tune")
    assert [line for line in caplog.messages if line.endswith("running")] == ["tune: running"]


def test_mistakes(tree: Path, tmp_path: Path) -> None:
    """No corpus, no audio of a microphone, a reference of another meeting: one line each."""
    (tmp_path / "few.toml").write_text(SETTINGS)
    settings = str(tmp_path / "few.toml")
    with pytest.raises(SettingsError, match="no AMI-diarization-setup here"):
        run(tmp_path, tmp_path / "out", settings)
    (tmp_path / "other.toml").write_text(f'microphones = ["Array2-05"]\n{SETTINGS}')
    with pytest.raises(SettingsError, match="no audio of train"):
        run(tree, tmp_path / "out", str(tmp_path / "other.toml"))
    with pytest.raises(SettingsError, match="are base_plus, large, tiny"):
        run(tree, tmp_path / "out", "huge")
    (tmp_path / "both.toml").write_text(f'encoder = "tiny"\n{SETTINGS}')
    with pytest.raises(SettingsError, match="an encoder, which gets new heads, or a start"):
        run(tree, tmp_path / "out", str(tmp_path / "both.toml"))
    copy = tmp_path / "copy"
    copy.mkdir()
    (copy / "amicorpus").symlink_to(tree / "amicorpus")
    setup = copy / "AMI-diarization-setup"
    for path in sorted((tree / "AMI-diarization-setup").rglob("*.*")):
        target = setup / path.relative_to(tree / "AMI-diarization-setup")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(path.read_text())
    broken = next((setup / "only_words/rttms/dev").iterdir())
    broken.write_text("SPEAKER ES9999a 1 0.5 1.0 <NA> <NA> x <NA> <NA>\n")
    with pytest.raises(FormatError, match="names another meeting"):
        run(copy, tmp_path / "out", settings)


def test_the_shipped_settings() -> None:
    """They are read; new heads or the embedded model's, and voices by class where names are one."""
    folder = Path(package.__path__[0])
    plus, large, tiny = (
        read_toml(folder / f"{name}.toml", AmiSettings) for name in ("base_plus", "large", "tiny")
    )
    assert plus.encoder == "microsoft/wavlm-base-plus"
    assert large.encoder == "microsoft/wavlm-large"
    assert plus.diarization == large.diarization
    assert plus.diarization.segmentation_layers == 4
    assert (tiny.start, tiny.encoder) == ("tiny", "")
    assert plus.train.batches.named
    assert plus.microphones == (HEADSET, DISTANT)
    assert table({}).count("\n") == 2
