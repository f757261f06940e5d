"""What makes a bundle a pipeline of pyannote.audio as well: `config.yaml` beside its card."""

from pathlib import Path

from wavlm_meeting.checkpoints.bundle import Bundle, write_bundle
from wavlm_meeting.checkpoints.card import read_card
from wavlm_meeting.checkpoints.folders import CONFIG_YAML, atomic_folder
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.files import atomic_write

DIARIZATION = "diarization"
"""The part of a bundle that pyannote.audio has a use for."""

_CONFIG = """\
# pyannote.audio.Pipeline.from_pretrained() reads this; all settings are in card.toml.
pipeline:
  name: wavlm_meeting.diarization.pyannote.WavLMMeeting
  params:
    model: $model/
"""
"""`$model/` becomes the folder that the file lies in, or its id on the hub."""


def write_pyannote_config(folder: str | Path) -> None:
    """Let `pyannote.audio.Pipeline.from_pretrained(folder)` load a bundle that is there.

    Raises:
        CheckpointError: The folder is no bundle, or one without diarization heads.
    """
    card = read_card(folder)
    _check(card.name, card.heads)
    with atomic_write(Path(folder) / CONFIG_YAML) as temporary:
        temporary.write_text(_CONFIG, encoding="utf-8")


def write_pyannote(path: Path, model: Bundle) -> None:
    """Write a model as a bundle with `config.yaml`, at once or not at all.

    Raises:
        CheckpointError: The model has no diarization heads.
    """
    _check(model.card.name, model.card.heads)
    with atomic_folder(path) as fresh:
        write_bundle(fresh, model.state, model.card)
        write_pyannote_config(fresh)


def _check(name: str, heads: dict[str, dict[str, object]]) -> None:
    if DIARIZATION not in heads:
        raise CheckpointError(f"{name}: has no diarization heads, so it is no pipeline; add some.")
