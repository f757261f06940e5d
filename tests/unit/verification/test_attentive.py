"""The voice head of diarization as a speaker model: its own bundle, and training it on."""

from pathlib import Path

import torch

from wavlm_meeting.heads.speaker import AttentiveConfig, SpeakerConfig
from wavlm_meeting.verification.load import load_speaker_model, write_speaker_model
from wavlm_meeting.verification.model import build_speaker_model
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

ENCODER = WavLMConfig(
    conv_layers=((8, 10, 5), (8, 8, 4)), width=16, layers=2, heads=2, ffn=32, position_groups=4
)
ABOUT = {"name": "x", "version": "1", "licence": "CC0-1.0", "description": ""}


def test_written_and_read_it_is_the_same(tmp_path: Path) -> None:
    """The embedded model's head becomes a model of its own that gives the same embedding."""
    before = load_speaker_model("tiny")
    write_speaker_model(tmp_path / "voice", before, ABOUT)
    after = load_speaker_model(tmp_path / "voice")
    waveform = 0.1 * torch.randn(40_000, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(before.embed(waveform), after.embed(waveform), atol=1e-4, rtol=1e-4)
    assert after.config == before.config
    assert after.sha256 not in ("", before.sha256)


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
