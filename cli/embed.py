"""`wavlm-meeting embed`: speaker embeddings for other programs."""

from pathlib import Path
from typing import Annotated

import typer

from wavlm_meeting.cli.errors import Lost, Reporter
from wavlm_meeting.cli.options import Channel, Device, Model, Quiet
from wavlm_meeting.cli.output import progress_bar, show_line
from wavlm_meeting.cli.recordings import readable
from wavlm_meeting.errors import SettingsError


def embed(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Recordings, or folders of them; audio or video."),
    ],
    out: Annotated[Path, typer.Option(metavar="X.npz", help="Where to write.")],
    model: Model = "tiny",
    device: Device = "auto",
    channel: Channel = None,
    quiet: Quiet = False,
) -> None:
    """Write speaker embeddings as NumPy arrays: names, embeddings, speech_s, model_sha256.

    A recording that cannot be read, or holds no speech, does not stop the others; the exit status
    is 2 then.
    """
    if out.suffix != ".npz":
        raise SettingsError(f"--out {out}: what is written is a .npz file; name one.")
    if not out.absolute().parent.is_dir():
        raise SettingsError(f"--out {out}: there is no such folder; make it first.")
    reporter: Reporter = context.obj
    recordings, status = readable(files, channel, reporter)
    if not recordings:
        raise typer.Exit(status)
    import numpy as np

    from wavlm_meeting.files import atomic_write
    from wavlm_meeting.verification.load import load_speaker_model
    from wavlm_meeting.verification.recordings import embed_recordings

    lost = Lost(reporter, status)
    loaded = load_speaker_model(model, device)
    with progress_bar(str(out), quiet=quiet) as progress:
        voices = embed_recordings(loaded, recordings, channel, failed=lost, progress=progress)
    names = lost.without(recordings)
    if names:
        with atomic_write(out) as temporary:
            np.savez(
                temporary,
                names=np.array(names),
                embeddings=voices.embeddings,
                speech_s=voices.speech_s,
                model_sha256=np.array(loaded.sha256),
            )
        if not quiet:
            show_line(f"{out}: {len(names)} embeddings of {loaded.size} numbers.")
    raise typer.Exit(lost.status)
