"""From the name of a model to a pipeline that separates, and a head into a model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from wavlm_meeting.checkpoints.bundle import Bundle, write_bundle
from wavlm_meeting.checkpoints.card import Card, Storage
from wavlm_meeting.checkpoints.loading import build_encoder, load_model
from wavlm_meeting.checkpoints.names import check_state
from wavlm_meeting.checkpoints.skeleton import build_filled, module_shapes
from wavlm_meeting.config import parse_settings
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.separation.model import SeparationHead, build_head
from wavlm_meeting.separation.pipeline import SeparationPipeline
from wavlm_meeting.separation.settings import SeparationSettings

PART = "separation"
"""Name of the head in a bundle."""


def load_separator(model: str = "tiny", device: str = "auto") -> SeparationPipeline:
    """Load a model that separates, ready for any number of recordings.

    `model` is the name of an embedded model, a folder or an id on the Hugging Face hub; `device` is
    auto, cpu or cuda. Raises CheckpointError if the model is not found, damaged or has no
    separation head, DeviceError if the device is not there.
    """
    place = resolve_device(device)
    bundle = load_model(model)
    card, state = bundle.card, bundle.state
    if PART not in state:
        raise CheckpointError(
            f"{model}: has no separation head; take 'tiny', or add a head with the recipe libricss."
        )
    where = f"{card.name}: heads.{PART}"
    settings = parse_settings(card.heads[PART], SeparationSettings, where)
    encoder = build_encoder(bundle)
    head = build_filled(lambda: build_head(card.encoder, settings), state[PART], where)
    sha256 = card.weights.sha256 if card.weights else ""
    return SeparationPipeline(encoder.to(place), head.to(place), settings, card.name, sha256)


def add_separation(
    source: Bundle,
    head: SeparationHead,
    settings: SeparationSettings,
    target: str | Path,
    about: Mapping[str, Any] | None = None,
    storage: Storage = "float16",
) -> Card:
    """Write a bundle with a separation head: another model's parts as they are, and this one.

    Its parameters have another hash than the source's then, and a backend of the source, which
    is for that hash alone, is not the new one's.

    Args:
        source: The other model; a separation head in it is left out.
        head: The head.
        settings: What it was built from.
        target: Folder of the new bundle, written at once or not at all.
        about: What the card says anew.
        storage: Number format of all parameters.

    Returns:
        The card as written.

    Raises:
        CheckpointError: The head does not fit the encoder, or something other than a model is in
            the way.
    """
    card, parameters = source.card, head.state_dict()
    shapes = module_shapes(lambda: build_head(card.encoder, settings))
    check_state(parameters, shapes, f"{card.name}: heads.{PART}")
    sizes = settings.model_dump(mode="json", exclude_defaults=True)
    said = {**(about or {}), "heads": {**card.heads, PART: sizes}}
    state = {**source.state, PART: parameters}
    return write_bundle(target, state, card.model_copy(update=said), storage)
