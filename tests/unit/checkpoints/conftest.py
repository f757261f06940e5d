"""A small model with random weights, for tests of its files."""

import pytest
import torch

from wavlm_meeting.checkpoints.bundle import Bundle
from wavlm_meeting.checkpoints.card import Card, Material, Training
from wavlm_meeting.heads.frame_classifier import FrameClassifier
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM


@pytest.fixture
def model() -> Bundle:
    """Give a model with a head and a card with every kind of entry."""
    torch.manual_seed(2)
    config = WavLMConfig(
        conv_layers=((16, 10, 5), (12, 8, 4)),
        width=16,
        layers=2,
        heads=2,
        ffn=24,
        position_kernel=8,
        position_groups=4,
        bias_buckets=16,
        bias_max_distance=40,
    )
    head = FrameClassifier(config.layers, config.width, weighted=True, classes=3)
    card = Card(
        name="small",
        version="0.1",
        licence="CC0-1.0",
        description='Says "nothing",\nat random.',
        encoder=config,
        heads={"frame_classifier": {"weighted": True, "classes": 3}},
        training=Training(
            data=(Material(name="none", licence="CC0-1.0", use="nothing"),), recipe="this fixture"
        ),
        figures={"DER, noise": 99.5, "EER": "not measured"},
    )
    parts = {"encoder": WavLM(config), "frame_classifier": head}
    return Bundle(card, {part: module.state_dict() for part, module in parts.items()})
