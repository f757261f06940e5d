"""Speaker models: features are SpeechBrain's, batch equals single, long recordings in pieces."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from torch import Tensor, nn

from wavlm_meeting import load_encoder, load_speaker_model
from wavlm_meeting.errors import AudioError, DeviceError, SettingsError
from wavlm_meeting.heads.ecapa import EcapaConfig
from wavlm_meeting.heads.speaker import SpeakerConfig, SpeakerHead
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.backend import Voices
from wavlm_meeting.verification.fbank import Fbank
from wavlm_meeting.verification.joined import JoinedModel
from wavlm_meeting.verification.model import LONGEST_S, SpeakerModel, build_speaker_model
from wavlm_meeting.verification.verify import load_scoring
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

SIZES = EcapaConfig(channels=16, aggregated=20, scale=4, squeezed=6, attention=5, embedding=7)
FBANK = SpeakerConfig(features="fbank", mels=12, ecapa=SIZES)
ENCODER = WavLMConfig(
    conv_layers=((16, 10, 5), (16, 8, 8), (16, 8, 8)), width=16, layers=2, heads=2, ffn=16,
    position_kernel=16, position_groups=2,
)  # fmt: skip


def built(kind: str) -> SpeakerModel:
    """Build a small model of some kind, or load the embedded one."""
    torch.manual_seed(0)
    if kind == "tiny":
        return load_speaker_model("tiny")
    if kind == "fbank":
        return build_speaker_model(None, FBANK).eval()
    if kind == "stacked":
        own = {"stacked": 2, "centred": "level", "instance_norm": False}
        return build_speaker_model(None, FBANK.model_copy(update=own)).eval()
    if kind == "joined":
        second = built("wavlm")
        return JoinedModel(built("stacked"), second, nn.Linear(second.size, 5), 0.5).eval()
    config = SpeakerConfig(ecapa=SIZES, instance_norm=kind == "normed")
    return build_speaker_model(WavLM(ENCODER), config).eval()


KINDS = ("wavlm", "normed", "fbank", "stacked", "joined", "tiny")


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_batch_equals_single(kind: str) -> None:
    """Recordings of any lengths get in a batch what they get alone, clicks at their ends too."""
    model = built(kind)
    waves = [0.1 * torch.randn(samples) for samples in (16_000, 9_333, 1_600)]
    for wave in waves:
        wave[-3:] = 0.9
    lengths = torch.tensor([len(wave) for wave in waves])
    together = model(nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths)
    assert together.shape == (3, model.size)
    for wave, row in zip(waves, together, strict=True):
        torch.testing.assert_close(model.embed(wave), row, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 1e-4])
def test_features_are_those_of_speechbrain(shared_dir: Path, scale: float) -> None:
    """Decibels of real speech, with silence in it, equal SpeechBrain's to a hundredth."""
    features = pytest.importorskip("speechbrain.lobes.features", reason="asked of SpeechBrain")
    from speechbrain.processing.features import InputNormalization

    samples, rate = soundfile.read(
        shared_dir / "corpus/meetings/pyannote_sample.flac", frames=50_000, dtype="float32"
    )
    assert rate == SAMPLE_RATE
    wave = scale * torch.from_numpy(samples)[None]
    wave[:, 20_000:30_000] = 0
    theirs = features.Fbank(n_mels=80)(wave)
    norm = InputNormalization(norm_type="sentence", std_norm=False)
    ours = Fbank(80)(wave)
    assert ours.frame_lengths.tolist() == [theirs.shape[1]]
    torch.testing.assert_close(
        ours.hidden_states[0], norm(theirs, torch.ones(1)), rtol=0, atol=0.01
    )


def test_levels_go_and_colours_stay() -> None:
    """Around their power, bands keep their means, and gains change nothing; two frames make one."""
    wave = torch.randn(2, 8000).cumsum(dim=1)
    (own,) = Fbank(12, centred="level")(wave).hidden_states
    (louder,) = Fbank(12, centred="level")(100 * wave).hidden_states
    (flat,) = Fbank(12)(wave).hidden_states
    torch.testing.assert_close(louder, own, rtol=0, atol=1e-3)
    power = (10 ** (own / 10)).mean(dim=(1, 2))
    torch.testing.assert_close(power, torch.ones(2), rtol=0, atol=1e-3)
    torch.testing.assert_close(own - own.mean(dim=1, keepdim=True), flat, rtol=0, atol=1e-3)
    assert own.mean(dim=1).std() > 3
    stacked = Fbank(12, stacked=2, centred="level")(wave)
    assert own.shape == (2, 51, 12)
    assert stacked.frame_lengths.tolist() == [25, 25]
    torch.testing.assert_close(stacked.hidden_states[0].reshape(2, 50, 12), own[:, :50])


@torch.inference_mode()
def test_cosines_of_two_models_are_added() -> None:
    """Those of the second one weigh by the square of its length, which the whole has, too."""
    model = built("joined")
    assert isinstance(model, JoinedModel)
    waves = 0.1 * torch.randn(2, 9000)
    first, second = built("stacked")(waves), model.second(waves)
    kept = model.projection(nn.functional.normalize(second, dim=1))
    joined = model(waves)
    torch.testing.assert_close(joined.norm(dim=1), second.norm(dim=1) * 1.25**0.5)
    cosines = [torch.cosine_similarity(*each, dim=0) for each in (first, kept, joined)]
    torch.testing.assert_close(cosines[2], (cosines[0] + 0.25 * cosines[1]) / 1.25)
    assert model.size == 12


