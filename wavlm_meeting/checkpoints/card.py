"""The card of a model: what it is, what it may be used for, what it was made of, how good it is."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from wavlm_meeting.checkpoints.folders import CARD
from wavlm_meeting.checkpoints.toml import dumps
from wavlm_meeting.config import Settings, read_toml
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.wavlm.config import WavLMConfig

Storage = Literal["float32", "float16", "bfloat16", "int8"]
"""Number format in which a bundle stores its parameters; they are float32 once loaded."""


class Material(Settings):
    """Something that a model was made from: a corpus, or another model that taught it."""

    name: str
    """What it is called, with its version or split."""
    licence: str
    """Its licence, as an SPDX expression where there is one."""
    use: str = ""
    """What it served for."""


class Training(Settings):
    """How a model came to be."""

    data: tuple[Material, ...] = ()
    """Corpora whose audio or labels it has seen."""
    teachers: tuple[Material, ...] = ()
    """Models whose outputs it was trained on, or whose weights it started from."""
    recipe: str = ""
    """What makes it again: a recipe of this project, or where it comes from."""


class Weights(Settings):
    """The file of parameters that a card belongs to; filled in when the bundle is written."""

    sha256: str
    """SHA-256 of `model.safetensors`, in hexadecimal."""
    storage: Storage
    """Number format of the stored parameters."""


class Card(Settings):
    """All that is known of a model beside its parameters; `card.toml` in a bundle."""

    name: str
    """Short name, as a user types it."""
    version: str
    """Version of the weights."""
    licence: str
    """Licence of the weights, as an SPDX expression where there is one."""
    description: str
    """What the model does, in a sentence or two."""
    encoder: WavLMConfig
    """Architecture of the encoder."""
    heads: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Plain numbers that each head is built from, by part."""
    training: Training = Training()
    """Data, teachers and recipe."""
    figures: dict[str, float | str] = Field(default_factory=dict)
    """Measured quality, by what was measured on what."""
    weights: Weights | None = None
    """Hash and number format of the parameters; `write_bundle` sets it."""


def read_card(folder: str | Path) -> Card:
    """Read a bundle's card alone; raises CheckpointError if it is missing or not a card."""
    try:
        return read_toml(Path(folder) / CARD, Card)
    except SettingsError as error:
        raise CheckpointError(str(error)) from None


def note_figures(folder: str | Path, figures: Mapping[str, float | str]) -> None:
    """Add to what a bundle's card says of its quality; raises CheckpointError without a card."""
    card = read_card(folder)
    card = card.model_copy(update={"figures": {**card.figures, **figures}})
    with atomic_write(Path(folder) / CARD) as temporary:
        temporary.write_text(dumps(card.model_dump(mode="json")), encoding="utf-8")
