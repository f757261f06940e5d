"""The heads that checkpoints of others bring along, made from the plain numbers on a card."""

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from wavlm_meeting.config import Settings, parse_settings
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.heads.frame_classifier import FrameClassifier, FrameClassifierConfig
from wavlm_meeting.heads.speaker import SpeakerConfig, SpeakerHead, WholeVoice, build_speaker_head
from wavlm_meeting.heads.xvector import XVector, XVectorConfig
from wavlm_meeting.wavlm.config import WavLMConfig

SPEAKER = "speaker"
XVECTOR = "xvector"
FRAME_CLASSIFIER = "frame_classifier"
CTC = "ctc"
"""Part of a linear layer over characters; it is carried along, and nothing here builds it."""


class _CtcConfig(Settings):
    classes: int = Field(ge=1)
    """Characters, the blank among them."""


_CONFIGS: dict[str, type[Settings]] = {
    XVECTOR: XVectorConfig,
    FRAME_CLASSIFIER: FrameClassifierConfig,
    CTC: _CtcConfig,
}


def parse_numbers(part: str, numbers: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check a head's numbers; raises CheckpointError for one that is wrong or unknown."""
    try:
        return dict(parse_settings(numbers, _CONFIGS[part], where))
    except SettingsError as error:
        raise CheckpointError(str(error)) from None


def build_xvector(encoder: WavLMConfig, numbers: Mapping[str, Any], where: str) -> XVector:
    """Make an x-vector head for an encoder; raises CheckpointError as `parse_numbers` does."""
    return XVector(encoder.layers, encoder.width, **parse_numbers(XVECTOR, numbers, where))


def build_frame_classifier(
    encoder: WavLMConfig, numbers: Mapping[str, Any], where: str
) -> FrameClassifier:
    """Make a frame classifier for an encoder; raises CheckpointError as `parse_numbers` does."""
    values = parse_numbers(FRAME_CLASSIFIER, numbers, where)
    return FrameClassifier(encoder.layers, encoder.width, **values)


def parse_speaker(numbers: Mapping[str, Any], where: str) -> SpeakerConfig:
    """Check the numbers of a head for speaker verification; raises CheckpointError."""
    try:
        return parse_settings(numbers, SpeakerConfig, where)
    except SettingsError as error:
        raise CheckpointError(str(error)) from None


def build_speaker(
    encoder: WavLMConfig, numbers: Mapping[str, Any], where: str
) -> SpeakerHead | WholeVoice:
    """Make a head for speaker verification; raises CheckpointError as `parse_numbers` does."""
    return build_speaker_head(parse_speaker(numbers, where), encoder.layers + 1, encoder.width)


BUILDERS = {XVECTOR: build_xvector, FRAME_CLASSIFIER: build_frame_classifier}
"""The heads of transformers that have a module, by part."""


def linear_shapes(classes: int, width: int) -> dict[str, tuple[int, ...]]:
    """Return the parameters of the part CTC and their shapes."""
    return {"output.weight": (classes, width), "output.bias": (classes,)}
