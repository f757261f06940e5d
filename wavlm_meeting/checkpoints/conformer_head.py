"""Building DiariZen's encoder and segmentation head from a bundle that holds them."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.skeleton import build_filled
from wavlm_meeting.config import parse_settings
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.heads.conformer_classifier import (
    ConformerClassifier,
    ConformerClassifierConfig,
)
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

CONFORMER_CLASSIFIER = "conformer_classifier"
"""Name of the head in a bundle."""


class ScaledProjection(nn.Module):
    """An encoder's projection of the frontend's features, each channel times a factor before."""

    scale: Tensor

    def __init__(self, projection: nn.Module, scale: Tensor) -> None:
        super().__init__()
        self.projection = projection
        self.register_buffer("scale", scale)

    def forward(self, features: Tensor) -> Tensor:
        """Map (B, T, C) to (B, T, D)."""
        projected: Tensor = self.projection(features * self.scale)
        return projected


def parse_classifier(numbers: Mapping[str, Any], where: str) -> ConformerClassifierConfig:
    """Check the head's numbers; raises CheckpointError for one that is wrong or unknown."""
    try:
        return parse_settings(numbers, ConformerClassifierConfig, where)
    except SettingsError as error:
        raise CheckpointError(str(error)) from None


def build_conformer_classifier(
    encoder: WavLMConfig, numbers: ConformerClassifierConfig, powerset: Tensor
) -> ConformerClassifier:
    """Make the head for an encoder; `powerset` (K, S) lists its classes."""
    return ConformerClassifier(
        encoder.layers,
        encoder.width,
        powerset,
        hidden=numbers.hidden,
        blocks=numbers.blocks,
        heads=numbers.heads,
        ffn=numbers.ffn,
        kernel=numbers.kernel,
        features=numbers.features,
    )


def build_diarizen(
    model: Bundle, numbers: ConformerClassifierConfig, powerset: Tensor
) -> tuple[WavLM, ConformerClassifier]:
    """Make a model's encoder and its CONFORMER_CLASSIFIER, as they were trained together.

    The encoder scales its features, and leaves its last hidden state without a final norm. Raises
    CheckpointError if card and parameters do not fit.
    """
    config, name = model.card.encoder, model.card.name
    encoder = build_filled(lambda: WavLM(config), model.state[ENCODER], f"{name}: {ENCODER}")
    head = build_filled(
        lambda: build_conformer_classifier(config, numbers, powerset),
        model.state[CONFORMER_CLASSIFIER],
        f"{name}: {CONFORMER_CLASSIFIER}",
    )
    scaled = ScaledProjection(encoder.projection, head.feature_scale.detach())
    encoder.register_module("projection", scaled)
    if config.pre_norm:
        encoder.register_module("norm", nn.Identity())
    return encoder, head
