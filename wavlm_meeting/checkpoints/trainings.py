"""Checkpoints of a training: finding the newest one, and reading it as a model.

A training's folder holds `run.toml`, the card of the model that is being made, and
`checkpoints/step-NNNNNNNN.ckpt`: a file, or a folder with a part from each process where weights
are sharded.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.microsoft import PRETRAINING
from wavlm_meeting.checkpoints.toml import dumps
from wavlm_meeting.config import read_toml
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.files import atomic_write

RUN = "run.toml"
"""Marks the folder of a training."""
FOLDER, PATTERN = "checkpoints", "step-*.ckpt"
PARTS = {"model.encoder.": ENCODER, "model.head.": PRETRAINING}
"""What a training calls the parts of a model."""


def last_checkpoint(folder: Path) -> Path | None:
    """Return the newest checkpoint of a training in `folder`, None if there is none."""
    return max((folder / FOLDER).glob(PATTERN), default=None)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Return where the checkpoint after `step` updates belongs."""
    return folder / FOLDER / PATTERN.replace("*", f"{step:08d}")


def steps_done(folder: Path) -> int:
    """Return how many updates the newest checkpoint of a training has seen; 0 without one."""
    last = last_checkpoint(folder)
    return int(last.stem.rpartition("-")[2]) if last else 0


def write_run(folder: Path, card: Card) -> None:
    """Say what is trained in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / RUN) as temporary:
        text = dumps(card.model_dump(mode="json", exclude={"weights"}))
        temporary.write_text(text, encoding="utf-8")


def read_run(folder: Path) -> Card:
    """Read what is trained in a folder; raises SettingsError if it does not say."""
    return read_toml(folder / RUN, Card)


def is_training(path: Path) -> bool:
    """Tell whether `path` is the folder of a training or one of its checkpoints."""
    return (path / RUN).is_file() or _is_checkpoint(path)


def read_training(path: Path) -> Bundle:
    """Read a training's newest checkpoint, or the one that `path` is, as a model.

    Raises CheckpointError if there is none yet, or it lacks a part of the model.
    """
    folder = path.parent.parent if _is_checkpoint(path) else path
    card = read_run(folder)
    weights = read_weights(path if _is_checkpoint(path) else folder)
    state: dict[str, dict[str, Tensor]] = {}
    for prefix, part in PARTS.items():
        own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        if own and part in {ENCODER, *card.heads}:
            state[part] = {name: weight.float() for name, weight in own.items()}
    if state.keys() != {ENCODER, *card.heads}:
        raise CheckpointError(f"{path}: holds no pretrained model; give the folder of a training.")
    return Bundle(card, state)


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read all weights of a training's newest checkpoint, or of the one that `path` is.

    Raises CheckpointError if there is none.
    """
    last = path if _is_checkpoint(path) else last_checkpoint(path)
    if last is None:
        raise CheckpointError(f"{path}: no checkpoint there yet; train first.")
    if last.is_file():
        weights: dict[str, Tensor] = torch.load(last, weights_only=True, map_location="cpu")[
            "state_dict"
        ]
        return weights
    return _read_parts(last)


def load_parts(folder: Path, parts: Mapping[str, nn.Module]) -> None:
    """Load the newest weights of a training into its parts, by what it calls them, ready to run.

    Raises CheckpointError if there are none, or they are another model's.
    """
    weights = read_weights(folder)
    for part, module in parts.items():
        prefix = f"{part}."
        own = {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}
        load_state(module, own, folder)
        module.eval()


def load_state(module: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    """Load all weights of a module; raises CheckpointError if those in `folder` are not its own."""
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        reason = str(error).strip().splitlines()[-1].strip()
        raise CheckpointError(
            f"{folder}: holds the training of another model ({reason}); name another folder, or "
            "build the model that it was trained as."
        ) from None


def _read_parts(last: Path) -> dict[str, Tensor]:
    """Put together what several processes wrote."""
    # Importing these takes long, and few need them.
    from torch.distributed.checkpoint.default_planner import (  # noqa: PLC0415
        _EmptyStateDictLoadPlanner,
    )
    from torch.distributed.checkpoint.filesystem import FileSystemReader  # noqa: PLC0415
    from torch.distributed.checkpoint.state_dict_loader import _load_state_dict  # noqa: PLC0415

    found: dict[str, Any] = {}
    # What torch's own `dcp_to_torch_save` does, without the file in between.
    _load_state_dict(
        found,
        storage_reader=FileSystemReader(last),
        planner=_EmptyStateDictLoadPlanner(keys={"state_dict"}),
        no_dist=True,
    )
    return dict(found["state_dict"])


def _is_checkpoint(path: Path) -> bool:
    return path.parent.name == FOLDER and path.match(PATTERN)
