"""Speaker and meeting analysis on a WavLM core: one encoder pass, every task.

The public names load on first use, so that `import wavlm_meeting` answers at once and importing
torch is left to those who need it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavlm_meeting.checkpoints import load_encoder
    from wavlm_meeting.diarization import Diarization, diarize, load_pipeline
    from wavlm_meeting.verification import load_speaker_model

    __version__: str

__all__ = [
    "Diarization",
    "__version__",
    "diarize",
    "load_encoder",
    "load_pipeline",
    "load_speaker_model",
]

_HOMES = {
    "Diarization": "wavlm_meeting.diarization",
    "diarize": "wavlm_meeting.diarization",
    "load_encoder": "wavlm_meeting.checkpoints",
    "load_pipeline": "wavlm_meeting.diarization",
    "load_speaker_model": "wavlm_meeting.verification",
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
