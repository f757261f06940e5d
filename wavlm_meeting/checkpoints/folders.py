"""The folders that hold models: their files' names, and writing one whole or not at all."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wavlm_meeting.errors import CheckpointError

CARD = "card.toml"
"""Marks a bundle."""
CONFIG = "config.json"
"""Marks a folder in Hugging Face's layout."""
PREPROCESSOR = "preprocessor_config.json"
WEIGHTS = "model.safetensors"
PICKLED_WEIGHTS = "pytorch_model.bin"
BACKEND = "backend.safetensors"
"""What scores the embeddings of a model."""
EMBEDDING_MODEL = "embedding_model.ckpt"
"""Marks a folder in SpeechBrain's layout, and holds the parameters."""
HYPERPARAMS = "hyperparams.yaml"
CONFIG_YAML = "config.yaml"
"""Marks a pipeline of pyannote.audio."""

_REPLACEABLE = {
    *(CARD, CONFIG, CONFIG_YAML, PREPROCESSOR, WEIGHTS),
    *(PICKLED_WEIGHTS, EMBEDDING_MODEL, HYPERPARAMS),
    BACKEND,  # of the weights beside it, and of no others
}


@contextmanager
def atomic_folder(folder: str | Path) -> Iterator[Path]:
    """Give a new folder beside `folder`, and rename it to `folder` when the block succeeds.

    The parents of `folder` are made. An older model in its place is replaced as a whole. A block
    that raises leaves nothing behind, and the older model untouched.

    Raises:
        CheckpointError: At `folder` there is a file, or a folder with anything but a model.
    """
    folder = Path(folder).absolute()
    if folder.exists():
        _check_replaceable(folder)
    mark = secrets.token_hex(4)
    fresh, old = (folder.with_name(f".{folder.name}.{mark}.{state}") for state in ("new", "old"))
    fresh.mkdir(parents=True)
    try:
        yield fresh
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def _check_replaceable(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"{folder}: a file is in the way; name a folder, or remove it.")
    others = sorted({entry.name for entry in folder.iterdir()} - _REPLACEABLE)
    if others:
        raise CheckpointError(
            f"{folder}: holds '{others[0]}', which is no part of a model; name another folder."
        )
