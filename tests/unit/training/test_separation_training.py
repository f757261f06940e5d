"""Training of separation on manifests: batches that can begin anywhere, as if never stopped."""

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

pytest.importorskip("lightning", reason="training needs the extra 'train'")
pytest.importorskip("asteroid", reason="training needs the extra 'train'")

from small_conversations import RATE, single_voice
from wavlm_meeting.config import parse_settings
from wavlm_meeting.separation.model import SeparationHead
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.training.diarization_recordings import read_conversations, write_conversations
from wavlm_meeting.training.log import read_log
from wavlm_meeting.training.separation_data import MixtureBatches, MixtureBatchSettings
from wavlm_meeting.training.separation_rooms import RoomPool, write_room
from wavlm_meeting.training.separation_speech import read_speech
from wavlm_meeting.training.separation_training import (
    SeparationTrainingSettings,
    new_head,
    train_separation,
)

CONFIG = WavLMConfig(
    conv_layers=((16, 400, 160), (16, 2, 2)), width=16, layers=2, heads=2, ffn=16,
    position_kernel=16, position_groups=2, layer_drop=0.3, dropout=0.2,
)  # fmt: skip
HEAD = SeparationSettings(fft=128, hop=64, layers=1, width=16, heads=2, ffn=16, kernel=5)
VALUES: dict[str, dict[str, Any]] = {
    "task": {"steps": 4, "objective": "sdr"},
    "batches": {"mixtures": 2, "window_s": 1.0},
    "trainer": {"checkpoint_steps": 2, "log_steps": 1, "workers": 0},
}


def settings_of(**changes: dict[str, Any]) -> SeparationTrainingSettings:
    """Return the settings above with some changed."""
    values = {part: {**own, **changes.get(part, {})} for part, own in VALUES.items()}
    return parse_settings(values, SeparationTrainingSettings, "here")


def model_of(**changes: Any) -> tuple[WavLM, SeparationHead]:
    """Build a small encoder and a new head."""
    torch.manual_seed(0)
    return WavLM(CONFIG), new_head(CONFIG, HEAD.model_copy(update=changes), seed=3)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Write a manifest of three voices, a noise and two rooms."""
    root = tmp_path_factory.mktemp("material")
    voices = [single_voice(root / f"v{n}.wav", f"s{n}", 0.1 + n / 20) for n in range(3)]
    write_conversations(voices, root / "speech.jsonl.gz")
    rng = np.random.default_rng(0)
    (root / "noise").mkdir()
    soundfile.write(root / "noise" / "hum.wav", 0.1 * rng.standard_normal(RATE), RATE)
    for number in range(2):
        write_room(root / "rooms" / f"{number}.npz", rng.standard_normal((3, 2, 50)))
    return {
        "speech": root / "speech.jsonl.gz",
        "noise": root / "noise",
        "rooms": root / "rooms",
        "decoded": root / "decoded",
    }


def weights_of(model: tuple[WavLM, SeparationHead]) -> dict[str, torch.Tensor]:
    """Return copies of all weights."""
    return {
        f"{part}.{name}": weight.clone()
        for part, module in zip(("encoder", "head"), model, strict=True)
        for name, weight in module.state_dict().items()
    }


@pytest.mark.parametrize("frozen", [True, False])
def test_a_stopped_run_equals_an_unbroken_one(
    material: dict[str, Path], tmp_path: Path, frozen: bool
) -> None:
    """Weights and log are those of a run that was never stopped, dropout and all."""
    settings = settings_of(task={"frozen": frozen})
    unbroken = model_of()
    before = weights_of(unbroken)
    train_separation(*unbroken, tmp_path / "whole", settings, **material)

    def stop(done: int, _total: int, _logged: object) -> None:
        if done == 3:  # after the checkpoint of step 2
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_separation(*model_of(), tmp_path / "parts", settings, report=stop, **material)
    going_on = model_of()
    train_separation(*going_on, tmp_path / "parts", settings, **material)
    assert read_log(tmp_path / "parts") == read_log(tmp_path / "whole")
    after = weights_of(unbroken)
    for name, weight in weights_of(going_on).items():
        torch.testing.assert_close(weight, after[name], rtol=0, atol=1e-7)
    changed = {name.split(".")[0] for name in after if not torch.equal(after[name], before[name])}
    assert changed == ({"head"} if frozen else {"encoder", "head"})


def test_a_batch_is_a_function_of_its_number(
    material: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever came before; each process has mixtures of its own, all of one larger batch."""
    said = read_speech(material["speech"], material["decoded"])

    def batches_of(mixtures: int, first: int = 0) -> MixtureBatches:
        settings = MixtureBatchSettings(mixtures=mixtures, window_s=1.0)
        pool = RoomPool(material["rooms"])
        return MixtureBatches(said.voices, said.read, settings, 7, first, pool=pool)

    third = list(islice(batches_of(2), 4))[3]
    for one, other in zip(third, next(iter(batches_of(2, first=3))), strict=True):
        assert torch.equal(one, other)
    torch.testing.assert_close(third.waveforms, third.images.sum(dim=1) + third.noise)
    assert not torch.equal(third.waveforms, batches_of(2).batch(2).waveforms)
    whole = batches_of(4).batch(3)
    assert torch.equal(whole.images[:2], third.images)
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert torch.equal(whole.images[2:], batches_of(2).batch(3).images)


