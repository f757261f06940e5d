"""From the FILE... of a command line to the recordings that it means."""

from collections.abc import Iterable
from pathlib import Path

from wavlm_meeting.cli.errors import Reporter
from wavlm_meeting.errors import AudioError, SettingsError, WavLMMeetingError


def expand(argument: str) -> list[str]:
    """Return the recordings that one argument stands for: itself, or those in a folder.

    Folders are not searched below their first level, and hidden files are left alone. Raises
    AudioError for a folder without recordings.
    """
    from wavlm_meeting.audio.folders import is_recording

    folder = Path(argument)
    if not folder.is_dir():
        return [argument]
    found = sorted(str(path) for path in folder.iterdir() if is_recording(path))
    if not found:
        raise AudioError(f"{argument}: no audio or video in this folder; name the files instead.")
    return found


def without_repeats(recordings: Iterable[str]) -> list[str]:
    """Drop the second naming of a file, as when it is named beside its folder."""
    return list({Path(recording).resolve(): recording for recording in recordings}.values())


def refuse_clashes(recordings: Iterable[str]) -> None:
    """Refuse recordings whose results would overwrite each other; raises SettingsError."""
    by_stem: dict[str, str] = {}
    for recording in recordings:
        stem = Path(recording).stem
        other = by_stem.setdefault(stem, recording)
        if other != recording:
            raise SettingsError(
                f"{other} and {recording} would both be written to {stem}.rttm; "
                "run them one by one, each with its own --out."
            )


def readable(
    arguments: Iterable[str], channel: int | None, reporter: Reporter
) -> tuple[list[str], int]:
    """Open every recording once, so that what cannot be read is told before the work begins.

    Returns those that open, and the exit status so far.
    """
    from wavlm_meeting.audio import open_audio

    found, status = [], 0
    for argument in arguments:
        try:
            recordings = expand(argument)
        except (WavLMMeetingError, OSError) as error:
            status = reporter.report(error)
            continue
        for recording in without_repeats(recordings):
            try:
                open_audio(recording, channel=channel).close()
            except (WavLMMeetingError, OSError) as error:
                status = reporter.report(error)
            else:
                found.append(recording)
    return without_repeats(found), status
