"""Every choice of the recipe; the TOML files beside it hold what models are made with."""

from typing import Self

from pydantic import Field, model_validator

from wavlm_meeting.config import Settings
from wavlm_meeting.recipes.card_settings import CardSettings
from wavlm_meeting.recipes.libricss.rooms import RoomSettings
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.training.separation_training import SeparationTrainingSettings


class SimulatedSettings(Settings):
    """Mixtures of test speakers whose parts are known, so that signals can be compared."""

    seed: int = 7
    """Of rooms, talkers and noise."""
    rooms: int = Field(20, ge=1)
    """Rooms that no training has heard."""
    mixtures: int = Field(200, ge=1)
    """Two talkers all the time."""
    mixture_s: float = Field(8.0, gt=0)
    """Length of each."""
    conversations: int = Field(10, ge=1)
    """Conversations with little overlap."""
    conversation_s: float = Field(60.0, gt=0)
    """Length of each."""
    talkers: int = Field(4, ge=2, le=8)
    """Talkers of each."""
    overlap: float = Field(0.2, ge=0, lt=1)
    """Share of a conversation's speech in which two talk."""
    snr_db: tuple[float, float] = (10.0, 20.0)
    """Signal-to-noise ratio (uniform)."""


class LibriCssSettings(CardSettings):
    """The whole recipe."""

    encoder: str
    """Name, folder, file or hub id of the model that gets the head; its other heads stay."""
    separation: SeparationSettings = SeparationSettings()
    """Sizes of the head, and how recordings are cut."""
    head: str = ""
    """Model whose head of these sizes the training begins with although its encoder is another one;
    what reads the encoder is fitted first. Empty: a new head, or that of `encoder`."""
    rooms: RoomSettings = RoomSettings()
    """Rooms that mixtures are trained in."""
    train: SeparationTrainingSettings = SeparationTrainingSettings()
    """Training on mixtures."""
    simulated: SimulatedSettings = SimulatedSettings()
    """What signals are compared on."""
    microphones: tuple[int, ...] = Field((1, 7), min_length=1)
    """With how many microphones LibriCSS and the mixtures are separated."""
    diarizer: str = "tiny"
    """Model that says who spoke when, before and after separation; empty: none."""
    recogniser: str = ""
    """What writes down what was said: a folder or hub id of a CTC model, or `command:` and a
    program that prints the words of a WAV file; empty: word error rates are left out."""
    workers: int = Field(0, ge=0)
    """Processes that prepare recordings and simulate rooms; 0: one a core."""
    description: str = "Puts who talks at the same time on two tracks."
    """What the card says of it."""

    @model_validator(mode="after")
    def _microphones_are_there(self) -> Self:
        if not set(self.microphones) <= set(range(1, 8)):
            message = f"microphones {list(self.microphones)}: LibriCSS has 1 to 7"
            raise ValueError(message)
        return self
