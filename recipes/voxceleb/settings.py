"""Every choice of the recipe; `large.toml` is the paper's, the others say what they change."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field, model_validator

from wavlm_meeting.config import Settings, merged
from wavlm_meeting.heads.speaker import SpeakerConfig
from wavlm_meeting.recipes.card_settings import CardSettings
from wavlm_meeting.recipes.voxceleb.corpora import Part
from wavlm_meeting.training.speaker_training import SpeakerTrainingSettings
from wavlm_meeting.verification.backend import BackendSettings

CLEANED = {"O": "veri_test2.txt", "E": "list_test_all2.txt", "H": "list_test_hard2.txt"}
"""VoxCeleb1's cleaned trial lists, as they are published."""
FBANK = "fbank"
"""Instead of an encoder: the baseline, ECAPA-TDNN on a filterbank."""
TRAININGS = ("frozen", "joint", "large_margin")
"""The three trainings, each of which begins with the weights of the one before it."""


class DataSettings(Settings):
    """What is trained on and tested."""

    train: tuple[Part, ...] = Field(("vox2-dev",), min_length=1)
    """Parts to train on."""
    lists: dict[Annotated[str, Field(pattern=r"^[\w-]+$")], str] = Field(CLEANED, min_length=1)
    """Trial lists: what they are called in the table, and the name of the file."""
    held_out: int = Field(100, ge=2)
    """Training speakers with several sessions that are not trained on: scores are calibrated on
    them."""
    seed: int = 1
    """Seed of the choice of these, and of simulated rooms."""
    simulated_rooms: int = Field(0, ge=0)
    """Rooms to simulate beside those that there are."""
    workers: int = Field(0, ge=0)
    """Processes that read and decode; 0: one a core."""


class CohortSettings(Settings):
    """What scores are normalised with."""

    speakers: int = Field(3000, ge=2)
    """Training speakers, at most, drawn at random."""
    utterances: int = Field(10, ge=1)
    """Recordings that a speaker's mean voice is made of, at most."""
    telephone: float = Field(0.0, ge=0, le=1)
    """Share of the speakers who are heard through a telephone: a recording's scores are compared
    with those closest to it, and so, where it came through one, with voices that did."""
    seed: int = 1
    """Seed of what is drawn."""


class CalibrationSettings(Settings):
    """Trials of held-out speakers that scores are calibrated on.

    Each recording is there whole and as a short piece; a third of the trials compares two short
    ones, a third a short and a long one, a third two long ones (Thienpondt et al., "The IDLab
    VoxSRC-20 submission", ICASSP 2021), so that what duration does to scores is learned.
    """

    lists: tuple[str, ...] = ()
    """Trial lists to calibrate on in place of held-out speakers: for a model that has heard these.
    What is said of the lists afterwards is no test."""
    recordings: int = Field(10, ge=2)
    """Recordings of a speaker, at most."""
    short_s: tuple[float, float] = (2.0, 6.0)
    """Bounds of a short piece's length (uniform); shorter recordings stay whole."""
    telephone: bool = False
    """Whether each trial is there twice more: with one of its sides through a telephone, and with
    both. A band that two recordings have in common makes strangers alike."""
    trials: int = Field(30_000, ge=100)
    """Trials, half of them of one speaker in two sessions, the others of two of one source."""
    seed: int = 1
    """Seed of what is drawn."""


class VoxCelebSettings(CardSettings):
    """The whole recipe.

    A table `training` holds what the three trainings share; each of them says what it changes.
    """

    encoder: str = "microsoft/wavlm-large"
    """Name, folder, file or hub id of an encoder, or "fbank"."""
    start: str = ""
    """A speaker model, such as "tiny", to train on instead of a new network on an encoder; without
    any training it gets a backend as it is."""
    kept: float = Field(0.0, ge=0, lt=1)
    """Share of the weights of `start` in the finished model, beside those of the trained one: it
    keeps more of what it could (Wortsman et al., "Robust fine-tuning of zero-shot models", CVPR
    2022)."""
    data: DataSettings = DataSettings()
    """What is trained on and tested."""
    model: SpeakerConfig = SpeakerConfig()
    """The network on top of the encoder."""
    frozen: SpeakerTrainingSettings | None = None
    """First training, of the new network alone."""
    joint: SpeakerTrainingSettings | None = None
    """Second training, of all."""
    large_margin: SpeakerTrainingSettings | None = None
    """Third training, on longer pieces with a larger margin."""
    cohort: CohortSettings = CohortSettings()
    """What scores are normalised with."""
    calibration: CalibrationSettings = CalibrationSettings()
    """Trials that scores become log-likelihood ratios by."""
    backend: BackendSettings = BackendSettings()
    """How scores are normalised and calibrated."""
    resamples: int = Field(1000, ge=0)
    """Draws of speakers that confidence intervals come from; 0 for none."""
    baselines: bool = False
    """Whether Resemblyzer and the moments of MFCC are tried on the same lists."""
    description: str = "Says what a voice is like."
    """What the card says of it."""

    @model_validator(mode="before")
    @classmethod
    def _share_training(cls, values: Any) -> Any:
        shared = values.get("training") if isinstance(values, Mapping) else None
        if not isinstance(shared, Mapping):
            return values
        own = {key: value for key, value in values.items() if key != "training"}
        for name in TRAININGS:
            if isinstance(own.get(name), Mapping):
                own[name] = merged(shared, own[name])
        return own

    @model_validator(mode="after")
    def _has_a_training(self) -> "VoxCelebSettings":
        if self.frozen is None and self.joint is None and (self.large_margin or not self.start):
            message = (
                "nothing to train: give a table frozen or joint, or a start that gets a backend"
            )
            raise ValueError(message)
        if not self.start and (self.encoder == FBANK) != (self.model.features == FBANK):
            message = (
                f"encoder is '{self.encoder}', but the model is on {self.model.features}: take "
                "settings that fit, or change model.features"
            )
            raise ValueError(message)
        if self.encoder == FBANK and self.frozen is not None:
            message = "frozen: a filterbank has nothing to freeze; leave that table out"
            raise ValueError(message)
        taught = {each.batches.speeds for each in self.trainings().values() if is_taught(each)}
        if len(taught) > 1:
            message = "trainings with a teacher hear different speeds; give all the same"
            raise ValueError(message)
        unknown = [name for name in self.calibration.lists if name not in self.data.lists]
        if unknown:
            message = f"calibration.lists: there is no '{unknown[0]}' in data.lists; name it there"
            raise ValueError(message)
        if self.kept and not (self.start and self.trainings()):
            message = "kept is a share of the weights that training starts with; leave it out"
            raise ValueError(message)
        return self

    def trainings(self) -> dict[str, SpeakerTrainingSettings]:
        """Return the trainings that there are, in their order."""
        given = {name: getattr(self, name) for name in TRAININGS}
        return {name: training for name, training in given.items() if training is not None}

    def taught(self) -> tuple[float, ...]:
        """Return the speeds at which a teacher is heard; none where no training has one."""
        speeds = (each.batches.speeds for each in self.trainings().values() if is_taught(each))
        return next(speeds, ())


def is_taught(training: SpeakerTrainingSettings) -> bool:
    """Tell whether a teacher's embeddings are part of the objective."""
    return training.task.teacher_weight > 0
