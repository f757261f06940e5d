"""Files of speaker models: what is understood, what is refused, and where they come from."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from commands import Command
from wavlm_meeting import load_speaker_model
from wavlm_meeting.checkpoints import load_encoder, load_model
from wavlm_meeting.checkpoints.bundle import Bundle, write_bundle
from wavlm_meeting.checkpoints.formats import write_model
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.heads.ecapa import EcapaConfig
from wavlm_meeting.heads.speaker import AttentiveConfig, SpeakerConfig
from wavlm_meeting.verification.joined import JoinedModel
from wavlm_meeting.verification.load import write_speaker_model
from wavlm_meeting.verification.model import SpeakerModel, build_speaker_model
from wavlm_meeting.wavlm.model import WavLM

State = dict[str, Tensor]
SIZES = EcapaConfig(channels=16, aggregated=20, scale=4, squeezed=6, attention=5, embedding=7)
BASE = "feature_extract.model.encoder.layers.0."
REVISION = "0123456789abcdef0123456789abcdef01234567"


def filterbank_model() -> SpeakerModel:
    """Build a model that SpeechBrain's layout has a place for."""
    torch.manual_seed(0)
    ecapa = SIZES.model_copy(update={"padding": "reflect", "context": True})
    return build_speaker_model(
        None, SpeakerConfig(features="fbank", mels=12, instance_norm=False, ecapa=ecapa)
    ).eval()


@pytest.fixture(scope="module")
def released(shared_dir: Path) -> State:
    """Give the parameters of the released layout's miniature."""
    path = shared_dir / "golden/sv_ecapa_wavlm_large_tiny.pt"
    state: State = torch.load(path, weights_only=True)["model"]
    return state


def test_released_layout_becomes_a_bundle(tmp_path: Path, released: State) -> None:
    """What only training reads is left out; a bundle of it gives the same embedding."""
    extra = {
        "loss_calculator.projection.weight": torch.zeros(9, 256),
        "feature_extract.model.final_proj.weight": torch.zeros(4, 64),
    }
    torch.save({"model": released | extra, "epoch": 3}, tmp_path / "download")
    model = load_model(tmp_path / "download")
    assert model.state.keys() == {"encoder", "speaker"}
    config = model.card.encoder
    assert (config.layers, config.width, config.heads, config.ffn) == (4, 64, 4, 128)
    assert (config.pre_norm, config.normalize_waveform) == (True, True)
    assert (config.position_kernel, config.position_groups) == (128, 16)
    write_model(tmp_path / "bundle", model, "bundle")
    wave = torch.randn(8000)
    first, second = (load_speaker_model(tmp_path / name) for name in ("download", "bundle"))
    torch.testing.assert_close(first.embed(wave), second.embed(wave), rtol=1e-5, atol=1e-6)
    assert first.config == second.config


def without(name: str) -> Callable[[State], None]:
    """Return a change that takes a parameter away."""

    def change(state: State) -> None:
        del state[name]

    return change


def put(name: str, *shape: int) -> Callable[[State], None]:
    """Return a change that puts a parameter of some shape."""
    return lambda state: state.update({name: torch.zeros(shape)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without("layer3.Conv1dReluBn1.bn.bias"), r"1 parameter missing \(layer3\.Conv1dReluBn1"),
        (without("conv.weight"), r"lacks 'conv\.weight'; this is no speaker model"),
        (without("layer1.conv.weight"), r"lacks 'layer1\.conv\.weight'"),
        (without(f"{BASE}self_attn.relative_attention_bias.weight"), "lacks .*attention_bias"),
        (put("layer5.conv.weight", 2), r"1 parameter unknown \(layer5\.conv\.weight\)"),
        (put("feature_weight", 7), r"'feature_weight' has the shape \(7,\)"),
        (put("linear.weight", 256, 9), r"'linear\.weight' has the shape \(256, 9\)"),
        (put("pooling.linear1.weight", 128, 4608, 1), r"'pooling\.linear1\.weight' has the shape"),
        (
            put("feature_extract.model.feature_extractor.conv_layers.7.0.weight", 32, 32, 2),
            "its frontend has 8 convolutions, whose strides the file does not say",
        ),
    ],
)
def test_other_parameters_are_refused(
    tmp_path: Path, released: State, change: Callable[[State], None], message: str
) -> None:
    """A parameter too many, too few or of another shape is named, never skipped."""
    state = dict(released)
    change(state)
    torch.save({"model": state}, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match=message) as error:
        load_speaker_model(tmp_path / "a.pth")
    assert "\n" not in str(error.value)


