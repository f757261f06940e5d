"""Every choice of a pretraining run, as a TOML file holds them."""

from pydantic import Field

from wavlm_meeting.config import Settings
from wavlm_meeting.pretraining.masking import MaskSettings
from wavlm_meeting.pretraining.mixing import MixingSettings
from wavlm_meeting.pretraining.objective import ObjectiveSettings
from wavlm_meeting.wavlm.config import BASE, WavLMConfig


class OptimizerSettings(Settings):
    """Adam and its schedule; defaults are those of Base."""

    steps: int = Field(400_000, ge=1)
    """Updates of the weights."""
    learning_rate: float = Field(5e-4, gt=0)
    """Highest learning rate."""
    warmup: float = Field(0.08, ge=0, lt=1)
    """Share of the steps over which the rate rises linearly; then it falls linearly to 0."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay."""
    gradient_clip: float = Field(10.0, gt=0)
    """Longest gradient (10 for Base, 1 for Large)."""
    bfloat16: bool = True
    """Whether products run in bfloat16."""


class GuardSettings(Settings):
    """What happens to a batch whose loss is not finite, or far above the usual."""

    spike: float = Field(3.0, gt=1)
    """A loss so many times the running mean is a spike."""
    skip: bool = False
    """Pass such a batch over and go on; else the run stops."""


class PretrainingSettings(Settings):
    """The whole run. HuBERT is `mixing.probability = 0` and `encoder.position_bias = "none"`."""

    seed: int = 1
    """Seed of weights, batches and everything drawn in a step."""
    encoder: WavLMConfig = BASE
    """Architecture."""
    objective: ObjectiveSettings = ObjectiveSettings()
    """What is predicted, and how it is weighed."""
    masks: MaskSettings = MaskSettings()
    """Which frames are hidden."""
    mixing: MixingSettings = MixingSettings()
    """What is laid under an utterance."""
    optimizer: OptimizerSettings = OptimizerSettings()
    """How the weights move."""
    guard: GuardSettings = GuardSettings()
    """What to do about broken batches."""
