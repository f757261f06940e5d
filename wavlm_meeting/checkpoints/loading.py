"""From a name, path or hub id to modules that run."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.card import Training
from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.checkpoints.formats import read_model
from wavlm_meeting.checkpoints.heads import (
    FRAME_CLASSIFIER,
    XVECTOR,
    build_frame_classifier,
    build_xvector,
)
from wavlm_meeting.checkpoints.hub import KNOWN
from wavlm_meeting.checkpoints.skeleton import build_filled
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.heads.frame_classifier import FrameClassifier
from wavlm_meeting.heads.speaker import SpeakerHead, WholeVoice
from wavlm_meeting.heads.xvector import XVector
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import Padding, WavLM

Dtype = str | torch.dtype | None
"""A number format by name or as PyTorch has it; None is float32."""

Head = TypeVar("Head", XVector, FrameClassifier, SpeakerHead | WholeVoice)

_DTYPES = ("float32", "bfloat16", "float16")


def load_encoder(
    source: str | Path,
    device: str | torch.device = "cpu",
    dtype: Dtype = None,
    padding: Padding = "exact",
) -> WavLM:
    """Load a WavLM encoder, ready for inference.

    Args:
        source: The name of an embedded model ("tiny"), a path (a bundle, a Hugging Face folder,
            Microsoft's or torchaudio's file), or an id on the Hugging Face hub.
        device: "auto", "cpu", "cuda" or a torch device.
        dtype: "float32" (the default), "bfloat16", "float16" or a torch dtype. Waveforms are
            float32 in any case.
        padding: "exact": each utterance of a batch gets what it gets alone; "legacy": what the
            released code gives it.

    Returns:
        The encoder in eval mode: `encoder(waveforms, lengths)` gives `hidden_states` and
        `frame_lengths`.

    Raises:
        CheckpointError: The model is not found, damaged, or not a WavLM.
        DeviceError: The device is not there.
        SettingsError: The dtype or the padding is none of the above.
    """
    place, number = resolve_device(device), _resolve_dtype(dtype)
    return build_encoder(load_model(source), padding).to(place, number)


def load_xvector(
    source: str | Path, device: str | torch.device = "cpu", dtype: Dtype = None
) -> tuple[WavLM, XVector]:
    """Load an encoder with its x-vector head, such as `microsoft/wavlm-base-plus-sv`.

    Arguments and errors are those of `load_encoder`. Run the pair as
    `output = encoder(waveforms, lengths); head(output.hidden_states, output.frame_lengths)`.
    Under a head that mixes the layers of a pre-norm encoder, the encoder leaves its last hidden
    state without the final norm, as the head was trained.
    """
    return _load_with_head(source, device, dtype, XVECTOR, build_xvector)


def load_frame_classifier(
    source: str | Path, device: str | torch.device = "cpu", dtype: Dtype = None
) -> tuple[WavLM, FrameClassifier]:
    """Load an encoder with its frame classifier, such as `microsoft/wavlm-base-plus-sd`.

    Arguments and errors are those of `load_encoder`. Run the pair as
    `output = encoder(waveforms, lengths); head(output.hidden_states)`. The last hidden state is
    as `load_xvector` says.
    """
    return _load_with_head(source, device, dtype, FRAME_CLASSIFIER, build_frame_classifier)


def load_model(source: str | Path) -> Bundle:
    """Load the parameters and the card of a model, from the same sources as `load_encoder`.

    What comes from the hub gets a card that says so. Raises CheckpointError as `load_encoder` does.
    """
    model = read_model(resolve(source))
    name = str(source)
    if model.card.weights is not None or Path(source).exists():
        return model
    licence = next((known.licence for known in KNOWN if known.name == name), "")
    origin = Training(recipe=f"huggingface.co/{name}")
    about = {"name": name.rsplit("/", maxsplit=1)[-1], "licence": licence, "training": origin}
    return replace(model, card=model.card.model_copy(update=about))


def _load_with_head(
    source: str | Path,
    device: str | torch.device,
    dtype: Dtype,
    part: str,
    build: Callable[[WavLMConfig, Mapping[str, Any], str], Head],
) -> tuple[WavLM, Head]:
    place, number = resolve_device(device), _resolve_dtype(dtype)
    encoder, head = build_with_head(load_model(source), part, build, str(source))
    return encoder.to(place, number), head.to(place, number)


def build_with_head(
    model: Bundle,
    part: str,
    build: Callable[[WavLMConfig, Mapping[str, Any], str], Head],
    source: str,
) -> tuple[WavLM, Head]:
    """Make a model's encoder and one of its heads; raises CheckpointError if it lacks that part."""
    if part not in model.state:
        has = ", ".join(f"'{name}'" for name in model.state)
        raise CheckpointError(f"{source}: has no '{part}'; its parts are {has}.")
    encoder = build_encoder(model)
    where = f"{source}: {part}"
    head = build_filled(
        lambda: build(model.card.encoder, model.card.heads[part], where), model.state[part], where
    )
    mixes = isinstance(head, XVector | FrameClassifier) and head.mix is not None
    if mixes and model.card.encoder.pre_norm:
        # These heads learned their mix on the last layer's output before the final norm, which
        # nothing but that one hidden state passes.
        encoder.register_module("norm", nn.Identity())
    return encoder, head


def build_encoder(model: Bundle, padding: Padding = "exact") -> WavLM:
    """Make a model's encoder; raises CheckpointError if card and parameters do not fit."""
    where = f"{model.card.name}: {ENCODER}"
    return build_filled(lambda: WavLM(model.card.encoder, padding), model.state[ENCODER], where)


def _resolve_dtype(dtype: Dtype) -> torch.dtype:
    name = str(dtype or torch.float32).removeprefix("torch.")
    if name not in _DTYPES:
        raise SettingsError(f"dtype is '{name}': choose one of {', '.join(_DTYPES)}.")
    found: torch.dtype = getattr(torch, name)
    return found
