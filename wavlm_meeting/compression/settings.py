"""Every choice of a compression, as a TOML file holds them."""

from typing import Self

from pydantic import Field, model_validator

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import SettingsError


class ObjectiveSettings(Settings):
    """What the student is taught (DPHuBERT, arXiv 2305.17651, section 2.2)."""

    states: tuple[int, ...] = ()
    """Which hidden states are compared: 0 is the input of the first layer, and the last is the
    encoder's output. Without any, all are: heads may read each of them."""
    l1_weight: float = Field(1.0, ge=0)
    """Weight of the mean absolute difference."""
    cosine_weight: float = Field(1.0, ge=0)
    """Weight of 1 minus the cosine."""

    @model_validator(mode="after")
    def _teaches(self) -> Self:
        if self.l1_weight + self.cosine_weight == 0:
            message = "l1_weight and cosine_weight are both 0; nothing would be learned"
            raise ValueError(message)
        return self


class StageSettings(Settings):
    """The optimiser of one of the two distillations: AdamW."""

    steps: int = Field(4000, ge=1)
    """Updates of the weights."""
    learning_rate: float = Field(2e-4, gt=0)
    """Highest learning rate of the weights."""
    warmup: float = Field(0.1, ge=0, lt=1)
    """Share of the steps over which the rate rises linearly; then it falls linearly to 0."""
    weight_decay: float = Field(0.0, ge=0)
    """Decoupled weight decay."""
    gradient_clip: float = Field(10.0, gt=0)
    """Longest gradient."""


class GateSettings(Settings):
    """The gates that decide what goes, and how they are driven to the target size."""

    start: float = Field(0.99, gt=0.5, lt=1)
    """How open gates are at the beginning: sigmoid(a) of `compression.gates`."""
    learning_rate: float = Field(0.02, gt=0)
    """Learning rate of gates and multipliers, from the first step to the last. Times the steps it
    should be 30 or more, so that the size is reached: 0.1 for 300 steps."""
    rise: float = Field(0.3, gt=0, le=1)
    """Share of the steps over which the size to reach falls from the whole to the target."""


class BatchSettings(Settings):
    """What is listened to."""

    utterances: int = Field(8, ge=1)
    """Pieces in a batch on each device."""
    longest_s: float = Field(5.0, gt=0)
    """Pieces of longer recordings are so long, from a random place."""
    shortest_s: float = Field(1.0, gt=0)
    """Shorter recordings are left out."""


class TrainerSettings(Settings):
    """How the work is kept."""

    accumulate: int = Field(1, ge=1)
    """Batches of each device for one update of the weights."""
    checkpoint_steps: int = Field(200, ge=1)
    """Updates from one checkpoint to the next; the last two are kept."""
    log_steps: int = Field(10, ge=1)
    """Updates from one line of the log to the next."""
    workers: int = Field(1, ge=0)
    """Processes of each device that read audio."""
    bfloat16: bool = False
    """Whether products run in bfloat16, on devices that have such."""


class CompressionSettings(Settings):
    """The whole run: distillation with gates, pruning, distillation of what is left."""

    seed: int = 1
    """Seed of everything drawn."""
    objective: ObjectiveSettings = ObjectiveSettings()
    """What the student is taught."""
    pruning: StageSettings = StageSettings()
    """The distillation during which gates shut."""
    gates: GateSettings = GateSettings()
    """The gates."""
    recovery: StageSettings = StageSettings(learning_rate=1e-4)
    """The distillation after the pruning."""
    batches: BatchSettings = BatchSettings()
    """What is listened to."""
    trainer: TrainerSettings = TrainerSettings()
    """How the work is kept."""


def parse_share(size: str | float) -> float:
    """Read a share such as "20%" or 0.2; raises SettingsError unless it is between 0 and 1."""
    text = str(size).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share < 1:
        raise SettingsError(
            f"the target size is '{size}': give the share of the encoder that stays, such as 20%."
        )
    return share
