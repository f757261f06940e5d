"""`wavlm-meeting identify`: whose voice of the register it is."""

from dataclasses import asdict
from typing import Annotated

import typer

from wavlm_meeting.cli.errors import Lost, Reporter
from wavlm_meeting.cli.options import (
    AsJson,
    BackendFile,
    Channel,
    Device,
    FalseAccepts,
    Model,
    Quiet,
    RegisterFile,
    Threshold,
)
from wavlm_meeting.cli.output import progress_bar, show_json, show_table
from wavlm_meeting.cli.recordings import readable


def identify(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Recordings of one person each, or folders."),
    ],
    model: Model = "tiny",
    register: RegisterFile = None,
    backend: BackendFile = None,
    false_accepts: FalseAccepts = 0.01,
    threshold: Threshold = None,
    device: Device = "auto",
    channel: Channel = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say whose voice of the register each recording holds, or that it is nobody's.

    A recording that cannot be read, or holds no speech, does not stop the others; the exit status
    is 2 then.
    """
    reporter: Reporter = context.obj
    recordings, status = readable(files, channel, reporter)
    if not recordings:
        raise typer.Exit(status)
    from wavlm_meeting.verification.identification import identify as identify_voices

    lost = Lost(reporter, status)
    with progress_bar("identify", quiet=quiet) as progress:
        found = identify_voices(
            recordings,
            model,
            register,
            backend,
            false_accepts,
            threshold,
            device,
            channel,
            failed=lost,
            progress=progress,
        )
    names = lost.without(recordings)
    heard = list(zip(names, found, strict=True))
    if as_json:
        show_json([{"file": name, **asdict(identity)} for name, identity in heard])
    elif heard:
        rows = [
            (name, one.name or "unknown", one.nearest, f"{one.score:.2f}", f"{one.threshold:.2f}")
            for name, one in heard
        ]
        show_table("", ("recording", "voice", "nearest", "score", "needed"), rows)
    raise typer.Exit(lost.status)
