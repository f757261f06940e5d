"""`wavlm-meeting manifest`: a folder of speech as shards to pretrain on."""

import re
from pathlib import Path
from typing import Annotated

import typer

from wavlm_meeting.cli.options import AsJson, make_folder
from wavlm_meeting.cli.output import show_json, show_line, show_note
from wavlm_meeting.errors import SettingsError

SHOWN = 10
"""Unreadable files that are named; the index has them all."""


def manifest(
    folder: Annotated[
        Path, typer.Argument(metavar="DIR", help="Folder with speech, searched to any depth.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where to write the shards.")],
    part: Annotated[
        str,
        typer.Option(
            metavar="I/N", help="Write part I of N, from 0: one process for each, in one folder."
        ),
    ] = "0/1",
    as_json: AsJson = False,
) -> None:
    """Write all speech of a folder into shards; run again, it goes on where it was stopped.

    What cannot be read is skipped, counted and listed in index.jsonl.
    """
    from wavlm_meeting.audio.folders import SUFFIXES

    try:
        from wavlm_meeting.training.shards import write_shards
        from wavlm_meeting.training.sources import files_below, folder_cuts
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error}: manifests need the extra 'train'; pip install 'wavlm-meeting[train]'."
        ) from None

    number = _read_part(part)
    sources = folder_cuts(files_below(folder, SUFFIXES), folder)
    index = write_shards(sources, make_folder(out), part=number)
    skipped = [unreadable for shard in index for unreadable in shard.skipped]
    cuts, seconds = sum(shard.cuts for shard in index), sum(shard.seconds for shard in index)
    if as_json:
        files = [unreadable._asdict() for unreadable in skipped]
        show_json({"cuts": cuts, "hours": seconds / 3600, "skipped": files})
        return
    for unreadable in skipped[:SHOWN]:
        show_note(f"{unreadable.name}: skipped, {unreadable.reason}")
    show_line(
        f"{out}: {cuts} cuts, {seconds / 3600:.2f} hours; {len(skipped)} of the files or pieces "
        "were skipped."
    )


def _read_part(text: str) -> tuple[int, int]:
    """Read I/N."""
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match:
        raise SettingsError(f"--part {text}: write I/N with I from 0 to N - 1, as in 0/4.")
    return int(match[1]), int(match[2])
