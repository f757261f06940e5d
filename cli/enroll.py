"""`wavlm-meeting enroll`: somebody's voice into the register."""

from typing import Annotated

import typer

from wavlm_meeting.cli.errors import Reporter
from wavlm_meeting.cli.options import BackendFile, Channel, Device, Model, Quiet, RegisterFile
from wavlm_meeting.cli.output import show_line
from wavlm_meeting.cli.recordings import readable


def enroll(
    context: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Who speaks.")],
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Recordings of this person alone, or folders."),
    ],
    model: Model = "tiny",
    register: RegisterFile = None,
    backend: BackendFile = None,
    device: Device = "auto",
    channel: Channel = None,
    quiet: Quiet = False,
) -> None:
    """Put somebody's recordings into the register: all of them, or none if one will not do.

    Each needs half a second of speech at least, of one person; more recordings are added to a voice
    that is there.
    """
    reporter: Reporter = context.obj
    recordings, status = readable(files, channel, reporter)
    if status:
        raise typer.Exit(status)
    from wavlm_meeting.meeting import enroll as enroll_voice

    voice = enroll_voice(name, recordings, model, register, backend, device, channel)
    if not quiet:
        total_s = sum(take.speech_s for take in voice.takes)
        show_line(f"{voice.name}: {len(voice.takes)} recordings, {total_s:.1f} s of speech.")
