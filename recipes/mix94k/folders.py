"""Finding the folders that a corpus is published in."""

from collections.abc import Sequence
from pathlib import Path

from wavlm_meeting.errors import SettingsError


def folders_of(root: Path, names: Sequence[str], corpus: str) -> list[Path]:
    """Return those of the named folders below `root` that are there, in the order of the names.

    Raises SettingsError if none is.
    """
    found = [root / name for name in names if (root / name).is_dir()]
    if not found:
        raise SettingsError(
            f"{root}: no {corpus} here; name the folder that holds {' or '.join(names)}."
        )
    return found
