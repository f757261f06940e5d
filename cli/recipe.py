"""`wavlm-meeting recipe`: from a corpus to a model."""

import logging
import os
from importlib import import_module
from pathlib import Path
from typing import Annotated

import typer

from wavlm_meeting.cli.options import make_folder
from wavlm_meeting.cli.output import show_line, show_note
from wavlm_meeting.cli.training import quieten_lightning, training_bar
from wavlm_meeting.errors import SettingsError

app = typer.Typer(
    help="Make models from corpora.", no_args_is_help=True, pretty_exceptions_enable=False
)

RECIPES = {
    "tiny-pretrain": "a small WavLM from a folder of speech: MFCC labels, HuBERT, units, WavLM",
    "mix94k": "WavLM Base, Base+ or Large from the corpora that they were published with",
    "voxceleb": "speaker verification with any encoder, from VoxCeleb to calibrated scores",
    "ami": "diarization of meetings, at the headsets' mix and at a distant microphone",
    "callhome": "diarization of telephone calls, from simulated mixtures to the paper's table",
    "libricss": "separation of talkers, from mixtures of LibriSpeech to LibriCSS's table",
}
"""Recipes that run by name, and what they make."""

ON_ENCODERS = {"voxceleb"}
"""Those that begin with an encoder."""


@app.command("list", short_help="List the recipes.")
def list_recipes() -> None:
    """List the recipes."""
    for name, what in RECIPES.items():
        show_line(f"{name}: {what}")


@app.command("run", short_help="Run a recipe, or some of its stages.", no_args_is_help=True)
def run(
    recipe: Annotated[str, typer.Argument(metavar="RECIPE", help="Name, as `recipe list` has it.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with the corpus.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder for all that is made.")],
    stages: Annotated[
        str, typer.Option(metavar="A..B", help="From stage A to B, or one stage; default: all.")
    ] = "",
    settings: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE", help="The recipe's settings of that name, or a TOML file."
        ),
    ] = None,
    encoder: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="Encoder to begin with, for recipes that take one; or 'fbank'."
        ),
    ] = None,
) -> None:
    """Run a recipe; stages whose inputs and settings have not changed are passed over.

    Started by torchrun, its processes share the work.
    """
    if recipe not in RECIPES:
        raise SettingsError(f"no recipe '{recipe}': there are {', '.join(RECIPES)}.")
    if encoder is not None and recipe not in ON_ENCODERS:
        raise SettingsError(f"--encoder is for {', '.join(ON_ENCODERS)}; leave it out.")
    module = f"wavlm_meeting.recipes.{recipe.replace('-', '_')}.recipe"
    try:
        runs = import_module(module).run
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error}: recipes need the extra 'train'; pip install 'wavlm-meeting[train]'."
        ) from None

    show_progress_of("wavlm_meeting.recipes")
    quieten_lightning()
    leads = os.environ.get("RANK", "0") == "0"
    with training_bar(quiet=not leads) as report:
        further = {"encoder": encoder} if recipe in ON_ENCODERS else {}
        runs(data, make_folder(out), settings, stages, report, **further)
    if leads:
        show_line(f"{out}: done.")


def show_progress_of(logger: str) -> None:
    """Show what is logged below `logger` as notes."""
    handler = logging.Handler()
    handler.emit = lambda record: show_note(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger(logger)
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False
