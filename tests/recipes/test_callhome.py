"""The recipe of telephone calls, from LDC's layout to the table, scaled down."""

import csv
from pathlib import Path

import pytest
import soundfile

from commands import Command
from wavlm_meeting.config import read_toml
from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.formats.rttm import read_rttm

pytest.importorskip("lhotse", reason="recipes need the extra 'train'")
pytest.importorskip("lightning", reason="recipes need the extra 'train'")
pytest.importorskip("speechbrain", reason="recipes need the extra 'train'")

import wavlm_meeting.recipes.callhome as package
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.diarization.result import Diarization, Turn
from wavlm_meeting.recipes.callhome.prepare import TEST
from wavlm_meeting.recipes.callhome.recipe import run
from wavlm_meeting.recipes.callhome.settings import CallhomeSettings
from wavlm_meeting.recipes.callhome.small import lay_out
from wavlm_meeting.recipes.callhome.table import table
from wavlm_meeting.recipes.diarization import Prepared
from wavlm_meeting.training.diarization_recordings import Conversation, Said, read_conversations
from wavlm_meeting.training.log import read_log

SETTINGS = """
name = "few-calls"
encoder = "tiny"
workers = 1
dev = 0.4
[diarization]
form = "eend-vc"
local_speakers = 3
window_s = 6.0
hop_s = 3.0
transformer_hidden = 16
transformer_layers = 1
transformer_heads = 2
transformer_ffn = 16
embedding_size = 8
[pretrain.task]
steps = 2
class_weight = 0.03
teacher_weight = 0.0
linking_weight = 0.0
[pretrain.batches]
conversations = 2
windows = 1
window_s = 3.0
simulated = 1.0
speaker_shares = [0.0, 0.5, 0.5]
pauses_s = [2.0, 2.0, 5.0]
[pretrain.batches.conversation]
telephone = 1.0
[pretrain.trainer]
workers = 0
log_steps = 1
[train.task]
steps = 1
class_weight = 0.01
teacher_weight = 0.0
linking_weight = 0.0
[train.batches]
conversations = 2
windows = 1
window_s = 6.0
[train.trainer]
workers = 0
log_steps = 1
[tuning]
collar = 0.25
grids = [{threshold = [0.5], onset = [0.4]}]
"""


