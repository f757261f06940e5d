"""`wavlm-meeting separate`: people who talk at once, each on a track of their own."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from math import log10
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from wavlm_meeting.cli.errors import Reporter
from wavlm_meeting.cli.listening import Interrupt, check_source, listen, name_of
from wavlm_meeting.cli.options import (
    Channel,
    Clustering,
    Device,
    Faint,
    MaxSpeakers,
    MinGap,
    MinSpeakers,
    MinTurn,
    Model,
    NumSpeakers,
    Quiet,
    check_speaker_counts,
    make_folder,
)
from wavlm_meeting.cli.output import Progress, bar_of_each, show_line, show_note, show_table
from wavlm_meeting.cli.recordings import readable, refuse_clashes, refuse_replacing
from wavlm_meeting.cli.tally import Tally
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.separation.pipeline import SeparationPipeline
    from wavlm_meeting.tracks import Tracks

TRACK = r"_(?:[12]|SPEAKER_\d+)"
"""What the name of a track ends in, behind that of its recording."""


def separate(
    context: typer.Context,
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="Recordings, or folders of them; with --live one file, - or microphone.",
        ),
    ],
    model: Model = "tiny",
    by_speaker: Annotated[
        bool, typer.Option("--by-speaker", help="One track for each person, and RTTM.")
    ] = False,
    num_speakers: NumSpeakers = None,
    min_speakers: MinSpeakers = None,
    max_speakers: MaxSpeakers = None,
    channel: Channel = None,
    microphones: Annotated[
        bool,
        typer.Option(
            "--microphones",
            help="The channels are microphones of one room; tracks sound as in --channel, or in 1.",
        ),
    ] = False,
    clustering: Clustering = None,
    min_turn_s: MinTurn = None,
    min_gap_s: MinGap = None,
    faint_db: Faint = None,
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Where to write; made if it is not there.")
    ] = Path(),
    container: Annotated[
        Literal["wav", "flac"] | None,
        typer.Option("--format", help="Kind of the tracks; default: the recording's, or else wav."),
    ] = None,
    device: Device = "auto",
    live: Annotated[
        bool, typer.Option("--live", help="Write the tracks while the recording goes on.")
    ] = False,
    latency: Annotated[
        float | None,
        typer.Option(
            "--latency",
            min=0,
            metavar="SECONDS",
            help="Of --live: refuse a model whose tracks come later than this.",
        ),
    ] = None,
    quiet: Quiet = False,
) -> None:
    """Write two tracks without overlap: <name>_1.wav and <name>_2.wav, as long as the recording.

    Rate, samples and loudness are the recording's; nothing above 8 kHz is kept. With --by-speaker
    each person has a track, <name>_SPEAKER_00.wav and so on, silent where they do not speak, with
    an RTTM of each and <name>.rttm of all; --num-speakers and its like are for that. Older files
    are replaced, and older tracks of speakers removed. A recording that cannot be read does not
    stop the others; the exit status is 2 then. With --live, tracks are WAV of 16 bits at 16 kHz and
    grow until the recording ends, or Ctrl-C is pressed.
    """
    check_speaker_counts(num_speakers, min_speakers, max_speakers)
    about_speakers = {
        "num_speakers": num_speakers,
        "min_speakers": min_speakers,
        "max_speakers": max_speakers,
        "clustering": clustering,
        "min_turn_s": min_turn_s,
        "min_gap_s": min_gap_s,
        "faint_db": faint_db,
    }
    _check(about_speakers, latency, by_speaker=by_speaker, live=live)
    if live:
        _check_live(files, channel, container, microphones=microphones)
        make_folder(out)
        _follow(files[0], _separator(model, device, latency), channel, out, quiet=quiet)
        return
    reporter: Reporter = context.obj
    tally = Tally(reporter.traceback)
    recordings, _ = readable(files, channel, tally)
    refuse_clashes(recordings, ".rttm" if by_speaker else "_1.wav")
    refuse_replacing(recordings, out, TRACK)
    if not recordings:
        raise typer.Exit(tally.status)
    make_folder(out)

    from wavlm_meeting.tracks import load_track_writer

    writer = load_track_writer(model, device, by_speaker=by_speaker)

    def write(recording: str, progress: Progress) -> "Tracks":
        return writer(
            recording,
            out,
            num_speakers=num_speakers,
            min_speakers=min_speakers,
            max_speakers=max_speakers,
            channel=channel,
            microphones=microphones,
            clustering=clustering,
            min_turn_s=min_turn_s,
            min_gap_s=min_gap_s,
            faint_db=faint_db,
            container=container,
            progress=progress,
        )

    _run(recordings, write, tally, quiet=quiet)
    raise typer.Exit(tally.status)


def _check(
    about_speakers: Mapping[str, object], latency: float | None, *, by_speaker: bool, live: bool
) -> None:
    """Refuse options that do not go together; raises SettingsError."""
    for name, value in about_speakers.items():
        if value is not None and not by_speaker:
            option = name.removesuffix("_s").removesuffix("_db").replace("_", "-")
            raise SettingsError(f"--{option} is about speakers; add --by-speaker, or leave it out.")
    if live and by_speaker:
        raise SettingsError(
            "--live: who the speakers are is known at the end; leave out --by-speaker."
        )
    if latency is not None and not live:
        raise SettingsError("--latency is about what is written meanwhile; add --live.")


def _run(
    recordings: list[str],
    write: "Callable[[str, Progress], Tracks]",
    tally: Tally,
    *,
    quiet: bool,
) -> None:
    """Separate recordings one by one and show what is written; none stops the others."""
    done = []
    with bar_of_each(recordings, quiet=quiet) as bar_of:
        for recording in recordings:
            try:
                tracks = write(recording, bar_of(recording))
            except Exception as error:  # noqa: BLE001 - whatever it is, the next one may be well
                tally.report(error)
            else:
                done.append(tracks)
                if not quiet:
                    _show(recording, tracks)
    if not quiet and done and (tally.failed or len(done) > 1):
        tally.show_speed(len(done), sum(tracks.duration_s for tracks in done))
        tally.show_failed()


def _show(recording: str, tracks: "Tracks") -> None:
    """Show where the tracks are, whose they are, and whether they had to be made quieter."""
    quieter = f", {20 * log10(tracks.gain):.1f} dB so that nothing clips"
    ending = quieter if tracks.gain < 1 else ""
    if tracks.diarization is None:
        files = " and ".join(str(path) for path in tracks.files)
        show_line(f"{recording}: {tracks.duration_s:.1f} s on {files}{ending}")
        return
    if not tracks.files:
        show_line(f"{recording}: no speech, no tracks.")
        return
    talk_s = dict.fromkeys(tracks.diarization.speakers, 0.0)
    for turn in tracks.diarization.turns:
        talk_s[turn.speaker] += turn.end - turn.start
    rows = [
        (str(path), f"{seconds:.2f}")
        for path, seconds in zip(tracks.files, talk_s.values(), strict=True)
    ]
    show_line(f"{recording}: {tracks.duration_s:.1f} s, speakers: {len(rows)}{ending}")
    show_table("", ("track", "talk s"), rows)


def _check_live(
    files: list[str], channel: int | None, container: str | None, *, microphones: bool
) -> None:
    """Refuse what cannot be followed, before the model is loaded."""
    if microphones:
        raise SettingsError("--live hears one channel; leave out --microphones.")
    if container == "flac":
        raise SettingsError("--format flac: it cannot be read while it grows; leave it out.")
    if len(files) > 1:
        raise SettingsError(f"--live: one source, not {len(files)}; give a file, - or microphone.")
    check_source(files[0], channel)


def _separator(model: str, device: str, latency: float | None) -> "SeparationPipeline":
    """Load a model whose tracks come soon enough; raises SettingsError if they do not."""
    from wavlm_meeting.separation.load import load_separator

    separator = load_separator(model, device)
    if latency is not None and separator.latency_s > latency:
        raise SettingsError(
            f"--latency {latency:g}: the tracks of '{model}' come {separator.latency_s:g} s after "
            "the sound; allow as much, or take a model with shorter windows."
        )
    return separator


def _follow(
    source: str,
    separator: "SeparationPipeline",
    channel: int | None,
    out: Path,
    *,
    quiet: bool,
) -> None:
    """Write tracks that grow as the source goes on, until it ends or Ctrl-C is pressed."""
    from wavlm_meeting.audio.live import RAW
    from wavlm_meeting.audio.write import GrowingTracks

    paths = [out / f"{name_of(source)}_{number}.wav" for number in (1, 2)]
    with ExitStack() as stack:
        interrupt = stack.enter_context(Interrupt())
        blocks = listen(source, channel, 1.0, RAW, stack)
        tracks = stack.enter_context(GrowingTracks(paths))
        if not quiet:
            files = " and ".join(str(path) for path in paths)
            show_line(f"{source}: {files}, {separator.latency_s:g} s behind")
        for piece in separator.stream(interrupt.until_asked(blocks), batch=1):
            tracks.append(piece)
    if tracks.clipped:
        show_note(f"{source}: {tracks.clipped} samples were beyond full scale, and are cut off.")
