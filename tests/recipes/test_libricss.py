"""The recipe of separation, from the layouts of LibriSpeech and LibriCSS to the tables."""

import json
import re
import shutil
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from commands import Command
from wavlm_meeting.config import read_toml
from wavlm_meeting.errors import AudioError, FormatError, SettingsError

pytest.importorskip("asteroid", reason="recipes need the extra 'train'")
pytest.importorskip("lhotse", reason="recipes need the extra 'train'")
pytest.importorskip("lightning", reason="recipes need the extra 'train'")
pytest.importorskip("meeteval", reason="recipes need the extra 'train'")
pytest.importorskip("pyroomacoustics", reason="recipes need the extra 'train'")

from lhotse import CutSet

import wavlm_meeting.recipes.libricss as package
from small_libricss import write_corpus
from wavlm_meeting.audio.simulate import Utterance
from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.recipes.libricss import recipe
from wavlm_meeting.recipes.libricss.prepare import Manifests, coloured_noise
from wavlm_meeting.recipes.libricss.recipe import run
from wavlm_meeting.recipes.libricss.sessions import CONDITIONS, draw_placements, overlap_of
from wavlm_meeting.recipes.libricss.settings import LibriCssSettings
from wavlm_meeting.recipes.libricss.simulated import Conversation, alone_stretches
from wavlm_meeting.recipes.libricss.small import lay_out
from wavlm_meeting.separation.load import add_separation, load_separator
from wavlm_meeting.training.recordings import read_recordings
from wavlm_meeting.training.separation_mixtures import Mixture
from wavlm_meeting.training.separation_rooms import RoomPool
from wavlm_meeting.training.separation_training import new_head
from wavlm_meeting.verification.backend import load_backend