def test_base_sized_models(tmp_path: Path, released: State) -> None:
    """A norm after the first convolution alone tells the smaller models, whose layers differ."""
    state = {
        name: tensor
        for name, tensor in released.items()
        if "conv_layers" not in name or name.endswith(".0.weight")
    }
    first = "feature_extract.model.feature_extractor.conv_layers.0.2"
    state |= {f"{first}.weight": torch.ones(32), f"{first}.bias": torch.zeros(32)}
    torch.save({"model": state}, tmp_path / "a.pth")
    config = load_encoder(tmp_path / "a.pth").config
    assert (config.frontend_norm, config.pre_norm, config.normalize_waveform) == (
        "group",
        False,
        False,
    )


def test_models_as_they_were_built(tmp_path: Path, model: Bundle) -> None:
    """Every kind of model comes back from its files as it was, its hash beside it."""
    torch.manual_seed(1)
    config = SpeakerConfig(ecapa=SIZES, instance_norm=False)
    encoder = WavLM(model.card.encoder)
    about = {"name": "own", "version": "1", "licence": "CC0-1.0", "description": ""}
    wave = torch.randn(9000)
    attentive = SpeakerConfig(attentive=AttentiveConfig(hidden=5, embedding=7))
    for built in (
        build_speaker_model(encoder, config).eval(),
        build_speaker_model(encoder, attentive).eval(),
        filterbank_model(),
    ):
        write_speaker_model(tmp_path / "own", built, about)  # replaces the one before
        again = load_speaker_model(tmp_path / "own")
        torch.testing.assert_close(again.embed(wave), built.embed(wave), rtol=1e-5, atol=1e-6)
        assert (again.name, again.config, again.size) == ("own", built.config, 7)
        assert len(again.sha256) == 64
    built.config = None
    with pytest.raises(CheckpointError, match="written by what it was read with"):
        write_speaker_model(tmp_path / "other", built, about)


def test_a_voice_of_filterbanks_in_a_bundle(tmp_path: Path) -> None:
    """The part for verification comes first, alone or with diarization's voice beside it."""
    mini, small = load_model("mini"), filterbank_model()
    assert small.config is not None
    wave = torch.randn(16_000)

    def written(beside: dict[str, float] | None, state: State, parts: set[str]) -> Path:
        numbers = {**small.config.model_dump(exclude={"beside"}), "beside": beside}
        heads = {name: own for name, own in mini.card.heads.items() if name in parts}
        card = mini.card.model_copy(update={"heads": {**heads, "speaker": numbers}})
        kept = {name: mini.state[name] for name in parts}
        write_bundle(tmp_path / "own", {**kept, "speaker": state}, card, "float32")
        return tmp_path / "own"

    whole, own = {"encoder", "diarization"}, small.pooling.state_dict()
    alone = load_speaker_model(written(None, own, whole))
    torch.testing.assert_close(alone.embed(wave), small.embed(wave))
    assert (alone.name, alone.size) == ("mini", 7)

    before = load_speaker_model("mini")
    shorter = torch.nn.Linear(before.size, 3)
    state = own | {f"beside.{name}": value for name, value in shorter.state_dict().items()}
    joined = load_speaker_model(written({"size": 3, "weight": 2.0}, state, whole))
    expected = JoinedModel(small, before, shorter, 2.0).eval()
    torch.testing.assert_close(joined.embed(wave), expected.embed(wave), rtol=1e-4, atol=1e-4)
    with pytest.raises(CheckpointError, match="written by what it was read with"):
        write_speaker_model(tmp_path / "voice", joined, {})
    with pytest.raises(CheckpointError, match="'beside' is diarization's voice"):
        load_speaker_model(written({"size": 3, "weight": 2.0}, state, {"encoder"}))
    with pytest.raises(CheckpointError, match="own: speaker"):
        load_speaker_model(written({"size": 3, "weight": 2.0}, own, whole))


