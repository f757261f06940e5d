"""Every choice of a chain of pretraining; each recipe's TOML holds its own."""

from pathlib import Path
from typing import TypeVar

from pydantic import Field

from wavlm_meeting.checkpoints.card import Training
from wavlm_meeting.config import Settings, read_toml
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.kmeans import KMeansSettings
from wavlm_meeting.pretraining.settings import PretrainingSettings


class LabelSettings(Settings):
    """One set of pseudo-labels."""

    frames: int = Field(1_000_000, ge=1)
    """Frames that clusters are found on, drawn at random from all."""
    kmeans: KMeansSettings = KMeansSettings()
    """How clusters are found."""


class UnitSettings(LabelSettings):
    """Labels from a layer of an encoder."""

    encoder: str | None = None
    """Encoder to take them from: a name, folder, file or hub id; the first model if none is named.
    With one there is no first model, and no MFCC labels."""
    layer: int | None = Field(None, ge=0)
    """Layer whose output is clustered; 0 is the input of the first. If none is named, it is the one
    whose clusters know most about the words where these have times, else the middle one."""


class ChainSettings(Settings):
    """The whole chain."""

    shard_cuts: int = Field(500, ge=1)
    """Cuts of a shard."""
    mfcc: LabelSettings = LabelSettings(kmeans=KMeansSettings(clusters=100))
    """First labels."""
    first: PretrainingSettings | None = None
    """First model, trained on the MFCC labels; not needed where `units.encoder` is named."""
    units: UnitSettings = UnitSettings()
    """Second labels."""
    second: PretrainingSettings
    """Second model, trained on the units: the one that is kept."""
    name: str = "untitled"
    """Name on the card."""
    licence: str = "unknown"
    """Licence of the weights."""
    training: Training = Training()
    """Data with their licences."""


S = TypeVar("S", bound=Settings)


def recipe_settings(folder: Path, name: str, settings: type[S]) -> S:
    """Read settings: by the name of a TOML file in the recipe's `folder`, or from any other file.

    Raises SettingsError if there is no such file, or it does not fit.
    """
    own = {path.stem: path for path in sorted(folder.glob("*.toml"))}
    if name not in own and not name.endswith(".toml"):
        raise SettingsError(
            f"no settings '{name}': there are {', '.join(own)}, or give the path of a .toml file."
        )
    return read_toml(own.get(name, Path(name)), settings)
