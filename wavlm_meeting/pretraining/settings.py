"""Every choice of a pretraining run, as a TOML file holds them."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from wavlm_meeting.config import Settings, merged, read_toml
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.masking import MaskSettings
from wavlm_meeting.pretraining.mixing import MixingSettings
from wavlm_meeting.pretraining.objective import ObjectiveSettings
from wavlm_meeting.wavlm.config import BASE, WavLMConfig

SIZES = Path(__file__).with_name("sizes")
"""Folder with the settings of each named size."""


class OptimizerSettings(Settings):
    """Adam and its schedule; defaults are those of Base."""

    steps: int = Field(400_000, ge=1)
    """Updates of the weights."""
    learning_rate: float = Field(5e-4, gt=0)
    """Highest learning rate."""
    first_convolution: float = Field(1.0, ge=0)
    """Learning rate of the encoder's first convolution as a share of that of all else."""
    warmup: float = Field(0.08, ge=0, lt=1)
    """Share of the steps over which the rate rises linearly; then it falls linearly to 0."""
    weight_decay: float = Field(0.01, ge=0)
    """Decoupled weight decay."""
    gradient_clip: float = Field(10.0, gt=0)
    """Longest gradient (10 for Base, 1 for Large)."""
    bfloat16: bool = True
    """Whether products run in bfloat16, on devices that have such."""


class GuardSettings(Settings):
    """What happens to a batch whose loss is not finite, or far above the usual."""

    spike: float = Field(3.0, gt=1)
    """A loss so many times the running mean is a spike."""
    skip: bool = False
    """Pass such a batch over and go on; else the run stops."""


class BatchSettings(Settings):
    """How batches are made; defaults are those of Base."""

    seconds: float = Field(87.5, gt=0)
    """Seconds of audio in a batch on each device."""
    longest_s: float = Field(15.6, gt=0)
    """Longer cuts are cropped to this length, at a random place."""
    shortest_s: float = Field(2.0, gt=0)
    """Shorter cuts are left out."""
    buckets: int = Field(8, ge=1)
    """A batch holds cuts of one of so many ranges of length, so that little of it is padding."""
    buffer: int = Field(2000, ge=1)
    """Cuts that are kept in memory to draw from."""
    block: int = Field(16, ge=1)
    """Shards that are drawn from together; a run that goes on reads again what it has had of one
    block."""
    noises: int = Field(8, ge=1)
    """Pieces of noise that a batch is mixed from, where a noise set is given."""


class TrainerSettings(Settings):
    """How the work is spread and kept."""

    strategy: Literal["auto", "ddp", "fsdp"] = "auto"
    """Weights copied to every device (ddp) or sharded over them (fsdp, FSDP2); auto is ddp where it
    fits into a device's memory."""
    accumulate: int = Field(1, ge=1)
    """Batches of each device for one update of the weights."""
    recompute: bool = False
    """Keep no activations inside of a layer and compute them again for the gradients."""
    compile: bool = False
    """Compile each layer with `torch.compile`; its attention then takes the dense bias."""
    checkpoint_steps: int = Field(1000, ge=1)
    """Updates from one checkpoint to the next; the last two are kept."""
    log_steps: int = Field(50, ge=1)
    """Updates from one line of the log to the next."""
    workers: int = Field(2, ge=0)
    """Processes of each device that read audio; a worker needs a shard of its own."""


class PretrainingSettings(Settings):
    """The whole run. HuBERT is `mixing.probability = 0` and `encoder.position_bias = "none"`.

    A key `size` takes all that is not given from a named size: `size = "large"`.
    """

    seed: int = 1
    """Seed of weights, batches and everything drawn in a step."""
    start: Literal["random", "filterbank"] = "random"
    """What the frontend starts as; a filterbank needs one of two convolutions with LayerNorm."""
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
    batches: BatchSettings = BatchSettings()
    """How batches are made."""
    trainer: TrainerSettings = TrainerSettings()
    """How the work is spread and kept."""

    @model_validator(mode="after")
    def _encoder_is_whole(self) -> Self:
        if self.encoder.pruned:
            message = "encoder is a pruned one; leave out layer_heads and layer_ffn"
            raise ValueError(message)
        return self

    @model_validator(mode="before")
    @classmethod
    def _begin_with_size(cls, values: Any) -> Any:
        if not isinstance(values, Mapping) or "size" not in values:
            return values
        own = {key: value for key, value in values.items() if key != "size"}
        path = _size_path(str(values["size"]))
        if path is None:
            message = f"no size '{values['size']}': there are {', '.join(size_names())}"
            raise ValueError(message)
        return merged(tomllib.loads(path.read_text(encoding="utf-8")), own)


def size_names() -> list[str]:
    """Return the names of the sizes that have settings here."""
    return sorted(path.stem for path in SIZES.glob("*.toml"))


def named_settings(name: str) -> PretrainingSettings:
    """Read the settings of a named size, or of a TOML file.

    Raises SettingsError if `name` is neither.
    """
    path = _size_path(name)
    if path is None and not name.endswith(".toml"):
        raise SettingsError(
            f"no size '{name}': there are {', '.join(size_names())}, or give a .toml file."
        )
    return read_toml(path or name, PretrainingSettings)


def _size_path(name: str) -> Path | None:
    return SIZES / f"{name}.toml" if name in size_names() else None
