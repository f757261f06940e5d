"""Stage `prepare`: the calls as published -> manifests of what adapts, is chosen on and tested.

CALLHOME is disc 8 of the NIST 2000 speaker recognition evaluation (LDC2001S97): 500 calls at 8 kHz
(`<name>.sph`), and `fullref.rttm` of the key on openslr.org/10 (`sre2000-key`). Part 1 adapts and
part 2 tests, as Kaldi's recipe splits them: its `callhome1/wav.scp` and `callhome2/wav.scp` say
which call is in which. Without them the calls are split at random, half and half.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from pyannote.core import Annotation

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.formats.lines import read_fields
from wavlm_meeting.formats.rttm import read_rttm
from wavlm_meeting.recipes.callhome.settings import CallhomeSettings
from wavlm_meeting.recipes.diarization import Prepared, prepare_material
from wavlm_meeting.recipes.finding import find_file
from wavlm_meeting.training.diarization_recordings import (
    Conversation,
    conversation_of,
    write_conversations,
)

REFERENCE = "fullref.rttm"
PARTS = ("callhome1/wav.scp", "callhome2/wav.scp")
"""Kaldi's lists; the first field of a line is the name of a call."""
SUFFIXES = (".sph", ".wav", ".flac")
"""As published, or unpacked by sph2pipe."""
TEST = "part-2"

log = logging.getLogger(__name__)


def prepare(data: Path, prepared: Prepared, settings: CallhomeSettings) -> None:
    """Write the manifests.

    Raises SettingsError where the key, the calls of a part or speech to simulate from is missing,
    AudioError for a file that is compressed with shorten.
    """
    reference = read_rttm(reference_of(data))
    calls = _calls(data, reference)
    first, second = _parts(data, list(calls), settings.seed)
    order = np.random.default_rng(settings.seed).permutation(first).tolist()
    held = max(1, round(settings.dev * len(order)))
    chosen = {prepared.dev: order[:held], prepared.train: order[held:]}
    for path, names in {**chosen, prepared.test(TEST): second}.items():
        own = [calls[name] for name in sorted(names)]
        if not own:
            raise SettingsError(f"{data}: too few calls: none is left for {path.name}.")
        write_conversations(own, path)
        hours = sum(each.duration_s for each in own) / 3600
        log.info("prepare: %s: %d calls, %.2f hours", path.name, len(own), hours)
    prepare_material(data, prepared, speech=settings.simulates(), workers=settings.workers)


def reference_of(data: Path) -> Path:
    """Return the key's RTTM; raises SettingsError if it is not there."""
    found = find_file(data, REFERENCE)
    if found is None:
        raise SettingsError(
            f"{data}: no {REFERENCE} here or up to two levels down; unpack sre2000-key.tar.gz "
            "(openslr.org/10) there."
        )
    return found


def lists_of(data: Path) -> list[Path]:
    """Return the lists of the parts that there are."""
    return [path for name in PARTS if (path := find_file(data, name))]


def _calls(data: Path, reference: Mapping[str, Annotation]) -> dict[str, Conversation]:
    """Return the calls of the key that there is audio of, by name."""
    files: dict[str, Path] = {}
    for suffix in SUFFIXES:
        for path in sorted(data.rglob(f"*{suffix}")):
            if path.stem in reference:
                files.setdefault(path.stem, path)
    if not files:
        raise SettingsError(
            f"{data}: no call of {REFERENCE} here or below it; they are called <name>.sph, such as "
            f"{next(iter(reference), 'iaaa')}.sph."
        )
    missing = sorted(reference.keys() - files.keys())
    if missing:
        log.info("prepare: %d calls have no audio, such as %s", len(missing), missing[0])
    return {
        name: conversation_of(name, files[name].resolve(), reference[name])
        for name in sorted(files)
    }


def _parts(data: Path, names: Sequence[str], seed: int) -> tuple[list[str], list[str]]:
    """Return the calls of part 1 and of part 2."""
    lists = lists_of(data)
    if len(lists) == len(PARTS):
        listed = [{fields[0] for _, fields in read_fields(path)} for path in lists]
        if both := sorted(listed[0] & listed[1]):
            raise SettingsError(f"{lists[0]}: {both[0]} is in the other part too; split again.")
        return [name for name in names if name in listed[0]], [
            name for name in names if name in listed[1]
        ]
    log.info(
        "prepare: no %s and %s: the calls are split at random, so that figures are not quite those "
        "of others",
        *PARTS,
    )
    order = np.random.default_rng(seed).permutation(names).tolist()
    return order[: len(order) // 2], order[len(order) // 2 :]
