"""Every choice of the recipe; the TOML files beside it hold what models are made with."""

from typing import Annotated

from pydantic import Field

from wavlm_meeting.recipes.diarization_settings import DiarizationRecipeSettings

HEADSET, DISTANT = "Mix-Headset", "Array1-01"
"""The mix of all headsets, and the first microphone of the first array: files of these names."""


class AmiSettings(DiarizationRecipeSettings):
    """The whole recipe."""

    microphones: tuple[Annotated[str, Field(pattern=r"^[\w-]+$")], ...] = Field(
        (HEADSET, DISTANT), min_length=1
    )
    """Which recordings of a meeting are trained on, chosen on and tested, each in a table row."""
