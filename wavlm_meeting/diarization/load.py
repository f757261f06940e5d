"""From the name of a model to a pipeline that runs it."""

from wavlm_meeting.checkpoints.bundle import ENCODER
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.checkpoints.skeleton import build_filled
from wavlm_meeting.config import parse_settings
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.diarization.model import DiarizationHeads
from wavlm_meeting.diarization.pipeline import DiarizationPipeline, Source
from wavlm_meeting.diarization.result import Diarization
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.wavlm.model import WavLM

PART = "diarization"
"""Name of the heads in a bundle."""


def load_pipeline(model: str = "tiny", device: str = "auto") -> DiarizationPipeline:
    """Load a model that diarizes, ready for any number of recordings.

    `model` is the name of an embedded model, a folder or an id on the Hugging Face hub; `device`
    is auto, cpu or cuda. Raises CheckpointError if the model is not found, damaged or has no
    diarization heads, DeviceError if the device is not there.
    """
    place = resolve_device(device)
    bundle = load_model(model)
    card, state = bundle.card, bundle.state
    if PART not in state:
        raise CheckpointError(
            f"{model}: has no diarization heads; take 'tiny', or add heads with a recipe."
        )
    where = f"{card.name}: heads.{PART}"
    settings = parse_settings(card.heads[PART], DiarizationSettings, where)
    config = card.encoder
    encoder = build_filled(lambda: WavLM(config), state[ENCODER], f"{card.name}: {ENCODER}")
    heads = build_filled(
        lambda: DiarizationHeads(config.layers, config.width, **settings.head_sizes()),
        state[PART],
        where,
    )
    sha256 = card.weights.sha256 if card.weights else ""
    return DiarizationPipeline(encoder.to(place), heads.to(place), settings, card.name, sha256)


def diarize(
    path_or_waveform: Source,
    model: str = "tiny",
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    device: str = "auto",
    channel: int | None = None,
) -> Diarization:
    """Say who spoke when.

    Args:
        path_or_waveform: A file that soundfile or PyAV reads, or mono samples (N,) at 16 kHz.
        model: Name of an embedded model, a folder, or an id on the Hugging Face hub.
        num_speakers: Number of speakers, if known.
        min_speakers: Fewest speakers there can be.
        max_speakers: Most speakers there can be.
        device: auto, cpu or cuda.
        channel: Channel of the file to listen to, from 1 on; None mixes all of them.

    Raises:
        AudioError: The recording cannot be read.
        CheckpointError: The model cannot be loaded.
        DeviceError: The device is not there.
        SettingsError: The numbers of speakers contradict each other.
    """
    pipeline = load_pipeline(model, device)
    return pipeline(
        path_or_waveform,
        channel=channel,
        num_speakers=num_speakers,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
    )
