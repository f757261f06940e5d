"""The command `wavlm-meeting`: every command group, and how a run begins and ends."""

import sys
from typing import Annotated

import typer

from wavlm_meeting.cli import (
    compare,
    compress,
    diarize,
    doctor,
    embed,
    enroll,
    finetune,
    identify,
    label,
    live,
    manifest,
    models,
    pretrain,
    recipe,
    report,
    score,
    separate,
    transcript,
    turns,
    verify,
    voices,
)
from wavlm_meeting.cli.errors import INTERRUPTED, Reporter, was_interrupted
from wavlm_meeting.cli.output import show_line, speak_plainly

app = typer.Typer(
    name="wavlm-meeting",
    help="Who spoke when: speaker and meeting analysis on a WavLM core.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help answers in half the time
)
app.command("diarize", short_help="Write who spoke when.", no_args_is_help=True)(diarize.diarize)
app.command("live", short_help="Write who speaks, as they speak.", no_args_is_help=True)(live.live)
app.command("separate", short_help="Write a track for each talker.", no_args_is_help=True)(
    separate.separate
)
app.command("verify", short_help="Say whether two voices are one.", no_args_is_help=True)(
    verify.verify
)
app.command("embed", short_help="Write speaker embeddings.", no_args_is_help=True)(embed.embed)
app.command("enroll", short_help="Put a voice into the register.", no_args_is_help=True)(
    enroll.enroll
)
app.command("identify", short_help="Say whose voice it is.", no_args_is_help=True)(
    identify.identify
)
app.add_typer(voices.app, name="voices")
app.add_typer(score.app, name="score")
app.command("compare", short_help="Say where errors come from.", no_args_is_help=True)(
    compare.compare
)
app.command("transcript", short_help="Put speakers on words.", no_args_is_help=True)(
    transcript.transcript
)
app.add_typer(turns.app, name="turns")
app.add_typer(finetune.app, name="finetune")
app.command("compress", short_help="Make a model smaller.", no_args_is_help=True)(compress.compress)
app.add_typer(report.app, name="report")
app.add_typer(models.app, name="models")
app.command(
    "manifest", short_help="Write speech into shards to pretrain on.", no_args_is_help=True
)(manifest.manifest)
app.command("label", short_help="Write pseudo-labels beside shards.", no_args_is_help=True)(
    label.label
)
app.command("pretrain", short_help="Pretrain, or plan it.", no_args_is_help=True)(pretrain.pretrain)
app.add_typer(recipe.app, name="recipe")
app.command("doctor", short_help="Tell what is broken here, and its cure.")(doctor.doctor)


def _show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from wavlm_meeting import __version__

        show_line(f"wavlm-meeting {__version__}")
        raise typer.Exit


@app.callback()
def _globals(
    _version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
    _traceback: Annotated[
        bool,
        typer.Option("--traceback", help="Show where an error arose; allowed anywhere."),
    ] = False,
) -> None:
    """Take the options of all commands; `main` has acted on --traceback already."""


def main() -> None:
    """Run the command as typed and exit: 0 done, 2 a problem with its cure, 130 interrupted."""
    speak_plainly()
    words = [word for word in sys.argv[1:] if word != "--traceback"]
    reporter = Reporter(traceback=len(words) < len(sys.argv) - 1)
    command = typer.main.get_command(app)
    try:
        status = command.main(words, "wavlm-meeting", standalone_mode=False, obj=reporter)
    except SystemExit as leaving:  # Rich's, where nobody reads the output any more
        status = leaving.code
    except BaseException as error:  # noqa: BLE001 - the last stop: all become a line and a status
        status = INTERRUPTED.status if was_interrupted(error) else reporter.report(error)
    if status == INTERRUPTED.status:
        status = reporter.report(KeyboardInterrupt())
    sys.exit(status)