@torch.inference_mode()
def test_long_recordings_are_cut_into_equal_pieces() -> None:
    """The embedding of 70 s is the mean of those of three pieces; of 30 s, that of all of it."""
    model = built("fbank")
    samples = np.random.default_rng(0).standard_normal(70 * SAMPLE_RATE).astype(np.float32)
    pieces = [model.embed(piece) for piece in np.array_split(samples, 3)]
    torch.testing.assert_close(model.embed(samples), torch.stack(pieces).mean(dim=0))
    whole = torch.from_numpy(samples[: int(LONGEST_S * SAMPLE_RATE)])
    torch.testing.assert_close(model.embed(whole), model(whole[None])[0])


def test_embeddings_are_not_of_unit_length() -> None:
    """Even those of diarization's head, which gives unit vectors to others: norms say something."""
    model = built("tiny")
    embeddings = [model.embed(torch.randn(8000)) for _ in range(2)]
    assert all(each.dtype == torch.float32 for each in embeddings)
    assert all(abs(each.norm() - 1) > 0.1 for each in embeddings)
    assert (model.name, model.size, len(model.sha256)) == ("tiny", 192, 64)


def test_real_voices_differ(shared_dir: Path) -> None:
    """On the telephone two turns of one speaker are likelier of one than a turn of another."""
    folder = shared_dir / "corpus/meetings"
    samples, _ = soundfile.read(folder / "pyannote_sample.flac", dtype="float32")
    # As its reference says: twice speaker90, then speaker91.
    times = (10.6, 14.4), (18.6, 21.4), (21.8, 27.8)
    turns = [samples[int(start * SAMPLE_RATE) : int(end * SAMPLE_RATE)] for start, end in times]
    model, backend = load_scoring("tiny", None, "cpu")
    embeddings = np.stack([model.embed(turn).numpy() for turn in turns])
    voices = Voices(embeddings, np.array([end - start for start, end in times]))
    described = backend.describe(voices)
    pairs = np.array([[0, 1], [0, 2]])
    near, far = backend.log_likelihood_ratio(described, described, pairs)
    assert near > far + 1
    near, far = backend.cosine(described, described, pairs)
    assert near > far


@pytest.mark.parametrize(
    ("waveform", "error", "message"),
    [
        (np.zeros(1599), AudioError, "0.10 s are too short for a voice: give at least 0.1 s"),
        (np.zeros(0), AudioError, "0.00 s are too short"),
        (np.zeros((2, 9000)), SettingsError, r"shape \(2, 9000\): give mono samples"),
        (np.full(9000, np.nan), AudioError, "NaN or infinity"),
    ],
)
def test_what_is_no_recording(waveform: np.ndarray, error: type[Exception], message: str) -> None:
    """Too few samples, other shapes and numbers that are none are refused, in one line."""
    with pytest.raises(error, match=message):
        built("tiny").embed(waveform)


@pytest.mark.parametrize("kind", KINDS)
def test_shortest_and_silent_recordings(kind: str) -> None:
    """0.1 s, and silence, have finite embeddings."""
    model = built(kind)
    for wave in (torch.randn(1600), torch.zeros(1600), torch.zeros(40_000)):
        assert model.embed(wave).isfinite().all()


def test_frozen_features_have_no_gradients() -> None:
    """An encoder that is frozen is run without gradients, the network on it with them."""
    model = build_speaker_model(WavLM(ENCODER), SpeakerConfig(ecapa=SIZES))
    model(torch.randn(2, 9000)).square().sum().backward()
    learned = {name for name, each in model.features.named_parameters() if each.grad is not None}
    assert "layers.0.ffn.up.weight" in learned
    model.zero_grad()
    model.features.requires_grad_(requires_grad=False)
    model(torch.randn(2, 9000)).square().sum().backward()
    assert all(parameter.grad is None for parameter in model.features.parameters())
    assert isinstance(model.pooling, SpeakerHead)
    assert all(parameter.grad is not None for parameter in model.pooling.parameters())


@torch.inference_mode()
def test_instance_norm_takes_away_what_is_constant() -> None:
    """Each channel's level and scale over the utterance, and the padding, say nothing."""
    model = built("normed")
    assert isinstance(model.pooling, SpeakerHead)
    states: list[Tensor] = [torch.randn(2, 50, 16) for _ in range(3)]
    lengths = torch.tensor([50, 20])
    changed = [3 * state + torch.linspace(-5, 5, 16) for state in states]
    before, after = (model.pooling(each, lengths) for each in (states, changed))
    torch.testing.assert_close(before, after, rtol=1e-3, atol=1e-3)


def test_encoder_and_features_belong_together() -> None:
    """Filterbanks take no encoder, and an encoder is not made up."""
    with pytest.raises(SettingsError, match="features is 'wavlm', and there is no encoder"):
        build_speaker_model(None, SpeakerConfig())
    with pytest.raises(SettingsError, match="features is 'fbank', and there is an encoder"):
        build_speaker_model(load_encoder("tiny"), FBANK)


def test_devices_that_are_not_there() -> None:
    """A device that is not there is one line."""
    with pytest.raises(DeviceError, match="choose auto"):
        load_speaker_model("tiny", device="cuda:77")
