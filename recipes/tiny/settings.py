"""Every choice of the recipe; `tiny.toml` holds the values that the shipped model came from."""

from typing import Any, Self

from pydantic import Field, model_validator

from wavlm_meeting.audio.simulate import ConversationSettings
from wavlm_meeting.checkpoints.card import Storage, Training
from wavlm_meeting.compression.settings import CompressionSettings
from wavlm_meeting.config import Settings
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.diarization.task import TaskSettings
from wavlm_meeting.heads.speaker import SpeakerConfig
from wavlm_meeting.pretraining.kmeans import KMeansSettings
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.recipes.tiny.voice_scenes import VoiceSceneSettings
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.separation.task import TaskSettings as SeparationTaskSettings
from wavlm_meeting.training.separation_data import MixtureBatchSettings
from wavlm_meeting.training.trainer import TrainerSettings
from wavlm_meeting.wavlm.config import WavLMConfig


class PrepareSettings(Settings):
    """What is made of the corpus before all else."""

    speeds: tuple[tuple[int, int], ...] = ((10, 9), (10, 11))
    """Further copies of the training speech, as other speakers: samples after and before, so that
    (10, 11) is 1.1 times the speed."""


class DataSettings(Settings):
    """Windows that the model is trained on."""

    window_s: float = Field(10.0, gt=0)
    """Length of a window."""
    batch: int = Field(8, ge=1)
    """Windows in a batch."""
    conversation_windows: int = Field(1, ge=1)
    """Windows cut out of each conversation; `batch` counts windows."""
    in_a_row: int = Field(1, ge=1)
    """So many of these follow each other, as the target-speaker head hears them. If there are more,
    the next row is from further on in the conversation, where everybody is to be known again."""
    spread: float = Field(2.0, ge=1.1)
    """Length of a conversation as a multiple of that of the rows that are cut out of it."""
    speaker_shares: tuple[float, ...] = (0.1, 0.35, 0.35, 0.2)
    """Probability of a conversation between 1, 2, ... speakers."""
    voice_batches: int = Field(0, ge=0)
    """So many batches come first that hold one voice in each window: voices are learned much faster
    from them, and telling them apart within a window then needs voices."""
    voice_window_s: float = Field(2.5, gt=0)
    """Length of those windows; a batch has as many more of them as they are shorter."""
    silence: float = Field(0.0, ge=0, le=1)
    """Probability of a window in which nobody speaks, where windows do not follow each other."""
    meetings: float = Field(0.0, ge=0, le=1)
    """Probability of a window of a real recording of the train split."""
    whole_speaker: bool = False
    """Whether the teacher's embedding of a voice is the mean over all of its utterances instead of
    those that are heard: what days and microphones add to a voice, they have less in common."""
    coded: float = Field(0.0, ge=0, le=1)
    """Probability of a speaker's copies that went through a codec, where the stage `channels` made
    some."""
    one_source: float = Field(0.7, ge=0, le=1)
    """Probability that all speakers of a conversation come from one source."""
    sources: dict[str, float] = Field(default_factory=dict)
    """Weight of each source; all equal if empty."""
    conversation: ConversationSettings = ConversationSettings()
    """How conversations are drawn."""

    @model_validator(mode="after")
    def _whole_rows(self) -> Self:
        if self.conversation_windows % self.in_a_row:
            raise ValueError(
                f"conversation_windows is {self.conversation_windows} and in_a_row "
                f"{self.in_a_row}: make it a multiple."
            )
        return self


class ChainSettings(Settings):
    """Pretraining of the encoder: two models and their labels.

    The encoder of either is the whole recipe's, but for the position bias, and batches are of crops
    as they are described here.
    """

    crop_s: float = Field(4.0, gt=0)
    """Length of a crop; shorter utterances are heard whole."""
    crops: int = Field(12, ge=1)
    """Crops of a batch."""
    shortest_s: float = Field(1.5, gt=0)
    """Shorter utterances are left out."""
    noises: int = Field(8, ge=0)
    """Noises that the crops of a batch are mixed with."""
    frames: int = Field(300_000, ge=1)
    """Frames that clusters are found on."""
    mfcc: KMeansSettings = KMeansSettings(clusters=100, restarts=5)
    """Clusters of MFCC, which the first model is trained on."""
    first: PretrainingSettings = PretrainingSettings()
    """First model."""
    layer: int = Field(2, ge=0)
    """Layer of the first model whose states are clustered."""
    units: KMeansSettings = KMeansSettings(clusters=250, restarts=5)
    """Clusters of these states."""
    second: PretrainingSettings = PretrainingSettings()
    """Second model, the one that is kept."""


class SeparateSettings(Settings):
    """The separation head and its training."""

    seed: int = 1
    """Seed of new weights and of mixtures."""
    head: SeparationSettings = SeparationSettings()
    """Sizes of the head, and how recordings are cut."""
    task: SeparationTaskSettings = SeparationTaskSettings()
    """Objective and optimiser."""
    batches: MixtureBatchSettings = MixtureBatchSettings()
    """How mixtures are drawn."""
    trainer: TrainerSettings = TrainerSettings()
    """How the work is kept."""


