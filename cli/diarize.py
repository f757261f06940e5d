"""`wavlm-meeting diarize`: who spoke when, in any number of recordings."""

from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavlm_meeting.cli.errors import Reporter
from wavlm_meeting.cli.options import (
    BackendFile,
    Channel,
    Device,
    FalseAccepts,
    MaxSpeakers,
    MinSpeakers,
    Model,
    NumSpeakers,
    Quiet,
    RegisterFile,
    Threshold,
    check_speaker_counts,
    make_folder,
)
from wavlm_meeting.cli.output import progress_bar, show_line, show_table
from wavlm_meeting.cli.recordings import readable, refuse_clashes
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.formats import DiarizationDocument

FORMATS = ("rttm", "json")


def diarize(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Recordings, or folders of them; audio or video."),
    ],
    model: Model = "tiny",
    num_speakers: NumSpeakers = None,
    min_speakers: MinSpeakers = None,
    max_speakers: MaxSpeakers = None,
    channel: Channel = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to write; made if it is not there.")
    ] = Path(),
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="rttm,json",
            help="What to write: RTTM always, json with overlaps and confidences if named.",
        ),
    ] = "rttm",
    device: Device = "auto",
    identify: Annotated[
        bool, typer.Option("--identify", help="Put the names of the register's voices on turns.")
    ] = False,
    register: RegisterFile = None,
    speaker_model: Annotated[
        str,
        typer.Option(
            metavar="NAME|PATH|HUB-ID", help="Model that the register's voices were enrolled with."
        ),
    ] = "tiny",
    backend: BackendFile = None,
    false_accepts: FalseAccepts = 0.01,
    threshold: Threshold = None,
    quiet: Quiet = False,
) -> None:
    """Write who spoke when: <name>.rttm for each recording, and a table of the turns.

    With --identify, whoever is in the register has a name; RTTM writes `_` for its spaces. A
    recording that cannot be read does not stop the others; the exit status is 2 then.
    """
    check_speaker_counts(num_speakers, min_speakers, max_speakers)
    wanted = _parse_formats(formats)
    reporter: Reporter = context.obj
    recordings, status = readable(files, channel, reporter)
    refuse_clashes(recordings)
    make_folder(out)
    if recordings:
        from wavlm_meeting import load_pipeline
        from wavlm_meeting.formats import document_of, write_json

        identifier = None
        if identify:
            from wavlm_meeting.meeting import name_speakers
            from wavlm_meeting.verification.identification import load_identifier

            identifier = load_identifier(
                speaker_model, register, backend, false_accepts, threshold, device
            )
        pipeline = load_pipeline(model, device=device)
    for recording in recordings:
        try:
            with progress_bar(recording, quiet=quiet) as progress:
                found = pipeline(
                    recording,
                    channel=channel,
                    num_speakers=num_speakers,
                    min_speakers=min_speakers,
                    max_speakers=max_speakers,
                    progress=progress,
                )
            if identifier is not None:
                found = name_speakers(found, recording, identifier, channel)
            document = document_of(found)
            stem = Path(recording).stem
            found.write_rttm(out / f"{stem}.rttm")
            if "json" in wanted:
                write_json(document, out / f"{stem}.json")
        except Exception as error:  # noqa: BLE001 - whatever it is, the next recording may be well
            status = max(status, reporter.report(error))
        else:
            if not quiet:
                _show(document, recording)
    raise typer.Exit(status)


def _parse_formats(formats: str) -> set[str]:
    """Split the value of --format; raises SettingsError for one that there is not."""
    wanted = {name.strip().lower() for name in formats.split(",")}
    for name in sorted(wanted - set(FORMATS)):
        close = get_close_matches(name, FORMATS, n=1)
        cure = f"did you mean '{close[0]}'?" if close else f"choose from {', '.join(FORMATS)}."
        raise SettingsError(f"--format: unknown format '{name}': {cure}")
    return wanted


def _show(document: "DiarizationDocument", recording: str) -> None:
    """Show the turns, then how much each speaker spoke."""
    if not document.turns:
        show_line(f"{recording}: no speech, no turns.")
        return
    turns = [
        (
            turn.speaker,
            f"{turn.start:.2f}",
            f"{turn.end:.2f}",
            f"{turn.end - turn.start:.2f}",
            f"{turn.confidence:.2f}",
        )
        for turn in document.turns
    ]
    show_table(recording, ("speaker", "start s", "end s", "length s", "confidence"), turns)
    speakers = [
        (speaker.speaker, f"{speaker.talk_s:.2f}", f"{100 * speaker.share:.1f}")
        for speaker in document.speakers
    ]
    show_table("", ("speaker", "talk s", "share %"), speakers)
