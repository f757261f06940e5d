"""`wavlm-meeting voices`: who is in the register, and keeping it in order."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavlm_meeting.cli.options import AsJson, RegisterFile
from wavlm_meeting.cli.output import show_json, show_line, show_table
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.verification.voices import Voice

app = typer.Typer(help="List, show, rename, forget, export, import voices.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="Whose voice.")]


@app.command("list", short_help="List all voices.")
def list_voices(register: RegisterFile = None, as_json: AsJson = False) -> None:
    """List all voices, how much was recorded of each, and which models have heard it."""
    from wavlm_meeting.verification.voices import Register

    with Register(register) as opened:
        voices, path = opened.voices(), opened.path
    if as_json:
        show_json([_summary(voice) for voice in voices])
    elif not voices:
        show_line(f"{path}: no voices.")
    else:
        rows = [
            (
                one["name"],
                str(one["recordings"]),
                f"{one['speech_s']:.1f}",
                ", ".join(one["models"]),
            )
            for one in map(_summary, voices)
        ]
        show_table("", ("voice", "recordings", "speech s", "models"), rows)


@app.command(short_help="Show one voice.", no_args_is_help=True)
def show(name: Name, register: RegisterFile = None, as_json: AsJson = False) -> None:
    """Show what is known of a voice: its recordings, when they were enrolled, by which model."""
    from wavlm_meeting.verification.voices import Register

    with Register(register) as opened:
        voice = opened.voice(name)
    takes = [
        {
            "file": take.file,
            "speech_s": round(take.speech_s, 2),
            "created": take.created,
            "model": take.model.name,
            "model_sha256": take.model.sha256,
        }
        for take in voice.takes
    ]
    if as_json:
        show_json({"name": voice.name, "takes": takes})
        return
    rows = [
        (take.file, f"{take.speech_s:.1f}", take.created, take.model.name, take.model.sha256[:12])
        for take in voice.takes
    ]
    show_table(voice.name, ("recording", "speech s", "enrolled", "model", "sha256"), rows)


@app.command(short_help="Give a voice another name.", no_args_is_help=True)
def rename(
    name: Name,
    to: Annotated[str, typer.Argument(metavar="TO", help="The new name.")],
    register: RegisterFile = None,
) -> None:
    """Give a voice another name; one that somebody else has is refused."""
    from wavlm_meeting.verification.voices import Register

    with Register(register) as opened:
        opened.rename(name, to)


@app.command(short_help="Delete a voice.", no_args_is_help=True)
def forget(name: Name, register: RegisterFile = None) -> None:
    """Delete a voice and its embeddings for good, and overwrite them in the file."""
    from wavlm_meeting.verification.voices import Register

    with Register(register) as opened:
        opened.forget(name)


@app.command("export", short_help="Write all voices to a file.", no_args_is_help=True)
def export_voices(
    out: Annotated[Path, typer.Argument(metavar="FILE", help="JSON file to write.")],
    register: RegisterFile = None,
) -> None:
    """Write all voices, with their embeddings, as JSON."""
    if not out.absolute().parent.is_dir():
        raise SettingsError(f"{out}: there is no such folder; make it first.")
    from wavlm_meeting.verification.exchange import write_voices
    from wavlm_meeting.verification.voices import Register

    with Register(register) as opened:
        voices = opened.voices()
    write_voices(voices, out)
    show_line(f"{out}: {len(voices)} voices.")


@app.command("import", short_help="Add the voices of an exported file.", no_args_is_help=True)
def import_voices(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What 'voices export' wrote.")],
    register: RegisterFile = None,
    same_names: Annotated[
        bool,
        typer.Option(
            "--same-names", help="Whoever has one name here and there is the same person."
        ),
    ] = False,
) -> None:
    """Add the voices of an exported file to the register, all or none.

    Somebody who has a name of the register's, and no recording in common, may be somebody else:
    they are named, and nothing is added without --same-names.
    """
    from wavlm_meeting.verification.exchange import read_voices
    from wavlm_meeting.verification.voices import Register

    voices = read_voices(file)
    with Register(register, create=True) as opened:
        added = opened.merge(voices, same_names=same_names)
    show_line(f"{file}: {len(voices)} voices, {added} recordings that were not in the register.")


def _summary(voice: "Voice") -> dict[str, Any]:
    """Return a voice in short."""
    return {
        "name": voice.name,
        "recordings": len(voice.takes),
        "speech_s": round(sum(take.speech_s for take in voice.takes), 2),
        "models": sorted({take.model.name for take in voice.takes}),
    }