def test_speech_is_decoded_once(material: dict[str, Path], tmp_path: Path) -> None:
    """What is mapped is what is in the files; another manifest has another file."""
    said = read_speech(material["speech"], tmp_path)
    (first,) = tmp_path.iterdir()
    written = first.stat().st_mtime_ns
    recordings = read_conversations(material["speech"])
    for index, each in enumerate(recordings):
        exact = each.read(0, each.samples)
        np.testing.assert_allclose(said.read(index) / 32767, exact, atol=1e-4)
    assert {name: u[0].speech for name, u in said.voices.items()} == {
        each.speakers[0]: ((8000, 24_000), (32_000, 40_000)) for each in recordings
    }
    read_speech(material["speech"], tmp_path)
    assert first.stat().st_mtime_ns == written
    write_conversations(recordings[:2], tmp_path / "fewer.jsonl.gz")
    assert len(read_speech(tmp_path / "fewer.jsonl.gz", tmp_path).voices) == 2
    assert len(list(tmp_path.glob("*.npy"))) == 2


def test_the_next_training_begins_where_one_ended(
    material: dict[str, Path], tmp_path: Path
) -> None:
    """A head without features trains without the encoder, and `start` takes its weights over."""
    without = model_of(features=False)
    train_separation(*without, tmp_path / "one", settings_of(), **material)
    after = weights_of(without)
    going_on = model_of(features=False)
    slow = settings_of(task={"steps": 1, "learning_rate": 1e-9})
    train_separation(*going_on, tmp_path / "two", slow, start=tmp_path / "one", **material)
    for name, weight in going_on[1].named_parameters():  # statistics of batches move on
        torch.testing.assert_close(weight.detach(), after[f"head.{name}"], rtol=0, atol=1e-6)
    assert all(torch.equal(w, weights_of(model_of())[n]) for n, w in after.items() if "enc" in n)


def test_mistakes(material: dict[str, Path], tmp_path: Path) -> None:
    """Too few talkers, and another model's training, are refused in one line."""
    recordings = read_conversations(material["speech"])
    write_conversations(recordings[:1], tmp_path / "one.jsonl.gz")
    with pytest.raises(SettingsError, match="speech of 1 speakers"):
        train_separation(
            *model_of(), tmp_path / "run", settings_of(), speech=tmp_path / "one.jsonl.gz"
        )
    silent = [recordings[0]._replace(said=())]
    write_conversations(silent, tmp_path / "none.jsonl.gz")
    with pytest.raises(SettingsError, match="no supervision"):
        read_speech(tmp_path / "none.jsonl.gz", tmp_path)
    train_separation(
        *model_of(), tmp_path / "run", settings_of(task={"steps": 1}), speech=material["speech"]
    )
    with pytest.raises(CheckpointError, match="another model") as caught:
        train_separation(
            *model_of(width=8), tmp_path / "other", settings_of(), start=tmp_path / "run",
            speech=material["speech"],
        )  # fmt: skip
    assert "\n" not in str(caught.value)
