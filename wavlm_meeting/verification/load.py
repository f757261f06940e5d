"""Speaker models from and to their files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle, write_bundle
from wavlm_meeting.checkpoints.card import Card, Storage
from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.checkpoints.formats import weights_file
from wavlm_meeting.checkpoints.heads import (
    SPEAKER,
    XVECTOR,
    build_speaker,
    build_xvector,
    parse_speaker,
)
from wavlm_meeting.checkpoints.loading import build_encoder, build_with_head, load_model
from wavlm_meeting.checkpoints.skeleton import build_filled
from wavlm_meeting.checkpoints.speechbrain import (
    is_speechbrain,
    read_speechbrain,
    write_speechbrain,
)
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.files import sha256_of
from wavlm_meeting.heads.speaker import (
    AttentiveConfig,
    SpeakerConfig,
    SpeechConfig,
    build_speaker_head,
)
from wavlm_meeting.verification.joined import JoinedModel
from wavlm_meeting.verification.model import SpeakerModel, WholeXVector, filterbanks
from wavlm_meeting.wavlm.model import WavLM

DIARIZATION = "diarization"
"""The part with the embedding head of diarization, for models that have no better one."""
BESIDE = "beside."
"""What the names begin with of the map that shortens diarization's voice."""
_BLOCKS = "segmentation.conformer.blocks."
"""What the names of a Conformer's parameters begin with there."""


def load_speaker_model(source: str | Path = "tiny", device: str = "cpu") -> SpeakerModel:
    """Load a model that says what a voice is like, ready for inference.

    Args:
        source: The name of an embedded model ("tiny"), a path (a bundle, a Hugging Face or
            SpeechBrain folder, Microsoft's speaker-verification file), or an id on the Hugging Face
            hub, such as "speechbrain/spkrec-ecapa-voxceleb".
        device: auto, cpu or cuda.

    Returns:
        The model in eval mode: `model.embed(waveform)` gives one embedding (D,).

    Raises:
        CheckpointError: The model is not found, damaged, or says nothing of voices.
        DeviceError: The device is not there.
    """
    place = resolve_device(device)
    path = resolve(source)
    if is_speechbrain(path):
        model = _read_filterbank_model(path)
        model.name = Path(source).name
    else:
        model = _from_bundle(load_model(source), str(source))
    model.sha256 = model.sha256 or sha256_of(weights_file(path))
    return model.to(place).eval()


def write_speaker_model(
    folder: str | Path,
    model: SpeakerModel,
    about: Mapping[str, Any],
    storage: Storage = "float32",
) -> None:
    """Write a model at once or not at all: a bundle, or in SpeechBrain's layout without an encoder.

    Args:
        folder: Where to write it; its parents are made, an older model there is replaced.
        model: A model that `build_speaker_model` made, or that was loaded with its part for
            speaker verification.
        about: What the card says: name, version, licence, description, training, figures.
            SpeechBrain's layout has no place for it.
        storage: Number format of a bundle's parameters.

    Raises:
        CheckpointError: The model is of another kind, its parameters are not finite, SpeechBrain's
            layout has no place for what it has, or what stands at `folder` is no model.
    """
    config, features = model.config, model.features
    if config is None or config.beside is not None:
        raise CheckpointError(f"{folder}: this kind of model is written by what it was read with.")
    head = model.pooling.state_dict()
    if not isinstance(features, WavLM):
        write_speechbrain(Path(folder), config, head)
        return
    numbers = config.model_dump()
    card = Card.model_validate({**about, "encoder": features.config, "heads": {SPEAKER: numbers}})
    write_bundle(folder, {ENCODER: features.state_dict(), SPEAKER: head}, card, storage)


def _read_filterbank_model(folder: Path) -> SpeakerModel:
    config, state = read_speechbrain(folder)
    return _on_filterbanks(config, state, str(folder))


def _on_filterbanks(config: SpeakerConfig, state: Mapping[str, Tensor], where: str) -> SpeakerModel:
    head = build_filled(lambda: build_speaker_head(config, 1, config.bands), state, where)
    return SpeakerModel(filterbanks(config), head, config.size, config=config)


