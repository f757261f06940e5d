"""Trial lists: cleaned VoxCeleb1-O, E and H, or others of the same form."""

import logging
from collections.abc import Mapping
from pathlib import Path

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.formats.trials import Trials, read_trials
from wavlm_meeting.recipes.finding import SUFFIXES, find_file

log = logging.getLogger(__name__)


def find_lists(data: Path, files: Mapping[str, str]) -> dict[str, Trials]:
    """Read those trial lists, given by name and file name, that are below `data`.

    What is missing is logged. Raises SettingsError if all are, FormatError for a broken list.
    """
    found = {}
    for name, file in files.items():
        path = find_file(data, file)
        if path is None:
            log.info("%s: no %s here or up to two folders down, so no list %s", data, file, name)
        else:
            found[name] = read_trials(path)
    if not found:
        raise SettingsError(
            f"{data}: no trial list here or up to two folders down; fetch "
            f"{' or '.join(files.values())}, or name another under [data.lists]."
        )
    return found


def recording_name(field: str) -> str:
    """Return the name `<speaker>/<video>/<utterance>` of what a trial list calls by its file."""
    path = Path(field)
    return path.with_suffix("").as_posix() if path.suffix.lower() in SUFFIXES else path.as_posix()
