"""Stage `prepare`: audio and references as published -> manifests of the splits.

Audio: `amicorpus/<meeting>/audio/<meeting>.<microphone>.wav` (groups.inf.ed.ac.uk/ami). Splits and
references: `AMI-diarization-setup` (github.com/BUTSpeechFIT), the Full-corpus-ASR partition, words
alone: `lists/<split>.meetings.txt`, `only_words/rttms/<split>/<meeting>.rttm`,
`uems/<split>/<meeting>.uem`.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from pyannote.core import Annotation

from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.formats.lines import read_fields
from wavlm_meeting.formats.rttm import read_rttm
from wavlm_meeting.formats.uem import read_uem
from wavlm_meeting.recipes.ami.settings import AmiSettings
from wavlm_meeting.recipes.diarization import Prepared, prepare_material
from wavlm_meeting.recipes.finding import find_folder
from wavlm_meeting.training.diarization_recordings import (
    Conversation,
    conversation_of,
    write_conversations,
)

AUDIO, SETUP = "amicorpus", "AMI-diarization-setup"
SPLITS = ("train", "dev", "test")

log = logging.getLogger(__name__)


def prepare(data: Path, prepared: Prepared, settings: AmiSettings) -> None:
    """Write the manifests.

    Raises SettingsError where a folder, a split's recordings or speech to simulate from is missing,
    FormatError for a broken reference.
    """
    audio, setup = folder_of(data, AUDIO), folder_of(data, SETUP)
    for split in SPLITS:
        found = {
            microphone: list(_meetings(audio, setup, split, microphone))
            for microphone in settings.microphones
        }
        if split == "test":
            for microphone, meetings in found.items():
                _write(meetings, prepared.test(microphone), f"{split}, {microphone}")
        else:
            everything = [each for meetings in found.values() for each in meetings]
            _write(everything, prepared.train if split == "train" else prepared.dev, split)
    prepare_material(data, prepared, speech=settings.simulates(), workers=settings.workers)


def folder_of(data: Path, name: str) -> Path:
    """Return a folder of the corpus; raises SettingsError if it is not there."""
    found = find_folder(data, name)
    if found is None:
        raise SettingsError(
            f"{data}: no {name} here or up to two levels down; name the folder that holds it, as "
            "recipes/ami/README.md says."
        )
    return found


def _meetings(audio: Path, setup: Path, split: str, microphone: str) -> Iterator[Conversation]:
    """Give the meetings of a split that there is audio of; what is missing is logged."""
    missing = []
    for _, (meeting, *_rest) in read_fields(setup / f"lists/{split}.meetings.txt"):
        path = audio / meeting / "audio" / f"{meeting}.{microphone}.wav"
        if not path.is_file():
            missing.append(meeting)
            continue
        reference = read_rttm(setup / f"only_words/rttms/{split}/{meeting}.rttm")
        scored = read_uem(setup / f"uems/{split}/{meeting}.uem")
        if meeting not in scored or reference.keys() - {meeting}:
            raise FormatError(
                f"{setup}: the RTTM or UEM of {meeting} names another meeting; copy both again."
            )
        said = reference.get(meeting, Annotation(uri=meeting))
        name = f"{meeting}.{microphone}"
        yield conversation_of(name, path.resolve(), said, scored[meeting].extent())
    if missing:
        log.info(
            "prepare: %s, %s: %d meetings have no audio: %s",
            *(split, microphone, len(missing), ", ".join(missing)),
        )


def _write(meetings: Sequence[Conversation], path: Path, what: str) -> None:
    if not meetings:
        raise SettingsError(
            f"{AUDIO}: no audio of {what}; download <meeting>/audio/<meeting>.<microphone>.wav, or "
            "choose other microphones."
        )
    write_conversations(meetings, path)
    hours = sum(each.duration_s for each in meetings) / 3600
    log.info("prepare: %s: %d recordings, %.2f hours", what, len(meetings), hours)
