"""Who spoke when."""

from wavlm_meeting.diarization.load import diarize, load_diarizer, load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.result import Diarization, Turn

__all__ = [
    "Diarization",
    "DiarizationPipeline",
    "Turn",
    "diarize",
    "load_diarizer",
    "load_pipeline",
]
