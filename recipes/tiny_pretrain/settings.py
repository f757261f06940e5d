"""Every choice of the recipe; `tiny_pretrain.toml` holds those of the reported model."""

from pydantic import Field

from wavlm_meeting.checkpoints.card import Training
from wavlm_meeting.config import Settings
from wavlm_meeting.pretraining.kmeans import KMeansSettings
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.training.data import BatchSettings


class LabelSettings(Settings):
    """One set of pseudo-labels."""

    frames: int = Field(1_000_000, ge=1)
    """Frames that clusters are found on, drawn at random from all."""
    kmeans: KMeansSettings = KMeansSettings()
    """How clusters are found."""


class UnitSettings(LabelSettings):
    """Labels from a layer of the first model."""

    layer: int = Field(2, ge=0)
    """Layer whose output is clustered; 0 is the input of the first."""


class TinyPretrainSettings(Settings):
    """The whole chain."""

    batches: BatchSettings = BatchSettings()
    """Batches of both trainings."""
    mfcc: LabelSettings = LabelSettings(kmeans=KMeansSettings(clusters=100))
    """First labels."""
    first: PretrainingSettings
    """First model, trained on the MFCC labels."""
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