RATE = 16_000
SESSION_S = 8.0
SETTINGS = """
name = "few-mixtures"
encoder = "tiny"
recogniser = "command: sh -c 'echo hum'"
workers = 1
[separation]
window_s = 4.0
history_s = 1.0
future_s = 1.0
layers = 1
width = 16
heads = 2
ffn = 16
kernel = 3
[rooms]
rooms = 2
places = 2
[simulated]
rooms = 1
mixtures = 1
mixture_s = 4.0
conversations = 1
conversation_s = 8.0
[train.task]
steps = 2
objective = "sdr"
[train.batches]
mixtures = 2
[train.trainer]
checkpoint_steps = 1
log_steps = 1
workers = 0
"""
STAGES = ("prepare", "rooms", "train", "model", "simulated", "separate", "words")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay people who hum out as LibriSpeech and LibriCSS."""
    corpus = write_corpus(tmp_path_factory.mktemp("corpus"))
    out = tmp_path_factory.mktemp("tree")
    lay_out(corpus, out, session_s=SESSION_S, workers=1)
    return out


def test_from_folders_to_the_tables(
    command: Command, tree: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """All stages, as typed: a model that diarizes and separates, tracks, figures, word errors."""
    (command.folder / "few.toml").write_text(SETTINGS)
    words = ("recipe", "run", "libricss", "--data", tree, "--out", "work", "--settings", "few.toml")
    answer = command(*words)
    assert answer.returncode == 0, answer.stderr
    running = [line for line in answer.stderr.splitlines() if line.endswith(": running")]
    assert running == [f"note: {name}: running" for name in STAGES]

    work = command.folder / "work"
    manifests = Manifests(work / "prepared")
    for path, session in ((manifests.dev, 0), (manifests.test, 1)):
        cuts = list(CutSet.from_jsonl_lazy(path))
        assert [cut.id for cut in cuts] == [f"{name}_session{session}" for name in CONDITIONS]
        assert {cut.recording.num_channels for cut in cuts} == {7}
        assert {turn.text for cut in cuts for turn in cut.supervisions} == {"HUM 0", "HUM 1"}
    people = [
        read_recordings(path).speaker_names for path in (manifests.speech, manifests.test_speech)
    ]
    assert set(people[0]).isdisjoint(people[1])
    assert len(RoomPool(work / "rooms/train")) == 2
    assert RoomPool(work / "rooms/train").shape(0) == (3, 7)

    made, source = load_model(work / "model").card, load_model("tiny").card
    assert made.heads.keys() == {*source.heads, "separation"}
    assert set(source.training.data) <= set(made.training.data)
    gain = "SI-SDR improvement dB, two simulated talkers throughout, 7 microphones"
    assert gain in made.figures
    assert made.weights is not None
    load_backend(work / "model" / BACKEND, made.weights.sha256)  # it verifies as the source does
    assert load_separator(str(work / "model")).settings.window_s == 4.0
    for cut in CutSet.from_jsonl_lazy(manifests.test):
        for microphones in (1, 7):
            whole = work / f"tracks/{microphones}/continuous/{cut.id}_2.flac"
            assert soundfile.info(whole).frames == SESSION_S * RATE
            for turn in cut.supervisions:
                part = work / f"tracks/{microphones}/utterances/{turn.id}_1.flac"
                assert abs(soundfile.info(part).duration - turn.duration) < 1e-3

    figures = json.loads((work / "results/simulated.json").read_text())
    assert figures["1"]["mixed_db"] == figures["7"]["mixed_db"]
    assert figures["1"]["separated_db"] != figures["7"]["separated_db"]
    rates = json.loads((work / "results/words.json").read_text())
    assert rates["utterance-wise, 1 microphone"]["0S"] == 0.5  # "hum" for "hum 0"
    table = (work / "results/words.md").read_text().splitlines()
    assert table[0] == "| LibriCSS, WER % | 0S | 0L | OV10 | OV20 | OV30 | OV40 |"
    assert table[-1].startswith("| published: WavLM Large, utterance-wise | 4.2 | 4.1 |")

    caplog.set_level("INFO")
    run(tree, work, str(command.folder / "few.toml"))
    assert [line for line in caplog.messages if line.endswith("running")] == []
    # Another recogniser: what was separated stays.
    (command.folder / "few.toml").write_text(SETTINGS.replace("echo hum", "echo hum 1"))
    run(tree, work, str(command.folder / "few.toml"))
    assert [line for line in caplog.messages if line.endswith("running")] == ["words: running"]
    # A model that has such a head goes on from it: learning next to nothing, it stays.
    slow = SETTINGS.replace('"tiny"', f'"{work / "model"}"').replace(
        "steps = 2", "steps = 1\nlearning_rate = 1e-12"
    )
    (command.folder / "slow.toml").write_text(slow)
    shutil.copytree(work, command.folder / "on")
    run(tree, command.folder / "on", str(command.folder / "slow.toml"), "train..model")
    before, after = (
        load_model(command.folder / name / "model").state["separation"]["masks.weight"]
        for name in ("work", "on")
    )
    assert torch.allclose(before, after, atol=1e-6)


def test_a_head_of_another_model_is_where_a_training_begins(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What it read of its own encoder is found again in the other one, which learned to give it."""
    monkeypatch.setattr(recipe, "PIECES", 16)
    (tmp_path / "few.toml").write_text(
        SETTINGS.replace('encoder = "tiny"', f'encoder = "tiny"\nhead = "{tmp_path}/other"')
    )
    few, source = read_toml(tmp_path / "few.toml", LibriCssSettings), load_model("mini")
    head = new_head(source.card.encoder, few.separation, 5)
    add_separation(source, head, few.separation, tmp_path / "other", storage="float32")
    with caplog.at_level("INFO"):
        run(tree, tmp_path / "work", str(tmp_path / "few.toml"), "prepare..train")
    missed = re.search(r"(\d+) % of what the head read is missed", caplog.text)
    assert missed is not None
    assert int(missed[1]) < 10


def test_mistakes(tree: Path, tmp_path: Path) -> None:
    """No corpus, a condition or a channel missing, a broken transcript: one line each."""
    (tmp_path / "few.toml").write_text(SETTINGS)
    settings, out = str(tmp_path / "few.toml"), tmp_path / "out"
    with pytest.raises(SettingsError, match="no for_release here"):
        run(tmp_path, out, settings)
    with pytest.raises(SettingsError, match="are base_plus, large, tiny, tiny_on"):
        run(tree, out, "huge")
    (tmp_path / "many.toml").write_text(f"microphones = [8]\n{SETTINGS}")
    with pytest.raises(SettingsError, match="LibriCSS has 1 to 7"):
        run(tree, out, str(tmp_path / "many.toml"))
    copy = shutil.copytree(tree / "for_release", tmp_path / "copy/for_release").parent
    with pytest.raises(SettingsError, match="no speech to simulate"):
        run(copy, out, settings, "prepare")
    session = next((copy / "for_release/OV20").iterdir())
    transcript = session / "transcription/meeting_info.txt"
    kept = transcript.read_text()
    transcript.write_text(f"{kept}1.0\t2.0\tnobody\n")
    with pytest.raises(FormatError, match="between tabs"):
        run(copy, out, settings, "prepare")
    transcript.write_text(kept)
    samples, rate = soundfile.read(session / "record/raw_recording.wav")
    soundfile.write(session / "record/raw_recording.wav", samples[:, :2], rate)
    with pytest.raises(AudioError, match="2 channels at 16000 Hz, not 7"):
        run(copy, out, settings, "prepare")
    shutil.rmtree(copy / "for_release/OV40")
    with pytest.raises(SettingsError, match="no OV40"):
        run(copy, out, settings, "prepare")


