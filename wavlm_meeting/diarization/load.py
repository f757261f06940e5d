"""From the name of a model to a pipeline that runs it."""

import os
import warnings
from pathlib import Path
from typing import Protocol

import torch

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.catalog import embedded_models
from wavlm_meeting.checkpoints.conformer_head import CONFORMER_CLASSIFIER
from wavlm_meeting.checkpoints.diarizen import fetch_diarizen, is_diarizen_id, read_diarizen
from wavlm_meeting.checkpoints.folders import CARD, CONFIG_YAML
from wavlm_meeting.checkpoints.hub import is_hub_id
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.checkpoints.precision import (
    Precision,
    check_precision,
    lower_encoder,
    lower_linear_maps,
)
from wavlm_meeting.checkpoints.skeleton import build_filled
from wavlm_meeting.config import parse_settings
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.diarization.diarizen import diarizen_pipeline
from wavlm_meeting.diarization.model import build_heads
from wavlm_meeting.diarization.pipeline import DiarizationPipeline, Progress, Source
from wavlm_meeting.diarization.result import Diarization
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.wavlm.model import WavLM

PART = "diarization"
"""Name of the heads in a bundle."""
VOICES = "tiny"
"""Model that hears whose voice it is beside a segmentation of DiariZen's."""
PYANNOTE_OWNER = "pyannote"
"""Whose ids on the hub are pipelines of pyannote.audio."""


class Diarizer(Protocol):
    """What is called to say who spoke when: a `DiarizationPipeline`, or one of pyannote.audio."""

    def __call__(
        self,
        source: Source,
        *,
        channel: int | None = None,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        clustering: str | None = None,
        exclusive: bool = False,
        min_turn_s: float | None = None,
        min_gap_s: float | None = None,
        faint_db: float | None = None,
        progress: Progress | None = None,
        journal: Path | None = None,
    ) -> Diarization:
        """Diarize a recording; parameters and errors are those of `DiarizationPipeline`."""


def load_pipeline(
    model: str = "mini", device: str = "auto", precision: Precision = "float32"
) -> DiarizationPipeline:
    """Load a model that diarizes, ready for any number of recordings.

    `model` is the name of an embedded model, a folder (DiariZen's among them) or an id on the
    Hugging Face hub; `device` is auto, cpu or cuda. `precision` is what the encoder computes in,
    and int8, which is for CPUs, is for the heads too. Raises CheckpointError if the model is not
    found, damaged or has no diarization heads, DeviceError if the device is not there or does not
    compute like this, SettingsError for another precision.
    """
    place = resolve_device(device)
    check_precision(precision, place)
    if is_pyannote(model):
        raise CheckpointError(
            f"{model}: a pipeline of pyannote.audio, which does whole recordings alone; take a "
            "model of wavlm-meeting here."
        )
    bundle = _read(model)
    if CONFORMER_CLASSIFIER in bundle.state:
        pipeline = diarizen_pipeline(bundle, _build(load_model(VOICES), VOICES, place))
    else:
        pipeline = _build(bundle, model, place)
    pipeline.precision = precision
    lower_encoder(pipeline.encoder, precision)
    if precision == "int8":
        lower_linear_maps(pipeline.heads)
    return pipeline


def load_diarizer(
    model: str = "mini", device: str = "auto", precision: Precision = "float32"
) -> Diarizer:
    """Load what diarizes whole recordings: what `load_pipeline` loads, or pyannote's pipelines.

    Those of pyannote.audio are named by an id of the owner `pyannote` on the hub, a folder with
    `config.yaml` or that file, and need the extra `pyannote`; they compute in float32. Raises as
    `load_pipeline` does.
    """
    if not is_pyannote(model):
        return load_pipeline(model, device, precision)
    place = resolve_device(device)
    if precision != "float32":
        raise SettingsError(
            f"{model}: a pipeline of pyannote.audio computes in float32, not in {precision}."
        )
    # Nothing is told about the use of this command unless its user asks for it.
    os.environ.setdefault("PYANNOTE_METRICS_ENABLED", "false")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of decoders that are not needed here
            from wavlm_meeting.diarization.pyannote_foreign import (  # noqa: PLC0415 - an extra
                load_pyannote,
            )
    except ImportError as error:
        raise CheckpointError(
            f"{model}: a pipeline of pyannote.audio, which cannot be imported ({error}): "
            "pip install 'wavlm-meeting[pyannote]'."
        ) from None
    return load_pyannote(model, place)


