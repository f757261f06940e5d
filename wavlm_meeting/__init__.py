"""Speaker and meeting analysis on a WavLM core: one encoder pass, every task.

The public names load on first use, so that `import wavlm_meeting` answers at once and importing
torch is left to those who need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavlm_meeting.checkpoints import load_encoder
    from wavlm_meeting.diarization import Diarization, diarize, load_pipeline
    from wavlm_meeting.meeting import enroll, name_speakers
    from wavlm_meeting.separation.load import load_separator
    from wavlm_meeting.tracks import separate
    from wavlm_meeting.verification.identification import identify, load_identifier
    from wavlm_meeting.verification.load import load_speaker_model
    from wavlm_meeting.verification.verify import verify
    from wavlm_meeting.verification.voices import Register

    __version__: str

__all__ = [
    "Diarization",
    "Register",
    "__version__",
    "diarize",
    "enroll",
    "identify",
    "load_encoder",
    "load_identifier",
    "load_pipeline",
    "load_separator",
    "load_speaker_model",
    "name_speakers",
    "separate",
    "verify",
]

_HOMES = {
    "Diarization": "wavlm_meeting.diarization",
    "Register": "wavlm_meeting.verification.voices",
    "diarize": "wavlm_meeting.diarization",
    "enroll": "wavlm_meeting.meeting",
    "identify": "wavlm_meeting.verification.identification",
    "load_encoder": "wavlm_meeting.checkpoints",
    "load_identifier": "wavlm_meeting.verification.identification",
    "load_pipeline": "wavlm_meeting.diarization",
    "load_separator": "wavlm_meeting.separation.load",
    "load_speaker_model": "wavlm_meeting.verification.load",
    "name_speakers": "wavlm_meeting.meeting",
    "separate": "wavlm_meeting.tracks",
    "verify": "wavlm_meeting.verification.verify",
}


def __getattr__(name: str) -> Any:
    """Import a public name from its home on first use (PEP 562)."""
    if name == "__version__":
        value = import_module("importlib.metadata").version("wavlm-meeting")
    elif name in _HOMES:
        value = getattr(import_module(_HOMES[name]), name)
    else:
        raise AttributeError(f"module 'wavlm_meeting' has no attribute '{name}'")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return sorted(__all__)
