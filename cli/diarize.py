"""`wavlm-meeting diarize`: who spoke when, in any number of recordings."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavlm_meeting.cli.errors import Reporter
from wavlm_meeting.cli.live import MODEL as LIVE_MODEL
from wavlm_meeting.cli.live import live as listen_live
from wavlm_meeting.cli.options import (
    BackendFile,
    Channel,
    Clustering,
    Device,
    Exclusive,
    Faint,
    FalseAccepts,
    Latency,
    MaxSpeakers,
    MinGap,
    MinSpeakers,
    MinTurn,
    Model,
    NumSpeakers,
    Precision,
    Quiet,
    RegisterFile,
    Threshold,
    check_speaker_counts,
    make_folder,
)
from wavlm_meeting.cli.output import Progress, bar_of_each, show_line, show_table
from wavlm_meeting.cli.recordings import readable, refuse_clashes
from wavlm_meeting.cli.results import Results, parse_formats
from wavlm_meeting.cli.tally import Tally
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.formats import DiarizationDocument

LIVE = {
    "files",
    "model",
    "max_speakers",
    "channel",
    "out",
    "live",
    "latency",
    "device",
    "precision",
}
"""Parameters that `diarize --live` takes; the command `live` has more of its own."""
WORTH_TELLING = 0.005
"""Least probability of a number of speakers that is shown: less would round to 0 %."""


def diarize(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Recordings, or folders of them; audio or video."),
    ],
    model: Model = "mini",
    num_speakers: NumSpeakers = None,
    min_speakers: MinSpeakers = None,
    max_speakers: MaxSpeakers = None,
    channel: Channel = None,
    clustering: Clustering = None,
    exclusive: Exclusive = False,
    min_turn_s: MinTurn = None,
    min_gap_s: MinGap = None,
    faint_db: Faint = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to write; made if it is not there.")
    ] = Path(),
    formats: Annotated[
        str,
        typer.Option(
            "--format",
            metavar="rttm,json,...",
            help="What to write: RTTM always, and any of json, csv, srt, vtt, textgrid, audacity.",
        ),
    ] = "rttm",
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Say who speaks while they do, as the command `live`, with its own default model.",
        ),
    ] = False,
    latency: Latency = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Go on where a run was cut short; skip what is written."),
    ] = False,
    device: Device = "auto",
    precision: Precision = "float32",
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

    Several recordings are a row each, and a summary. With --identify, whoever is in the register
    has a name; RTTM writes `_` for its spaces. A recording that cannot be read does not stop the
    others; the exit status is 2 then. While a recording is analysed, what was heard is kept in
    .<name>.journal beside its results, for --resume.
    """
    if live:
        (source,) = _alone(context, files)
        given = context.get_parameter_source("model")
        asked = given is not None and given.name != "DEFAULT"
        listen_live(
            source,
            model if asked else LIVE_MODEL,
            latency,
            max_speakers,
            channel,
            out=out,
            device=device,
            precision=precision,
        )
        return
    if latency is not None:
        raise SettingsError("--latency: a recording is heard whole; add --live to have it live.")
    check_speaker_counts(num_speakers, min_speakers, max_speakers)
    results = Results(out, parse_formats(formats), resume)
    reporter: Reporter = context.obj
    tally = Tally(reporter.traceback)
    recordings, _ = readable(files, channel, tally)
    refuse_clashes(recordings)
    make_folder(out)
    if resume:
        tally.before.extend(filter(results.are_there, recordings))
    left = [recording for recording in recordings if recording not in tally.before]
    if not left:
        if not quiet:
            tally.show()
        raise typer.Exit(tally.status)

    from wavlm_meeting.diarization.load import load_diarizer
    from wavlm_meeting.formats import document_of

    diarizer = load_diarizer(model, device, precision)
    name = None
    if identify:
        from wavlm_meeting.meeting import name_speakers
        from wavlm_meeting.verification.identification import load_identifier

        name = load_identifier(speaker_model, register, backend, false_accepts, threshold, device)

    def analyse(recording: str, progress: Progress, journal: Path) -> "DiarizationDocument":
        found = diarizer(
            recording,
            channel=channel,
            num_speakers=num_speakers,
            min_speakers=min_speakers,
            max_speakers=max_speakers,
            clustering=clustering,
            exclusive=exclusive,
            min_turn_s=min_turn_s,
            min_gap_s=min_gap_s,
            faint_db=faint_db,
            progress=progress,
            journal=journal,
        )
        return document_of(
            found if name is None else name_speakers(found, recording, name, channel)
        )

    _run(left, analyse, results, tally, quiet=quiet)
    raise typer.Exit(tally.status)


def _alone(context: typer.Context, files: list[str]) -> list[str]:
    """Return the one source that --live takes; raises SettingsError for what it cannot do."""
    for option in context.command.params:
        if option.name not in LIVE and context.params.get(option.name) != option.default:
            raise SettingsError(
                f"{option.opts[0]}: needs the whole recording; leave it or --live out."
            )
    if len(files) > 1:
        raise SettingsError(f"--live: one source, not {len(files)}; give a file, - or microphone.")
    return files


def _run(
    recordings: list[str],
    analyse: Callable[[str, Progress, Path], "DiarizationDocument"],
    results: Results,
    tally: Tally,
    *,
    quiet: bool,
) -> None:
    """Analyse recordings one by one and write and show what is found; none stops the others."""
    with bar_of_each(recordings, quiet=quiet) as bar_of:
        for recording in recordings:
            try:
                with results.journal(recording) as journal:
                    document = analyse(recording, bar_of(recording), journal)
                    results.write(document, recording)
            except Exception as error:  # noqa: BLE001 - whatever it is, the next one may be well
                tally.report(error)
            else:
                tally.add(recording, document)
    if not quiet and tally.is_of_one:
        _show(document, recordings[0])
    elif not quiet:
        tally.show()


def _show(document: "DiarizationDocument", recording: str) -> None:
    """Show the turns, how much each speaker spoke, and how sure their number is."""
    if not document.turns:
        show_line(f"{recording}: no speech, no turns.")
        return
    turns = [
        (
            turn.speaker,
            f"{turn.start:.2f}",
            f"{turn.end:.2f}",
            f"{turn.end - turn.start:.2f}",
            "" if turn.confidence is None else f"{turn.confidence:.2f}",
        )
        for turn in document.turns
    ]
    show_table(recording, ("speaker", "start s", "end s", "length s", "confidence"), turns)
    speakers = [
        (speaker.speaker, f"{speaker.talk_s:.2f}", f"{100 * speaker.share:.1f}")
        for speaker in document.speakers
    ]
    show_table("", ("speaker", "talk s", "share %"), speakers)
    if document.speaker_counts:
        by_probability = sorted(document.speaker_counts, key=lambda each: -each.probability)
        counts = (
            f"{each.speakers} ({100 * each.probability:.0f} %)"
            for each in by_probability
            if each.probability >= WORTH_TELLING
        )
        show_line(f"number of speakers: {', '.join(counts)}")
