"""Our models in pyannote.audio: as a `Model` that its tasks train, and as a `Pipeline`.

A bridge: needs the extra `pyannote`. `WavLMSegmentation` is an encoder with the head that says who
is active; after training, `bundle_of` puts its weights back into a model of ours.
`Pipeline.from_pretrained(folder)` gives a `WavLMMeeting` for a folder that
`wavlm-meeting models convert --to pyannote` wrote.

B batch, N samples, T frames, S local speakers, K powerset classes.
"""

import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from math import ceil
from pathlib import Path
from typing import Any, Self

import torch
from huggingface_hub import snapshot_download
from pyannote.audio import Model, Pipeline
from pyannote.audio.core.task import Problem, Resolution, Specifications, Task
from pyannote.audio.pipelines.speaker_diarization import DiarizeOutput
from pyannote.core import Annotation
from pyannote.metrics.diarization import GreedyDiarizationErrorRate
from pyannote.pipeline.parameter import Uniform
from torch import Tensor, nn

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.folders import CARD, WEIGHTS
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.config import parse_settings
from wavlm_meeting.diarization.load import PART, load_pipeline
from wavlm_meeting.diarization.matching import speaker_embeddings
from wavlm_meeting.diarization.model import DiarizationHeads, build_heads, powerset_table
from wavlm_meeting.diarization.pipeline import speaker_bounds
from wavlm_meeting.diarization.pyannote_audio import MeetingAudio
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.errors import CheckpointError, SettingsError, WavLMMeetingWarning
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

HEAD = "segmentation."
"""Where the powerset head stands among the parameters of a bundle's diarization heads."""
HEAD_RATE, ENCODER_RATE = 1e-3, 2e-5
"""Learning rates that fine-tune a WavLM under a new head (arXiv 2409.09408, section III)."""