@pytest.fixture(scope="module")
def tree(shared_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay a few calls and a little speech out as LDC and Kaldi do."""
    corpus, small = shared_dir / "corpus", tmp_path_factory.mktemp("corpus")
    with (corpus / "manifest.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = []
    for split, most in (("train", 3), ("dev", 4), ("test", 4)):
        own = [row for row in rows if row["split"] == split and row["source"] == "commonvoice"]
        voices = sorted({row["speaker"] for row in own})[:most]
        for voice in voices:
            kept += [row for row in own if row["speaker"] == voice][:2]
    for row in kept:
        target = small / row["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(corpus / row["path"])
    with (small / "manifest.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0].keys())
        writer.writeheader()
        writer.writerows(kept)
    out = tmp_path_factory.mktemp("tree")
    lay_out(small, out, calls=4, length_s=8.0)
    return out


def test_from_folders_to_the_table(command: Command, tree: Path) -> None:
    """All stages, as typed: part 1 adapts, part 2 tests, and the table has both forms of rows."""
    (command.folder / "few.toml").write_text(SETTINGS)
    words = ("recipe", "run", "callhome", "--data", tree, "--out", "work")
    answer = command(*words, "--settings", "few.toml")
    assert answer.returncode == 0, answer.stderr
    running = [line for line in answer.stderr.splitlines() if line.endswith(": running")]
    stages = ("prepare", "pretrain", "train", "tune", "test")
    assert running == [f"note: {name}: running" for name in stages]

    work = command.folder / "work"
    prepared = Prepared(work / "prepared")
    parts = [
        {each.name for each in read_conversations(path)}
        for path in (prepared.train, prepared.dev, prepared.test(TEST))
    ]
    assert [len(part) for part in parts] == [2, 2, 4]
    listed = [
        {line.split()[0] for line in (tree / f"callhome{part}/wav.scp").read_text().splitlines()}
        for part in (1, 2)
    ]
    assert [parts[0] | parts[1], parts[2]] == listed
    key = read_rttm(tree / "sre2000-key/fullref.rttm")
    tested = read_conversations(prepared.test(TEST))
    assert {each.name: set(each.speakers) for each in tested} == {
        name: set(key[name].labels()) for name in listed[1]
    }
    assert read_log(work / "pretrain")[-1]["classes"] > 0

    pipeline = load_pipeline(str(work / "model"), "cpu")
    assert pipeline.settings.window_s == 6.0
    assert pipeline.settings.form == "eend-vc"
    found = sorted(path.stem for path in (work / f"results/{TEST}").iterdir())
    assert found == sorted(listed[1])
    lines = (work / "results/results.md").read_text().splitlines()
    assert lines[0].startswith("| DER %, collar 0.25 s; speakers | 2 ")
    assert lines[2].startswith("| this model | ")
    assert lines[6].startswith("| published: WavLM Large | 6.46 ")


def test_without_lists_and_without_audio(tree: Path, tmp_path: Path) -> None:
    """Kaldi's lists are optional; a key without calls, a shortened call, no speech are refused."""
    (tmp_path / "few.toml").write_text(SETTINGS)
    settings = str(tmp_path / "few.toml")
    copy = tmp_path / "copy"
    copy.mkdir()
    with pytest.raises(SettingsError, match=r"no fullref\.rttm here .* sre2000-key"):
        run(copy, tmp_path / "out", settings)
    (copy / "sre2000-key").symlink_to(tree / "sre2000-key")
    with pytest.raises(SettingsError, match=r"no call of fullref\.rttm"):
        run(copy, tmp_path / "out", settings)
    calls = copy / "LDC2001S97"
    calls.mkdir()
    for path in sorted(tree.rglob("*.sph")):
        (calls / path.name).symlink_to(path)
    with pytest.raises(SettingsError, match="no speech to simulate"):
        run(copy, tmp_path / "out", settings, "prepare")
    prepared = Prepared(tmp_path / "out/prepared")
    adapted = {
        each.name for path in (prepared.train, prepared.dev) for each in read_conversations(path)
    }
    tested = {each.name for each in read_conversations(prepared.test(TEST))}
    assert len(adapted) == len(tested) == 4
    assert not adapted & tested
    first = min(calls.iterdir())
    first.unlink()
    head = b"NIST_1A\n   1024\nsample_coding -s26 ulaw,embedded-shorten-v2.00\nend_head\n"
    first.write_bytes(head.ljust(1024) + b"ajkg" * 100)
    with pytest.raises(AudioError, match="sph2pipe"):
        run(copy, tmp_path / "out", settings)


def test_small_calls_are_telephone_calls(tree: Path) -> None:
    """SPHERE at 8 kHz in mu-law, of speakers who are not those of the other part."""
    for path in sorted(tree.rglob("*.sph")):
        info = soundfile.info(path)
        assert (info.format, info.subtype, info.samplerate) == ("NIST", "ULAW", 8000)
        assert info.duration == pytest.approx(8.0)


def test_the_table_goes_by_the_number_of_speakers() -> None:
    """Each column has the calls of so many speakers, the last has all; figures are theirs."""

    def call(name: str, *speakers: str) -> Conversation:
        said = tuple(Said(5.0 * n, 5.0 * n + 4.0, who) for n, who in enumerate(speakers))
        return Conversation(name, "", 0.0, 20.0, 1, said)

    def result(name: str, *turns: tuple[float, float, str]) -> Diarization:
        return Diarization(
            uri=name, duration_s=20.0, turns=tuple(Turn(*turn, 1.0) for turn in turns),
            overlaps=(), model="", model_sha256="",
        )  # fmt: skip

    calls = [call("x", "A", "B"), call("y", "A", "B", "C")]
    found = [
        result("x", (0.0, 4.0, "s"), (5.0, 9.0, "t")),
        result("y", (0.0, 4.0, "s"), (5.0, 9.0, "t")),
    ]
    lines = table({TEST: (calls, found)}).splitlines()
    assert lines[0] == "| DER %, collar 0.25 s; speakers | 2 | 3 | all |"
    assert lines[2] == "| this model | 0.00 | 33.33 | 20.00 |"
    assert lines[3] == "| published: EEND-VC | 7.96 | 11.93 | 12.49 |"
    assert "| calls | 1 | 1 | 2 |" in lines
    assert "| counts right | 1 | 0 | 1 |" in lines


def test_the_shipped_settings() -> None:
    """They are read; the method of `base` and `large` is the published one."""
    folder = Path(package.__path__[0])
    base, large, tiny = (
        read_toml(folder / f"{name}.toml", CallhomeSettings) for name in ("base", "large", "tiny")
    )
    assert (base.encoder, large.encoder) == ("microsoft/wavlm-base", "microsoft/wavlm-large")
    assert base.diarization == large.diarization
    assert (base.diarization.form, base.diarization.local_speakers) == ("eend-vc", 3)
    for each in (base, large, tiny):
        assert each.pretrain is not None
        assert (each.pretrain.batches.window_s, each.train.batches.window_s) == (15.0, 30.0)
        assert each.pretrain.batches.conversation.telephone == 1.0
    assert base.diarization.window_s == 30.0
    assert base.pretrain is not None
    assert (base.pretrain.task.class_weight, base.train.task.class_weight) == (0.03, 0.01)
