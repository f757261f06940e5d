"""LibriSpeech 960 h: `<part>/<speaker>/<chapter>/*.flac`, with a transcript for each chapter.

Lhotse's preparation follows the lines of the transcripts. Here the audio leads: where a transcript
is missing or cut, its speech is there all the same, without text.
"""

from collections.abc import Iterator
from pathlib import Path

from lhotse import SupervisionSegment

from wavlm_meeting.recipes.mix94k.folders import folders_of
from wavlm_meeting.training.sources import (
    Source,
    Unreadable,
    files_below,
    read_recording,
    reason_of,
)

PARTS = ("train-clean-100", "train-clean-360", "train-other-500")


def librispeech(root: Path) -> Iterator[Source]:
    """Give the utterances of LibriSpeech 960 h with their transcripts, whole: 35 s at most.

    A part that is missing is listed as unreadable. Raises SettingsError if all are.
    """
    root = root / "LibriSpeech" if (root / "LibriSpeech").is_dir() else root
    folders = folders_of(root, PARTS, "LibriSpeech")
    return _parts(root, folders)


def _parts(root: Path, folders: list[Path]) -> Iterator[Source]:
    for part in PARTS:
        if root / part not in folders:
            yield Unreadable(part, "no such folder")
            continue
        transcripts: dict[str, str] = {}
        chapter = None
        for path in files_below(root / part, {".flac"}):
            if path.parent != chapter:
                yield from _missing(transcripts)
                chapter = path.parent
                found = _transcripts(chapter, root)
                if isinstance(found, Unreadable):
                    yield found
                transcripts = {} if isinstance(found, Unreadable) else found
            yield _utterance(path, transcripts.pop(path.stem, ""))
        yield from _missing(transcripts)


def _utterance(path: Path, text: str) -> Source:
    """Return one file as a cut; its id is its name, as everywhere that LibriSpeech is used."""
    recording = read_recording(path, path.stem)
    if isinstance(recording, Unreadable):
        return recording
    cut = recording.to_cut()
    cut.supervisions = [
        SupervisionSegment(
            id=path.stem,
            recording_id=path.stem,
            start=0.0,
            duration=recording.duration,
            text=text or None,
            language="English",
            speaker=path.stem.split("-")[0],
        )
    ]
    return cut


def _transcripts(chapter: Path, root: Path) -> dict[str, str] | Unreadable:
    """Read `<speaker>-<chapter>.trans.txt`: on each line an utterance's name and its words."""
    path = chapter / f"{chapter.parent.name}-{chapter.name}.trans.txt"
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        return Unreadable(path.relative_to(root).as_posix(), reason_of(error))
    pairs = (line.partition(" ") for line in lines)
    return {name: text.strip() for name, _, text in pairs if name}


def _missing(transcripts: dict[str, str]) -> Iterator[Source]:
    """Give the utterances of a transcript that had no file."""
    for name in transcripts:
        yield Unreadable(name, "in the transcript, but there is no such file")
