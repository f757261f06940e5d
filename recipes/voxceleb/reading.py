"""Recordings of speakers as training reads them.

What runs here runs in many processes: none of it needs PyTorch, which takes long to load.
"""

from pathlib import Path

from wavlm_meeting.recipes.reading import Found, LeftOut, ready_recordings
from wavlm_meeting.recipes.voxceleb.corpora import Speaker


def speaker_recordings(speaker: Speaker, decoded: Path) -> list[Found | LeftOut]:
    """Make all recordings of a speaker ready."""
    return ready_recordings(speaker.recordings(), decoded)


def wanted_recordings(job: tuple[Speaker, frozenset[str]], decoded: Path) -> list[Found | LeftOut]:
    """Make those recordings of a speaker ready whose names are wanted."""
    speaker, wanted = job
    files = (each for each in speaker.recordings() if each[0] in wanted)
    return ready_recordings(files, decoded)
