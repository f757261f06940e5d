"""Reading a model from any known layout, told by its content, and writing it in four."""

from collections.abc import Callable, Mapping
from pathlib import Path

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle, read_bundle, write_bundle
from wavlm_meeting.checkpoints.diarizen import is_diarizen, read_diarizen
from wavlm_meeting.checkpoints.folders import CARD, CONFIG, EMBEDDING_MODEL, WEIGHTS
from wavlm_meeting.checkpoints.huggingface import (
    read_huggingface,
    weights_path,
    write_huggingface,
)
from wavlm_meeting.checkpoints.microsoft import from_microsoft, write_microsoft
from wavlm_meeting.checkpoints.names import check_state
from wavlm_meeting.checkpoints.pickles import is_pickle, read_pickle, state_of
from wavlm_meeting.checkpoints.pyannote_config import write_pyannote
from wavlm_meeting.checkpoints.skeleton import module_shapes
from wavlm_meeting.checkpoints.speaker import MARK as SPEAKER_MARK
from wavlm_meeting.checkpoints.speaker import from_speaker_release
from wavlm_meeting.checkpoints.speechbrain import is_speechbrain
from wavlm_meeting.checkpoints.torchaudio import MARK, from_torchaudio
from wavlm_meeting.checkpoints.trainings import is_training, last_checkpoint, read_training
from wavlm_meeting.errors import CheckpointError, SettingsError
from wavlm_meeting.wavlm.model import WavLM


def read_model(path: Path) -> Bundle:
    """Read a model in any known layout.

    A bundle, a folder of a Hugging Face model, of DiariZen or of a training, one of the latter's
    checkpoints, or
    a file in Microsoft's, fairseq's or torchaudio's layout or in that of Microsoft's
    speaker-verification models.

    Raises:
        CheckpointError: It is none of them, damaged, or does not fit its own settings.
    """
    if is_training(path):
        return read_training(path)
    if not path.is_dir():
        return _read_file(path)
    if (path / CARD).is_file():
        return read_bundle(path)
    if (path / CONFIG).is_file():
        return read_huggingface(path)
    if is_diarizen(path):
        return read_diarizen(path)
    if is_speechbrain(path):
        raise CheckpointError(
            f"{path}: a speaker model on filterbanks, without an encoder; use it to verify "
            "speakers (load_speaker_model)."
        )
    raise CheckpointError(
        f"{path}: no model; a folder needs {CARD} (bundle) or {CONFIG} (Hugging Face)."
    )


def write_model(path: Path, model: Bundle, layout: str) -> None:
    """Write a model at once or not at all, in one of LAYOUTS, replacing an older one at `path`.

    Raises:
        SettingsError: There is no such layout.
        CheckpointError: The encoder's parameters are not those of its architecture, the model has
            a part that the layout has no place for, or what stands at `path` is no model.
    """
    if layout not in LAYOUTS:
        raise SettingsError(f"layout is '{layout}': choose one of {', '.join(LAYOUTS)}.")
    shapes = module_shapes(lambda: WavLM(model.card.encoder))
    check_state(model.state[ENCODER], shapes, f"{model.card.name}: {ENCODER}")
    LAYOUTS[layout](path, model)


def weights_file(path: Path) -> Path:
    """Return the file that holds a model's parameters."""
    if is_training(path):
        return last_checkpoint(path) or path
    if not path.is_dir():
        return path
    if is_speechbrain(path):
        return path / EMBEDDING_MODEL
    return path / WEIGHTS if (path / CARD).is_file() else weights_path(path)


def _read_file(path: Path) -> Bundle:
    if path.suffix == ".safetensors":
        raise CheckpointError(f"{path}: parameters alone are no model; give the folder around it.")
    if not is_pickle(path):
        raise CheckpointError(
            f"{path}: no model; give a folder, or a file that torch.save wrote in Microsoft's or "
            "torchaudio's layout."
        )
    content = read_pickle(path)
    if isinstance(content, Mapping):
        if {"cfg", "model"} <= content.keys():
            return from_microsoft(content, str(path))
        if isinstance(content.get("model"), Mapping) and SPEAKER_MARK in content["model"]:
            return from_speaker_release(content, str(path))
        if MARK in content:
            return from_torchaudio(state_of(content, str(path)), str(path))
        names = ", ".join(map(str, list(content)[:3]))
        raise CheckpointError(
            f"{path}: holds {names} ..., which is neither Microsoft's layout (cfg, model) nor a "
            "state dictionary of torchaudio's WavLM."
        )
    raise CheckpointError(f"{path}: holds a {type(content).__name__}, not a model.")


def _write_bundle(path: Path, model: Bundle) -> None:
    write_bundle(path, model.state, model.card)


LAYOUTS: dict[str, Callable[[Path, Bundle], None]] = {
    "bundle": _write_bundle,
    "huggingface": write_huggingface,
    "microsoft": write_microsoft,
    "pyannote": write_pyannote,
}
"""The layouts that models are written in: a function for each."""
