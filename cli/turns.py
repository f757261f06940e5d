"""`wavlm-meeting turns`: files of turns, whatever they were made with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavlm_meeting.cli.options import make_folder
from wavlm_meeting.cli.output import show_line
from wavlm_meeting.errors import FormatError, SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.formats import DiarizationDocument
    from wavlm_meeting.formats.catalog import Format

app = typer.Typer(help="Convert files of turns.", no_args_is_help=True)

_NAMES = "rttm|json|csv|srt|vtt|textgrid|audacity"


@app.callback()
def _group() -> None:
    """Keep `convert` a command of its own while it is the only one."""


@app.command(no_args_is_help=True)
def convert(
    source: Annotated[Path, typer.Argument(metavar="IN", help="File of turns, or folder of them.")],
    out: Annotated[
        Path, typer.Argument(metavar="OUT", help="File to write; with several recordings a folder.")
    ],
    read_as: Annotated[
        str | None,
        typer.Option("--from", metavar=_NAMES, help="Format, if the name tells none."),
    ] = None,
    write_as: Annotated[
        str | None,
        typer.Option("--to", metavar=_NAMES, help="Format, if the name tells none."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
) -> None:
    """Write turns in another format: RTTM, JSON, CSV, SRT, VTT, TextGrid or Audacity's labels.

    Names of files tell their formats. Into a folder, made if it is not there, goes a file for each
    recording, named after it, in the format of --to.
    """
    from wavlm_meeting.formats.catalog import format_named, format_of

    kind = None if read_as is None else format_named(read_as, "--from")
    named = None if write_as is None else format_named(write_as)
    single = source.is_file() and not out.is_dir() and (out.suffix or named is None)
    target = named or (format_of(out) if single else None)
    if target is None:
        raise SettingsError(f"{out}: a folder; name the format to write with --to.")
    recordings = _read(source, kind)
    if single and len(recordings) > 1:
        raise SettingsError(
            f"{source}: {len(recordings)} recordings; name a folder and --to for a file of each."
        )
    paths = [out] if single else [out / _file_name(uri, target) for uri in recordings]
    for path in paths:
        if path.exists() and not force:
            raise SettingsError(f"{path}: is there already; name another place, or add --force.")
    if not single:
        make_folder(out)
    elif not out.absolute().parent.is_dir():
        raise SettingsError(f"{out}: there is no such folder; make it first.")
    for path, document in zip(paths, recordings.values(), strict=True):
        target.write(document, path)
        show_line(f"{path}: {len(document.turns)} turns, {len(document.speakers)} speakers")


def _read(source: Path, kind: "Format | None") -> "dict[str, DiarizationDocument]":
    """Read a file or a folder of turns, by recording; raises FormatError."""
    from wavlm_meeting.formats.catalog import read_turns, turn_files

    if not source.is_dir():
        return read_turns(source, kind)
    found: dict[str, DiarizationDocument] = {}
    for file in turn_files(source, kind):
        for uri, document in read_turns(file, kind).items():
            if uri in found:
                raise FormatError(f"{file}: '{uri}' is in another file too; leave one out.")
            found[uri] = document
    if not found:
        raise FormatError(f"{source}: no file of turns in this folder; name one that has some.")
    return found


def _file_name(uri: str, target: "Format") -> str:
    """Name a recording's file; raises FormatError for a name that would lead elsewhere."""
    if Path(uri).name != uri:
        raise FormatError(
            f"'{uri}': this recording's name is no file's; rename it, or name a file."
        )
    return f"{uri}{target.suffix}"