def is_pyannote(model: str) -> bool:
    """Tell whether a name stands for a pipeline of pyannote.audio that is not ours."""
    path = Path(model)
    if model in embedded_models():
        return False
    if path.is_dir():
        return (path / CONFIG_YAML).is_file() and not (path / CARD).is_file()
    if path.exists():
        return path.suffix in {".yaml", ".yml"}
    return is_hub_id(model) and model.partition("/")[0].lower() == PYANNOTE_OWNER


def _read(model: str) -> Bundle:
    """Read a model of ours or of DiariZen's, whose repositories hold other files."""
    if not Path(model).exists() and is_diarizen_id(model):
        return read_diarizen(fetch_diarizen(model))
    return load_model(model)


def _build(bundle: Bundle, model: str, place: torch.device) -> DiarizationPipeline:
    """Make the pipeline of a bundle with diarization heads."""
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
        lambda: build_heads(config.layers, config.width, settings), state[PART], where
    )
    sha256 = card.weights.sha256 if card.weights else ""
    return DiarizationPipeline(encoder.to(place), heads.to(place), settings, card.name, sha256)


def diarize(
    path_or_waveform: Source,
    model: str = "mini",
    num_speakers: int | None = None,
    min_speakers: int | None = None,
    max_speakers: int | None = None,
    device: str = "auto",
    channel: int | None = None,
    clustering: str | None = None,
    exclusive: bool = False,
    min_turn_s: float | None = None,
    min_gap_s: float | None = None,
    faint_db: float | None = None,
    precision: Precision = "float32",
) -> Diarization:
    """Say who spoke when.

    Args:
        path_or_waveform: A file that soundfile or PyAV reads, or mono samples (N,) at 16 kHz.
        model: Name of an embedded model, a folder, or an id on the Hugging Face hub; also a
            pipeline of pyannote.audio, as for `load_diarizer`.
        num_speakers: Number of speakers, if known.
        min_speakers: Fewest speakers there can be.
        max_speakers: Most speakers there can be.
        device: auto, cpu or cuda.
        channel: Channel of the file to listen to, from 1 on; None mixes all of them.
        clustering: How voices become speakers: agglomerative, vbx or spectral; None is the model's
            own way.
        exclusive: Whether to give one speaker at a time.
        min_turn_s: Shorter turns are dropped; None is the model's own.
        min_gap_s: Pauses of one speaker up to this length are closed; None is the model's own.
        faint_db: Who is so many dB fainter than the loud speech of the recording is left out,
            infinity keeps everybody; None is the model's own.
        precision: Numbers to compute in: float32, bfloat16 or int8, as for `load_pipeline`.

    Raises:
        AudioError: The recording cannot be read.
        CheckpointError: The model cannot be loaded.
        DeviceError: The device is not there, or does not compute in this precision.
        SettingsError: The numbers of speakers contradict each other, or another is out of range.
    """
    pipeline = load_diarizer(model, device, precision)
    return pipeline(
        path_or_waveform,
        channel=channel,
        num_speakers=num_speakers,
        min_speakers=min_speakers,
        max_speakers=max_speakers,
        clustering=clustering,
        exclusive=exclusive,
        min_turn_s=min_turn_s,
        min_gap_s=min_gap_s,
        faint_db=faint_db,
    )
