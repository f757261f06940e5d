"""Every choice of the recipe; the TOML files beside it hold what models are made with."""

from pydantic import Field

from wavlm_meeting.recipes.diarization_settings import DiarizationRecipeSettings


class CallhomeSettings(DiarizationRecipeSettings):
    """The whole recipe."""

    dev: float = Field(0.2, gt=0, lt=1)
    """Share of part 1 that thresholds are chosen on; the rest of it is trained on."""
    seed: int = 1
    """Seed of that choice, and of the parts where no lists of them are given."""