class WavLMSegmentation(Model):
    """An encoder and the head that says which local speakers are active, for pyannote's tasks.

    Both forms give log-probabilities of a powerset; in the form `eend-vc`, whose speakers are
    independent, those are what its activities come to, and its speaker vectors are not trained.
    A task with other numbers of speakers gets a new last layer. `configure_optimizers` trains the
    encoder slowly; `freeze_by_name("encoder")` leaves it as it is, which the embeddings of the
    powerset form need to stay valid.
    """

    sets: Tensor
    head: nn.Module

    def __init__(
        self,
        encoder: Mapping[str, Any],
        heads: Mapping[str, Any],
        sample_rate: int = SAMPLE_RATE,
        num_channels: int = 1,
        task: Task | None = None,
    ) -> None:
        """Build it from what a card says under `[encoder]` and `[heads.diarization]`."""
        if sample_rate != SAMPLE_RATE:
            raise SettingsError(f"sample_rate is {sample_rate}: only {SAMPLE_RATE} is possible.")
        super().__init__(sample_rate=sample_rate, num_channels=num_channels, task=task)
        self.save_hyperparameters("encoder", "heads")
        self.audio = MeetingAudio()
        self.task_dependent: list[str] = []  # pyannote.audio 4.0 reads it before it is set
        self.encoder = WavLM(parse_settings(encoder, WavLMConfig, "encoder"))
        self.settings = parse_settings(heads, DiarizationSettings, "heads")
        self._make_head()
        if task is None:
            self.specifications = self._own_specifications()

    @classmethod
    def from_bundle(cls, model: str | Path = "tiny", task: Task | None = None) -> Self:
        """Start from a model of ours: an embedded name, a folder or an id on the hub.

        Raises CheckpointError if it is not found or has no diarization heads.
        """
        bundle = load_model(model)
        if PART not in bundle.state:
            raise CheckpointError(f"{model}: has no diarization heads; take 'tiny'.")
        made = cls(bundle.card.encoder.model_dump(mode="json"), bundle.card.heads[PART])
        made.encoder.load_state_dict(bundle.state[ENCODER])
        state = bundle.state[PART]
        if made.settings.form == "powerset":
            state = {
                name.removeprefix(HEAD): tensor
                for name, tensor in state.items()
                if name.startswith(HEAD)
            }
        made.head.load_state_dict(state)
        if task is not None:
            made.task = task
        return made

    def build(self) -> None:
        """Fit the last layer to the speakers of the task; pyannote.audio calls it.

        Raises SettingsError for a task of another kind.
        """
        asked = self.specifications
        if isinstance(asked, tuple) or asked.classes is None or not asked.powerset:
            raise SettingsError("WavLMSegmentation: train it with the task SpeakerDiarization.")
        wanted = {
            "local_speakers": len(asked.classes),
            "at_once": asked.powerset_max_classes,
        }
        if any(getattr(self.settings, name) != value for name, value in wanted.items()):
            self.settings = self.settings.model_copy(update=wanted)
            self._make_head()

    def forward(self, waveforms: Tensor, **_: Any) -> Tensor:
        """Return log-probabilities (B, T, K) for waveforms (B, 1, N)."""
        hidden_states = self.encoder(waveforms[:, 0]).hidden_states
        if self.settings.form == "powerset":
            scores: Tensor = self.head(hidden_states)
            return scores
        logits, _ = self.head(hidden_states)  # (B, T, S)
        return (logits @ self.sets.T).log_softmax(dim=-1)

    @property
    def dimension(self) -> int:
        """K."""
        return len(self.sets)

    def num_frames(self, num_samples: int) -> int:
        """Return how many frames samples give."""
        return self.encoder.config.frame_count(num_samples)

    def receptive_field_size(self, num_frames: int = 1) -> int:
        """Return how many samples consecutive frames see together."""
        config = self.encoder.config
        return config.receptive_field + (num_frames - 1) * config.hop

    def receptive_field_center(self, frame: int = 0) -> int:
        """Return the sample in the middle of what a frame sees."""
        config = self.encoder.config
        return frame * config.hop + (config.receptive_field - 1) // 2

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW, slower for the encoder."""
        rates = ((self.encoder, ENCODER_RATE), (self.head, HEAD_RATE))
        return torch.optim.AdamW([{"params": part.parameters(), "lr": lr} for part, lr in rates])

    def _make_head(self) -> None:
        config, settings = self.encoder.config, self.settings
        heads = build_heads(config.layers, config.width, settings)
        self.head = heads.segmentation if isinstance(heads, DiarizationHeads) else heads
        sets = powerset_table(settings.local_speakers, settings.at_once)  # (K, S)
        self.register_buffer("sets", sets.to(self.device), persistent=False)

    def _own_specifications(self) -> Specifications:
        settings = self.settings
        return Specifications(
            problem=Problem.MONO_LABEL_CLASSIFICATION,
            resolution=Resolution.FRAME,
            duration=settings.window_s,
            classes=[f"speaker#{number + 1}" for number in range(settings.local_speakers)],
            powerset_max_classes=settings.at_once,
            permutation_invariant=True,
        )


def bundle_of(model: WavLMSegmentation, base: Bundle) -> Bundle:
    """Put what was trained in pyannote.audio into the model it started from.

    The figures on the card are left out: they are of other weights. If the encoder was trained, a
    warning says so where the other heads of `base` read its hidden states.

    Raises:
        CheckpointError: `base` is of another architecture.
    """
    card, settings = base.card, model.settings
    if PART not in base.state or card.encoder != model.encoder.config:
        raise CheckpointError(f"{card.name}: not the architecture that was trained.")
    encoder = {name: tensor.detach().cpu() for name, tensor in model.encoder.state_dict().items()}
    trained = {name: tensor.detach().cpu() for name, tensor in model.head.state_dict().items()}
    if settings.form == "powerset":
        others = {name: t for name, t in base.state[PART].items() if not name.startswith(HEAD)}
        trained = {**others, **{HEAD + name: tensor for name, tensor in trained.items()}}
        before = base.state[ENCODER]
        if any(not torch.equal(tensor, before[name]) for name, tensor in encoder.items()):
            warnings.warn(
                f"{card.name}: the encoder was trained, and the embeddings have not seen what it "
                "gives now: train them too ('wavlm-meeting finetune diarization'), or freeze it.",
                WavLMMeetingWarning,
                stacklevel=2,
            )
    numbers = {"local_speakers": settings.local_speakers, "at_once": settings.at_once}
    heads = {**card.heads, PART: {**card.heads[PART], **numbers}}
    card = card.model_copy(update={"heads": heads, "figures": {}, "weights": None})
    return replace(base, card=card, state={**base.state, ENCODER: encoder, PART: trained})


class WavLMMeeting(Pipeline):
    """A model of ours that pyannote.audio runs, tunes and scores as it does its own pipelines.

    Audio files are read by our reader: torchcodec is not needed.

    Args:
        model: An embedded name, a folder or an id on the hub; a `config.yaml` says `$model/`,
            which pyannote.audio replaces by where it found the file.
        legacy: Whether to give an Annotation alone, as pyannote.audio 3 did.
        token: For models on the hub.
        cache_dir: Where those are kept.
    """

    def __init__(
        self,
        model: str | Path | Mapping[str, Any] = "tiny",
        legacy: bool = False,
        token: str | bool | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call] # pyannote.pipeline has no types
        self.legacy = legacy
        self.inner = load_pipeline(_found(model, token, cache_dir), "cpu")
        self.encoder, self.heads = self.inner.encoder, self.inner.heads  # what `to` moves
        self.threshold = Uniform(0.0, 2.0)
        self.onset = Uniform(0.05, 0.95)
        self.min_duration_on = Uniform(0.0, 1.0)
        self.min_duration_off = Uniform(0.0, 1.0)
        self.instantiate(self.default_parameters())

    def default_parameters(self) -> dict[str, float]:
        """Return what the model's card says."""
        settings = self.inner.settings
        return {
            "threshold": settings.clustering.joined_to,
            "onset": settings.onset,
            "min_duration_on": settings.turn_s,
            "min_duration_off": settings.gap_s,
        }

    def classes(self) -> Iterator[str]:
        """Give the names that speakers can have."""
        number = 0
        while True:
            yield f"SPEAKER_{number:02d}"
            number += 1

    def get_metric(self) -> GreedyDiarizationErrorRate:
        """Return what tuning makes small."""
        return GreedyDiarizationErrorRate()

    def apply(
        self,
        file: Mapping[str, Any],
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        hook: Callable[..., Any] | None = None,
    ) -> DiarizeOutput | Annotation:
        """Diarize a file that pyannote.audio has checked.

        `hook` is told of the step "segmentation" while it goes on. Raises AudioError if the file
        cannot be read, SettingsError if the numbers of speakers contradict each other.
        """
        least, most = speaker_bounds(num_speakers, min_speakers, max_speakers)
        tell = self.setup_hook(file, hook)

        def progress(done_s: float, total_s: float | None) -> None:
            tell("segmentation", None, completed=round(done_s), total=ceil(total_s or done_s))

        source, channel = _source_of(file)
        inner = self.inner
        with inner.open_journal(None, source, channel) as windows:
            heard = inner.listen(source, channel, progress, windows)
            found = inner.assemble(file["uri"], heard, least, most, self._settings())
            hop = inner.encoder.config.hop
            embeddings = speaker_embeddings(found, heard.local, hop / SAMPLE_RATE, hop)
        annotation = found.to_annotation()
        tell("discrete_diarization", annotation)
        if self.legacy:
            return annotation
        place = {name: number for number, name in enumerate(found.speakers)}
        return DiarizeOutput(
            speaker_diarization=annotation,
            exclusive_speaker_diarization=found.exclusive().to_annotation(),
            speaker_embeddings=embeddings[[place[name] for name in annotation.labels()]],
        )

    def _settings(self) -> DiarizationSettings:
        """Return the card's settings with this pipeline's parameters in them."""
        settings = self.inner.settings
        return settings.model_copy(
            update={
                "clustering": settings.clustering.joining_to(self.threshold),
                "onset": self.onset,
                "turn_s": self.min_duration_on,
                "gap_s": self.min_duration_off,
            }
        )


def _found(
    model: str | Path | Mapping[str, Any], token: str | bool | None, cache_dir: str | Path | None
) -> str:
    """Return the name of a model here, or fetch the revision that a `config.yaml` is of."""
    if not isinstance(model, Mapping):
        return str(model)
    checkpoint = str(model["checkpoint"])
    if Path(checkpoint).is_dir():
        return checkpoint
    return snapshot_download(
        checkpoint,
        revision=model.get("revision"),
        token=model.get("token", token),
        cache_dir=model.get("cache_dir", cache_dir),
        allow_patterns=[CARD, WEIGHTS],
    )


def _source_of(file: Mapping[str, Any]) -> tuple[str | Tensor, int | None]:
    """Return what our pipeline reads, and the channel, counted from 1."""
    if "waveform" in file:
        samples, _ = MeetingAudio()(file)
        return samples[0], None
    channel = file.get("channel")
    return str(file["audio"]), None if channel is None else channel + 1
