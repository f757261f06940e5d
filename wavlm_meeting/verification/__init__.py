"""Whose voice is it."""

from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.model import SpeakerModel

__all__ = ["SpeakerModel", "load_speaker_model"]
