"""What settings of a recipe say of the finished model; it becomes the model's card."""

from wavlm_meeting.checkpoints.card import Storage, Training
from wavlm_meeting.config import Settings

ABOUT = frozenset({"name", "version", "licence", "description"})
"""Settings that the card has under the same names."""
CARD = ABOUT | {"storage", "training_data"}
"""All settings of the card."""


class CardSettings(Settings):
    """What the card says."""

    name: str = "untitled"
    """Name on the card."""
    version: str = "1"
    """Version of the weights."""
    licence: str = "unknown"
    """Licence of the weights."""
    description: str
    """What the card says of it."""
    storage: Storage = "float32"
    """Number format of the bundle's parameters."""
    training_data: Training = Training()
    """Data with their licences."""
