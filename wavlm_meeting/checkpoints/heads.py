"""The heads that checkpoints of others bring along, made from the plain numbers on a card."""

from collections.abc import Mapping
from typing import Any, TypeVar

from wavlm_meeting.config import Settings, parse_settings
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.heads.frame_classifier import FrameClassifier, FrameClassifierConfig
from wavlm_meeting.heads.xvector import XVector, XVectorConfig
from wavlm_meeting.wavlm.config import WavLMConfig

S = TypeVar("S", bound=Settings)

XVECTOR = "xvector"
FRAME_CLASSIFIER = "frame_classifier"
CTC = "ctc"
"""Part of a linear layer over characters; recognition reads it, nothing here builds it."""


def build_xvector(encoder: WavLMConfig, numbers: Mapping[str, Any], where: str) -> XVector:
    """Make an x-vector head for an encoder; raises CheckpointError for numbers that do not fit."""
    config = _parse(numbers, XVectorConfig, where)
    return XVector(encoder.layers, encoder.width, **dict(config))


def build_frame_classifier(
    encoder: WavLMConfig, numbers: Mapping[str, Any], where: str
) -> FrameClassifier:
    """Make a frame classifier for an encoder; raises CheckpointError as `build_xvector` does."""
    config = _parse(numbers, FrameClassifierConfig, where)
    return FrameClassifier(encoder.layers, encoder.width, **dict(config))


BUILDERS = {XVECTOR: build_xvector, FRAME_CLASSIFIER: build_frame_classifier}
"""The heads that have a module, by part."""


def linear_shapes(classes: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the parameters of the part CTC and their shapes."""
    return {"output.weight": (classes, width), "output.bias": (classes,)}


def _parse(numbers: Mapping[str, Any], settings: type[S], where: str) -> S:
    try:
        return parse_settings(numbers, settings, where)
    except SettingsError as error:
        raise CheckpointError(str(error)) from None