class VoiceSettings(Settings):
    """The head for verification on filterbanks, and how it is taught."""

    seed: int = 1
    """Seed of new weights and of what is drawn."""
    head: SpeakerConfig = SpeakerConfig(features="fbank", instance_norm=False)
    """Sizes of the head, which is on filterbanks; its embeddings are the teacher's in so many
    directions, around their mean."""
    seconds: float = Field(256.0, gt=0)
    """Speech of a batch."""
    lengths_s: tuple[float, ...] = Field((1.6, 2.4, 3.6), min_length=1)
    """How long its stretches are, one of these in each batch. The teacher hears 1.6 s at a time."""
    scene: VoiceSceneSettings = VoiceSceneSettings()
    """How they are changed."""
    steps: int = Field(1500, ge=1)
    """Updates of the weights."""
    learning_rate: float = Field(2e-3, gt=0)
    """Highest learning rate."""
    warmup: float = Field(0.05, ge=0, lt=1)
    """Share of a cycle over which it rises linearly; then it falls linearly to 0."""
    cycles: int = Field(1, ge=1)
    """How often it does so (warm restarts, arXiv 1608.03983): what has ended can go on."""
    weight_decay: float = Field(0.01, ge=0)
    """Of matrices, each step as a share of the learning rate."""
    gradient_clip: float = Field(1.0, gt=0)
    """Longest gradient."""
    average: float = Field(0.9, ge=0, lt=1)
    """What the running mean of the weights keeps of itself every tenth update."""
    compile: bool = False
    """Compile the head with `torch.compile`: minutes at first, then twice the speed."""
    trainer: TrainerSettings = TrainerSettings()
    """How the work is kept."""


class CompressSettings(Settings):
    """A round that makes the model before it smaller instead of training on."""

    share: str = "50%"
    """Of the encoder's parameters, what stays."""
    batches: int = Field(300, ge=1)
    """Batches of conversations that it listens to while it is pruned and taught again."""
    distillation: CompressionSettings = CompressionSettings()
    """Both distillations."""


class EvaluationSettings(Settings):
    """Conversations for choosing (dev speakers) and reporting (test speakers)."""

    seed: int = 20_260_101
    """Seed of the set."""
    speakers: tuple[int, ...] = (2, 3, 4, 5, 6)
    """Numbers of speakers."""
    conversations: int = Field(6, ge=1)
    """Conversations of each number of speakers."""
    length_s: float = Field(120.0, gt=0)
    """Length of a conversation."""
    solos: int = Field(20, ge=0)
    """Recordings of one speaker alone, which thresholds are chosen on too."""
    calls: int = Field(12, ge=0)
    """Calls of two and of three speakers, all through one channel, as many of each; the same."""
    short_s: float = Field(30.0, gt=0)
    """Length of these."""
    overlap: tuple[float, float] = (0.1, 0.2)
    """Bounds of the share of overlapped speech; conversations outside are drawn again."""
    one_source: float = Field(0.5, ge=0, le=1)
    """Probability that all speakers come from one source, where only the voice differs."""
    conversation: ConversationSettings = ConversationSettings()
    """How conversations are drawn."""


class CardSettings(Settings):
    """What the card says beside sizes and figures."""

    name: str = "untitled"
    """Short name of the model."""
    version: str = "0"
    """Version of the weights."""
    licence: str = "unknown"
    """Licence of the weights."""
    description: str = ""
    """What the model is, in a sentence or two."""
    storage: Storage = "float16"
    """Number format of the bundle's parameters."""
    training: Training = Training()
    """Data and teachers with their licences, and the recipe."""


class TinySettings(Settings):
    """The whole recipe."""

    seed: int = 1
    """Seed of weights and data."""
    after: str = ""
    """Settings of the round before this one, from the folder of this file: where no other start is
    named, that round is made first, and this one begins with its weights as they are stored."""
    encoder: WavLMConfig
    """Architecture of the encoder."""
    diarization: DiarizationSettings = DiarizationSettings()
    """Sizes of the heads, and how recordings are cut and clustered."""
    prepare: PrepareSettings = PrepareSettings()
    """What the stage `prepare` leaves."""
    data: DataSettings = DataSettings()
    """Training windows."""
    pretraining: ChainSettings | None = None
    """Pretraining of the encoder, if there is one."""
    separation: SeparateSettings | None = None
    """The separation head, if there is one."""
    voices: VoiceSettings | None = None
    """The head for verification, if there is one beside diarization's."""
    compression: CompressSettings | None = None
    """Makes what the round before leaves smaller, in the place of a training, if there is one."""
    task: TaskSettings = TaskSettings()
    """Objective and optimiser."""
    average: float = Field(0.0, ge=0, lt=1)
    """What the running mean of the weights keeps of itself every tenth update; it is what
    checkpoints hold. 0 keeps the last weights instead."""
    start_share: float = Field(0.0, ge=0, lt=1)
    """Share of the weights that a round began with in those that it leaves, which are a mean of the
    two: what the round has learned anew, and less of what it has lost (arXiv 2109.01903)."""
    averaged_with: tuple[str, ...] = ()
    """Other trainings with the same start, by the names of their settings in the folder of this
    file: weights are the mean of theirs and this one's (arXiv 2203.05482). Before `start_share`."""
    evaluation: EvaluationSettings = EvaluationSettings()
    """Conversations for choosing and reporting."""
    card: CardSettings = CardSettings()
    """What the card says."""
    backend: str = "small"
    """Settings of the recipe `voxceleb`, by name or as a path, that the stage `backend` fits by."""
    variants: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """What the stage `variants` trains beside each other: changes to all of this, by name. Where a
    table may be missing, `false` takes it away: `pretraining = false`."""