@pytest.mark.parametrize(
    ("ecapa", "config", "message"),
    [
        ({"padding": "zeros"}, {}, "'padding' is 'zeros', and SpeechBrain's layout .* 'reflect'"),
        ({"context": False}, {}, "'context' is False"),
        ({}, {"instance_norm": True}, "'instance_norm' is True"),
        ({}, {"attentive": AttentiveConfig()}, "'attentive' is AttentiveConfig"),
        ({}, {"stacked": 2}, "'stacked' is 2"),
        ({}, {"centred": "level"}, "'centred' is 'level'"),
    ],
)
def test_what_speechbrain_has_not(
    tmp_path: Path, ecapa: dict[str, object], config: dict[str, object], message: str
) -> None:
    """A model that SpeechBrain would compute differently is not written for it."""
    full = filterbank_model().config
    assert full is not None
    sizes = full.ecapa.model_copy(update=ecapa)
    built = build_speaker_model(None, full.model_copy(update={"ecapa": sizes, **config}))
    with pytest.raises(CheckpointError, match=message):
        write_speaker_model(tmp_path / "own", built, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (without("fc.conv.bias"), "", r"1 parameter missing \(fc\.conv\.bias\)"),
        (without("mfa.conv.conv.weight"), "", r"lacks 'mfa\.conv\.conv\.weight'"),
        (put("blocks.1.shortcut.conv.weight", 3), "", r"1 parameter unknown \(blocks\.1\.shortcut"),
        (put("asp.tdnn.conv.conv.weight", 5, 20, 1), "", "has the shape"),
        (without("asp.tdnn.norm.norm.bias"), "n_mels: 4", "reads 12 features where .* 4 bands"),
        (put("a", 1), "    dilations: [1, 2, 1]", "unknown"),
    ],
)
def test_speechbrain_models_of_other_kinds(
    tmp_path: Path, change: Callable[[State], None], settings: str, message: str
) -> None:
    """Another network, or other features, is refused by what differs."""
    write_speaker_model(tmp_path / "own", filterbank_model(), {})
    path = tmp_path / "own/embedding_model.ckpt"
    state = torch.load(path, weights_only=True)
    change(state)
    torch.save(state, path)
    if settings:
        (tmp_path / "own/hyperparams.yaml").write_text(settings)
    with pytest.raises(CheckpointError, match=message) as error:
        load_speaker_model(tmp_path / "own")
    assert "\n" not in str(error.value)


def test_filterbank_models_hold_no_encoder(tmp_path: Path) -> None:
    """Who asks for the encoder of a model on filterbanks hears what it is for."""
    write_speaker_model(tmp_path / "own", filterbank_model(), {})
    with pytest.raises(CheckpointError, match="on filterbanks, without an encoder; use it to ver"):
        load_encoder(tmp_path / "own")


def test_models_that_know_no_voices(tmp_path: Path, model: Bundle) -> None:
    """A model without any part for voices says what it has and what to take."""
    write_bundle(tmp_path / "small", model.state, model.card)
    with pytest.raises(
        CheckpointError, match=r"no part that knows voices .* only 'encoder', 'frame_classifier'"
    ):
        load_speaker_model(tmp_path / "small")


def test_model_of_the_hub(tmp_path: Path) -> None:
    """SpeechBrain's model loads by its id, from the cache and without network."""
    store = tmp_path / "hub/models--speechbrain--spkrec-ecapa-voxceleb"
    write_speaker_model(store / "snapshots" / REVISION, filterbank_model(), {})
    (store / "refs").mkdir()
    (store / "refs/main").write_text(REVISION)
    code = (
        "import wavlm_meeting, torch\n"
        "from wavlm_meeting.checkpoints.hub import is_cached\n"
        "name = 'speechbrain/spkrec-ecapa-voxceleb'\n"
        "model = wavlm_meeting.load_speaker_model(name)\n"
        "print(model.name, model.size, is_cached(name))"
    )
    environment = os.environ | {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1"}
    environment.pop("HF_HUB_CACHE", None)
    answer = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert answer.stdout.split() == ["spkrec-ecapa-voxceleb", "7", "True"], answer.stderr


def test_models_command(command: Command, shared_dir: Path) -> None:
    """`models convert` makes a bundle of a released speaker model, and `models show` describes it.

    Both are the command as typed.
    """
    released = shared_dir / "golden/sv_ecapa_wavlm_large_tiny.pt"
    converted = command("models", "convert", released, "bundle", "--to", "bundle")
    assert converted.returncode == 0, converted.stderr
    shown = command("models", "show", "bundle")
    assert "speaker" in shown.stdout, shown.stderr
