"""The voice head of diarization as a speaker model: its own bundle, and training it on."""

from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.checkpoints.bundle import write_bundle
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.heads.frame_classes import NOBODY, FrameClasses
from wavlm_meeting.heads.speaker import AttentiveConfig, SpeakerConfig, SpeechConfig, WholeVoice
from wavlm_meeting.verification.load import load_speaker_model, write_speaker_model
from wavlm_meeting.verification.model import build_speaker_model
from wavlm_meeting.verification.task import SpeakerTask, TaskSettings
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

ENCODER = WavLMConfig(
    conv_layers=((8, 10, 5), (8, 8, 4)), width=16, layers=2, heads=2, ffn=32, position_groups=4
)
ABOUT = {"name": "x", "version": "1", "licence": "CC0-1.0", "description": ""}


def test_written_and_read_it_is_the_same(tmp_path: Path) -> None:
    """The embedded model's head becomes a model of its own that gives the same embedding."""
    before = load_speaker_model("mini")
    write_speaker_model(tmp_path / "voice", before, ABOUT)
    after = load_speaker_model(tmp_path / "voice")
    waveform = 0.1 * torch.randn(40_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(before.embed(waveform), after.embed(waveform), atol=1e-4, rtol=1e-4)
    assert after.config == before.config
    assert after.config is not None
    assert after.config.attentive is not None
    assert after.config.attentive.speech is not None
    assert after.sha256 not in ("", before.sha256)
    with pytest.raises(CheckpointError, match="is written by what it was read with"):
        write_speaker_model(tmp_path / "joined", load_speaker_model("tiny"), ABOUT)


def test_batch_is_single() -> None:
    """What is padded gets what it gets alone, and every frame of it counts."""
    torch.manual_seed(0)
    config = SpeakerConfig(attentive=AttentiveConfig(hidden=12, embedding=7))
    model = build_speaker_model(WavLM(ENCODER), config).eval()
    assert model.size == 7
    long, short = torch.randn(9000), torch.randn(5000)
    padded = torch.stack([long, torch.cat([short, torch.zeros(4000)])])
    with torch.inference_mode():
        both = model(padded, torch.tensor([9000, 5000]))
    torch.testing.assert_close(both[1], model.embed(short), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(both[0], model.embed(long), atol=1e-5, rtol=1e-4)
    changed = short.clone()
    changed[-600:] *= -2
    assert not torch.allclose(model.embed(changed), model.embed(short), atol=1e-4)


def test_who_is_silent_for_long_stays_who_they_are(shared_dir: Path) -> None:
    """Six seconds of hiss after eight of a voice change half of what they change in all frames."""
    model = load_speaker_model("mini")
    assert isinstance(model.pooling, WholeVoice)
    of_speech, of_all = model.pooling, WholeVoice(model.pooling.head)
    hiss = 0.002 * torch.randn(96_000, generator=torch.Generator().manual_seed(0))
    changes = []
    for person in sorted((shared_dir / "corpus/speech/vctk").iterdir()):
        voice = torch.from_numpy(read_audio(min(person.glob("*.opus"))))[:128_000]
        for model.pooling in (of_speech, of_all):
            alone, hissed = model.embed(voice), model.embed(torch.cat([voice, hiss]))
            changes.append(1.0 - F.cosine_similarity(alone, hissed, dim=0))
    with_speech, with_all = torch.stack(changes).view(-1, 2).mean(dim=0)
    assert with_speech < 0.5 * with_all


def test_a_frame_counts_as_much_as_somebody_speaks_in_it() -> None:
    """Weights are the probabilities of all classes but nobody's, and fade nowhere to zero."""
    torch.manual_seed(0)
    head = FrameClasses(1, 6, 5, 4).eval()
    states = [torch.randn(2, 9, 6) for _ in range(2)]
    with torch.no_grad():
        nobody = head(states)[..., NOBODY].exp()
        torch.testing.assert_close(head.spoken(states), 1.0 - nobody)
        head.classes.bias[NOBODY] += 60.0  # 1 - P(nobody) rounds to 0
        assert (head.spoken(states) > 0).all()


@pytest.mark.parametrize("head", ["embedding", "segmentation"])
def test_a_bundle_without_one_of_the_heads_is_refused(head: str, tmp_path: Path) -> None:
    """Who has no ear for voices, or for speech, is told so."""
    bundle = load_model("tiny")
    part = {n: each for n, each in bundle.state["diarization"].items() if not n.startswith(head)}
    write_bundle(tmp_path / "cut", {**bundle.state, "diarization": part}, bundle.card, "float16")
    with pytest.raises(CheckpointError, match=f"has no {head} head; take 'tiny'"):
        load_speaker_model(tmp_path / "cut")


def test_hearing_speech_is_not_trained() -> None:
    """No gradient moves the head that finds speech, nor passes through it to the encoder."""
    torch.manual_seed(0)
    speech = SpeechConfig(hidden=6, classes=3)
    config = SpeakerConfig(attentive=AttentiveConfig(hidden=12, embedding=7, speech=speech))
    model = build_speaker_model(WavLM(ENCODER), config)
    task = SpeakerTask(model, 2, TaskSettings(freeze_encoder=False))
    task.embed(torch.randn(2, 9000)).square().sum().backward()
    assert isinstance(model.pooling, WholeVoice)
    assert model.pooling.speech is not None
    assert all(parameter.grad is None for parameter in model.pooling.speech.parameters())
    assert model.pooling.head.output.weight.grad is not None
    trained = {id(p) for group in task.configure_optimizers()["optimizer"].param_groups
               for p in group["params"]}  # fmt: skip
    assert not trained & {id(parameter) for parameter in model.pooling.speech.parameters()}
