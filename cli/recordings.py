"""From the FILE... of a command line to the recordings that it means."""

import re
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


def refuse_clashes(recordings: Iterable[str], ending: str = ".rttm") -> None:
    """Refuse recordings whose results would overwrite each other; raises SettingsError.

    `ending` is what the names of the results have behind the recording's.
    """
    by_stem: dict[str, str] = {}
    for recording in recordings:
        stem = Path(recording).stem
        other = by_stem.setdefault(stem, recording)
        if other != recording:
            raise SettingsError(
                f"{other} and {recording} would both be written to {stem}{ending}; "
                "run them one by one, each with its own --out."
            )


def refuse_replacing(recordings: Iterable[str], out: Path, ending: str) -> None:
    """Refuse recordings that the results of others would replace; raises SettingsError.

    Results lie in `out`, and the regular expression `ending` is what their names have behind their
    recording's.
    """
    by_stem = {Path(recording).stem: recording for recording in recordings}
    for stem, recording in by_stem.items():
        result = re.fullmatch(f"(.+){ending}", stem)
        if result and result[1] in by_stem and Path(recording).parent.resolve() == out.resolve():
            raise SettingsError(
                f"{recording} could be replaced by what is made of {by_stem[result[1]]}; name "
                "another folder by --out."
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
