"""The project's own model format: a folder with `model.safetensors` and `card.toml`.

The parameters of all parts (the encoder and any heads) share one file, as `<part>.<parameter>`;
what is stored in eight bits has its scales beside it, as `<part>.<parameter>.scale`. The card holds
the SHA-256 of that file, so a damaged or exchanged one is never loaded.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from wavlm_meeting.checkpoints.card import Card, Storage, Weights, read_card
from wavlm_meeting.checkpoints.folders import CARD, WEIGHTS, atomic_folder
from wavlm_meeting.checkpoints.quantisation import LIMIT, dequantise, quantise, saves
from wavlm_meeting.checkpoints.toml import dumps
from wavlm_meeting.errors import CheckpointError
from wavlm_meeting.files import sha256_of

ENCODER = "encoder"
"""The part that every bundle has."""
SCALE = ".scale"
"""Ends the names of scales. No parameter has such a name: what is before it would be a module."""


@dataclass(frozen=True)
class Bundle:
    """A model in memory: its card, and the parameters of its parts."""

    card: Card
    """What is known of the model; `card.weights` is there if it came from a bundle."""
    state: dict[str, dict[str, Tensor]]
    """Parameters and buffers in float32, by part and native name."""

    def encoder_only(self) -> "Bundle":
        """Return the model without its heads."""
        card = self.card.model_copy(update={"heads": {}})
        return Bundle(card, {ENCODER: self.state[ENCODER]})


def write_bundle(
    folder: str | Path,
    state: Mapping[str, Mapping[str, Tensor]],
    card: Card,
    storage: Storage = "float32",
) -> Card:
    """Write a bundle at once or not at all, replacing what was at `folder`.

    Args:
        folder: Where to write it; its parents are made.
        state: State dictionaries by part; `encoder` must be among them, and every other part
            must be one of `card.heads`.
        card: What to say about the model; its `weights` are filled in here.
        storage: Number format to store floating-point tensors in. 16-bit formats halve the file
            and round the parameters; int8 halves it once more and rounds weights to 255 steps in
            each row, leaving norms, biases and small tensors at 16 bits. Parameters that were read
            from a bundle do not change where it is written again with the same storage.

    Returns:
        The card as written.

    Raises:
        CheckpointError: Parts and card do not fit, or a parameter is not finite in `storage`.
    """
    if {ENCODER, *card.heads} != set(state):
        raise CheckpointError(
            f"{folder}: the card describes {_listed({ENCODER, *card.heads})}, "
            f"the weights are those of {_listed(state)}; give both the same parts."
        )
    named = {
        f"{part}.{name}": tensor
        for part, parameters in state.items()
        for name, tensor in parameters.items()
    }
    tensors = _stored(named, storage, f"{folder}: ")
    with atomic_folder(folder) as fresh:
        write_safetensors(tensors, fresh / WEIGHTS)
        weights = Weights(sha256=sha256_of(fresh / WEIGHTS), storage=storage)
        card = card.model_copy(update={"weights": weights})
        text = dumps(card.model_dump(mode="json"))
        (fresh / CARD).write_text(text, encoding="utf-8")
    return card


def read_bundle(folder: str | Path) -> Bundle:
    """Read a bundle and check its parameters against the card's hash.

    Raises:
        CheckpointError: The card or the weights are missing, damaged or do not belong together.
    """
    card = read_card(folder)
    path = Path(folder) / WEIGHTS
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file; copy the whole bundle, or fetch it again.")
    if card.weights is None or sha256_of(path) != card.weights.sha256:
        raise CheckpointError(
            f"{path}: its SHA-256 is not the one in {CARD}; it is damaged or was exchanged: "
            "copy the whole bundle, or fetch it again."
        )
    state: dict[str, dict[str, Tensor]] = defaultdict(dict)
    for key, tensor in _loaded(read_safetensors(path), card.weights.storage).items():
        part, _, name = key.partition(".")
        state[part][name] = tensor
    if {ENCODER, *card.heads} != set(state):
        raise CheckpointError(
            f"{path}: holds {_listed(state)}, but {CARD} describes "
            f"{_listed({ENCODER, *card.heads})}."
        )
    return Bundle(card, dict(state))


def rounded(parameters: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """Return parameters and buffers as a bundle with this storage gives them back, float32.

    Raises CheckpointError if one is not finite in `storage`.
    """
    return _loaded(_stored(parameters, storage, ""), storage)


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read a safetensors file onto the CPU; raises CheckpointError if it is damaged."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a readable safetensors file ({error}); fetch it again."
        ) from None


def write_safetensors(
    tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write a new safetensors file, with the rights of any other new file."""
    path.touch()
    rights = path.stat().st_mode
    save_file(tensors, path, metadata)
    path.chmod(rights)  # safetensors makes it for the owner alone, in a shared place of no use


def _stored(tensors: Mapping[str, Tensor], storage: Storage, where: str) -> dict[str, Tensor]:
    """Copy tensors in the form that the file takes; integers stay as they are."""
    stored: dict[str, Tensor] = {}
    for name, given in tensors.items():
        tensor = given.detach().cpu()
        if storage == "int8" and saves(tensor):
            stored[name], stored[name + SCALE] = quantise(tensor)
            finite = stored[name + SCALE] * LIMIT
        else:
            stored[name] = finite = _copied(tensor, storage)
        if not finite.isfinite().all():
            raise CheckpointError(f"{where}{name}: holds NaN, or a number too large for {storage}.")
    return stored


def _copied(tensor: Tensor, storage: Storage) -> Tensor:
    """Copy one tensor; what int8 does not pay for has 16 bits there."""
    if not tensor.is_floating_point():
        return tensor.clone(memory_format=torch.contiguous_format)
    dtype = torch.float16 if storage == "int8" else getattr(torch, storage)
    return tensor.to(dtype, memory_format=torch.contiguous_format, copy=True)


def _loaded(stored: Mapping[str, Tensor], storage: Storage) -> dict[str, Tensor]:
    """Return what `_stored` gave as float32; integers stay as they are."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in stored.items():
        if storage == "int8" and name + SCALE in stored:
            tensors[name] = dequantise(tensor, stored[name + SCALE])
        elif storage != "int8" or not name.endswith(SCALE):
            tensors[name] = tensor.float() if tensor.is_floating_point() else tensor
    return tensors


def _listed(parts: Mapping[str, object] | set[str]) -> str:
    return ", ".join(f"'{part}'" for part in sorted(parts))
