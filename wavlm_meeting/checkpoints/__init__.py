"""Reading and writing models: the project's own bundle, Hugging Face, Microsoft and torchaudio.

The loading functions import torch on first use: finding a model and reading its card do without.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from wavlm_meeting.checkpoints.loading import (
        load_encoder,
        load_frame_classifier,
        load_model,
        load_xvector,
    )

__all__ = ["load_encoder", "load_frame_classifier", "load_model", "load_xvector"]


def __getattr__(name: str) -> Any:
    """Import a loading function on first use (PEP 562)."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module("wavlm_meeting.checkpoints.loading"), name)


def __dir__() -> list[str]:
    """List the public names, loaded or not."""
    return __all__
