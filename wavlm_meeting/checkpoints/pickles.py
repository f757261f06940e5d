"""Opening PyTorch's pickled files without ever running code from them."""

import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

from wavlm_meeting.errors import CheckpointError

SETTINGS_AND_MODEL = "{'cfg': dict(vars(c['cfg'])), 'model': c['model']}"
TENSORS = "{k: v for k, v in c.items() if isinstance(v, torch.Tensor)}"

_REFUSED = re.compile("GLOBAL|Unsupported class|Trying to")
"""How PyTorch says that it will not make an object, unlike what it says of damage."""
_PICKLE_START = b"\x80"
"""First byte of a pickle of protocol 2 and later: PyTorch's format before 1.6."""


_FOREIGN = "fairseq."
"""Classes that training code leaves in checkpoints beside the tensors; nothing here reads them."""


class StandIn:
    """Takes the place of a foreign object: it keeps what it is given and runs nothing."""


def is_pickle(path: Path) -> bool:
    """Tell whether a file looks like one that `torch.save` wrote, by its first bytes."""
    with path.open("rb") as file:
        return file.read(1) == _PICKLE_START or zipfile.is_zipfile(path)


def read_pickle(path: Path, plain: str = SETTINGS_AND_MODEL) -> Any:
    """Read what `torch.save` wrote, onto the CPU; only tensors and plain containers are allowed.

    Args:
        path: The file.
        plain: What to keep of the content `c` where it holds more, in Python, for the message.

    Raises:
        CheckpointError: The file is damaged, or holds objects whose loading could run code.
    """
    try:
        with safe_globals(_stand_ins(path)):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not _REFUSED.search(str(error)):
            raise _damaged(path) from None
        raise CheckpointError(
            f"{path}: holds Python objects besides tensors, and opening those can run code. If you "
            "trust its origin, keep its plain values: python -c \"import torch; c = torch.load('"
            f"{path.name}', weights_only=False); torch.save({plain}, 'plain.pt')\""
        ) from None
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, IndexError):
        raise _damaged(path) from None


def _stand_ins(path: Path) -> list[Any]:
    """Return a stand-in for every foreign class that a checkpoint names."""
    if not zipfile.is_zipfile(path):
        return []
    names = get_unsafe_globals_in_checkpoint(path)
    return [(type("StandIn", (StandIn,), {}), name) for name in names if name.startswith(_FOREIGN)]


def state_of(content: Any, where: str) -> dict[str, Tensor]:
    """Return a state dictionary; raises CheckpointError if the content is anything else."""
    if not isinstance(content, Mapping):
        raise CheckpointError(f"{where}: holds a {type(content).__name__}, not named parameters.")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise CheckpointError(f"{where}: '{name}' is a {type(value).__name__}, not a tensor.")
    return dict(content)


def _damaged(path: Path) -> CheckpointError:
    return CheckpointError(f"{path}: damaged or cut short; copy or fetch it again.")