def _from_bundle(model: Bundle, source: str) -> SpeakerModel:
    """Make a speaker model from the best part that a model has for it."""
    if SPEAKER in model.state:
        found = _with_speaker(model, source)
    elif XVECTOR in model.state:
        encoder, xvector = build_with_head(model, XVECTOR, build_xvector, source)
        found = SpeakerModel(encoder, WholeXVector(xvector), xvector.embedding.out_features)
    elif DIARIZATION in model.state:
        found = _of_diarization(model, source)
    else:
        has = ", ".join(f"'{name}'" for name in model.state)
        raise CheckpointError(
            f"{source}: has no part that knows voices ('{SPEAKER}', '{XVECTOR}' or "
            f"'{DIARIZATION}'), only {has}; take 'tiny', a speaker model of the hub, or train one "
            "(recipe voxceleb)."
        )
    found.name = model.card.name
    found.sha256 = model.card.weights.sha256 if model.card.weights else ""
    return found


def _with_speaker(model: Bundle, source: str) -> SpeakerModel:
    """Make a model of the part for verification, and of diarization's where it is beside it."""
    config = parse_speaker(model.card.heads[SPEAKER], source)
    if config.features == "wavlm":
        encoder, head = build_with_head(model, SPEAKER, build_speaker, source)
        return SpeakerModel(encoder, head, config.size, config=config)
    where, beside = f"{source}: {SPEAKER}", config.beside
    state = dict(model.state[SPEAKER])
    projected = {
        name.removeprefix(BESIDE): state.pop(name) for name in [*state] if name.startswith(BESIDE)
    }
    found = _on_filterbanks(config, state, where)
    if beside is None:
        return found
    if DIARIZATION not in model.state:
        raise CheckpointError(f"{where}: 'beside' is diarization's voice, and there is none.")
    second = _of_diarization(model, source)
    projection = build_filled(lambda: nn.Linear(second.size, beside.size), projected, where)
    return JoinedModel(found, second, projection, beside.weight)


def _of_diarization(model: Bundle, source: str) -> SpeakerModel:
    """Make a model of the heads that tell the voices of a conversation apart."""
    config = _voice_sizes(model, source)
    states, width = model.card.encoder.layers + 1, model.card.encoder.width
    head = build_filled(
        lambda: build_speaker_head(config, states, width),
        _renamed(model.state[DIARIZATION]),
        f"{source}: {DIARIZATION}",
    )
    return SpeakerModel(build_encoder(model), head, config.size, config=config)


def _voice_sizes(model: Bundle, source: str) -> SpeakerConfig:
    """Return what diarization's heads of voices and of speech are, which shows in their shapes."""
    part = model.state[DIARIZATION]
    embedding, pooled = _last_of(part, "embedding.output.weight", source).shape
    classes, hidden = _last_of(part, "segmentation.classes.weight", source).shape
    blocks = {name.split(".")[3] for name in part if name.startswith(_BLOCKS)}
    first = part.get(f"{_BLOCKS}0.first.hidden.weight")
    sizes = {} if first is None else {"ffn": len(first)}
    speech = SpeechConfig(hidden=hidden, classes=classes, conformer_layers=len(blocks), **sizes)
    voice = AttentiveConfig(hidden=pooled // 2, embedding=embedding, speech=speech)
    return SpeakerConfig(attentive=voice)


def _last_of(part: Mapping[str, Tensor], name: str, source: str) -> Tensor:
    """Return the matrix that a head of diarization ends with; raises CheckpointError without it."""
    weight = part.get(name)
    if weight is None or weight.ndim != 2:
        head = name.split(".", 1)[0]
        raise CheckpointError(f"{source}: its '{DIARIZATION}' has no {head} head; take 'tiny'.")
    return weight


def _renamed(part: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the parameters of diarization's heads by the names that `WholeVoice` has for them."""
    heads = {"embedding.": "head.", "segmentation.": "speech."}
    return {
        new + name.removeprefix(old): tensor
        for old, new in heads.items()
        for name, tensor in part.items()
        if name.startswith(old)
    }
