"""Every choice of a recipe for diarization; each recipe's TOML holds its own."""

from pydantic import Field, model_validator

from wavlm_meeting.config import Settings
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.recipes.card_settings import CardSettings
from wavlm_meeting.training.diarization_training import DiarizationTrainingSettings


class TuningSettings(Settings):
    """How thresholds are chosen on the dev recordings."""

    grids: tuple[dict[str, tuple[float, ...]], ...] = (
        {
            "threshold": (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
            "onset": (0.3, 0.4, 0.5, 0.6, 0.7),
        },
        {"least_speaker_s": (0.0, 2.0, 5.0), "gap_s": (0.0, 0.2, 0.4)},
    )
    """Settings of `diarization` or of its clustering and the values to try: all combinations of a
    table, one table after the other."""
    collar: float = Field(0.0, ge=0)
    """Collar of the error rate that counts."""


class DiarizationRecipeSettings(CardSettings):
    """What recipes for diarization share."""

    encoder: str = ""
    """Name, folder, file or hub id of an encoder that gets new heads."""
    start: str = ""
    """A model with heads, such as "tiny", to go on with instead."""
    diarization: DiarizationSettings = DiarizationSettings()
    """Form and sizes of new heads; how recordings are cut and clustered."""
    pretrain: DiarizationTrainingSettings | None = None
    """First training, on simulated mixtures alone."""
    train: DiarizationTrainingSettings = DiarizationTrainingSettings()
    """Training on the corpus."""
    tuning: TuningSettings = TuningSettings()
    """How thresholds are chosen."""
    workers: int = Field(0, ge=0)
    """Processes that prepare recordings; 0: one a core."""
    description: str = "Says who spoke when."
    """What the card says of it."""

    @model_validator(mode="after")
    def _begins_with_one(self) -> "DiarizationRecipeSettings":
        if bool(self.encoder) == bool(self.start):
            message = "give an encoder, which gets new heads, or a start that has heads"
            raise ValueError(message)
        if self.pretrain is not None and self.pretrain.batches.simulated < 1:
            message = "pretrain: is on mixtures alone; set batches.simulated to 1"
            raise ValueError(message)
        return self

    def simulates(self) -> bool:
        """Tell whether speech of single speakers is needed."""
        return self.pretrain is not None or self.train.batches.simulated > 0