@pytest.mark.parametrize("name", CONDITIONS)
def test_sessions(name: str) -> None:
    """The wanted share of the speech overlaps, pauses are kept, and never do three talk at once."""
    rng, condition = np.random.default_rng(3), CONDITIONS[name]
    voices = {
        str(who): [
            Utterance(number, str(who), ((800, 800 + int(rng.uniform(2, 12) * RATE)),))
            for number in range(9)
        ]
        for who in range(8)
    }
    length = 600 * RATE
    placed = draw_placements(rng, voices, condition, length)
    assert overlap_of(placed) == pytest.approx(condition.overlap, abs=0.02)
    spans = [(each.start, each.start + each.end - each.begin) for each in placed]
    assert spans[-1][1] <= length
    for earlier, later in zip(spans, spans[2:], strict=False):
        assert earlier[1] <= later[0]
    pauses = [later[0] - earlier[1] for earlier, later in pairwise(spans)]
    shortest, longest = (seconds * RATE for seconds in condition.pause_s)
    assert all(pause < 0 or shortest - 1 <= pause <= longest for pause in pauses)


def test_alone_stretches() -> None:
    """Where one talks and nobody else does for a while around; nothing short."""
    sounds = Mixture(
        *(np.zeros(shape, np.float32) for shape in ((1, 10 * RATE), (2, 1, 1), (1, 1)))
    )
    turns = [(0, 4 * RATE, "a"), (3 * RATE, 6 * RATE, "b"), (int(9.5 * RATE), 10 * RATE, "a")]
    found = list(alone_stretches(Conversation(sounds, turns, ["a", "b"])))
    bounds = [(who, start / RATE, end / RATE) for who, start, end in found]
    assert bounds == [(0, 0.0, pytest.approx(2.7)), (1, pytest.approx(4.3), 6.0)]


def test_coloured_noise() -> None:
    """Power falls as the exponent says: by 6 dB an octave for brown noise, not at all for white."""
    for exponent in (0.0, 1.0, 2.0):
        power = (
            np.abs(np.fft.rfft(coloured_noise(np.random.default_rng(0), 1 << 17, exponent))) ** 2
        )
        bands = [power[1 << k : 2 << k].mean() for k in range(10, 15)]
        slopes = np.diff(np.log2(bands))
        assert slopes == pytest.approx(-exponent, abs=0.25)


def test_the_shipped_settings() -> None:
    """They are read; the small heads fit into 5 MB and are alike but for the features."""
    folder = Path(package.__path__[0])
    plus, large, tiny, stft, further = (
        read_toml(folder / f"{name}.toml", LibriCssSettings)
        for name in ("base_plus", "large", "tiny", "tiny_stft", "tiny_on")
    )
    assert (plus.encoder, large.encoder) == ("microsoft/wavlm-base-plus", "microsoft/wavlm-large")
    assert plus.separation == large.separation
    assert (plus.separation.layers, plus.separation.width) == (16, 256)
    assert plus.train.batches.window_s == 4.0
    assert (tiny.train, tiny.rooms) == (stft.train, stft.rooms)
    assert (tiny.separation, tiny.encoder) == (further.separation, further.encoder)
    encoder = load_model("tiny").card.encoder
    sizes = [
        sum(weight.numel() for weight in new_head(encoder, each.separation, 1).parameters())
        for each in (tiny, stft)
    ]
    assert sizes[0] <= sizes[1] <= 2_400_000
    assert sizes[1] < 1.03 * sizes[0]
