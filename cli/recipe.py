"""`wavlm-meeting recipe`: trainings from a folder of data to a finished model."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from wavlm_meeting.cli.options import make_folder
from wavlm_meeting.cli.output import show_line, show_note
from wavlm_meeting.errors import SettingsError

RECIPES = {"tiny-pretrain": "a small WavLM from a folder of speech, pretrained from nothing"}
"""What each recipe makes, by the name that it is run by."""

app = typer.Typer(help="Run trainings from data to model.", no_args_is_help=True)


@app.command("list")
def list_recipes() -> None:
    """Show all recipes."""
    for name, makes in RECIPES.items():
        show_line(f"{name}: {makes}")


@app.command(no_args_is_help=True)
def run(
    name: Annotated[str, typer.Argument(metavar="NAME", help="A recipe of `recipe list`.")],
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder with the data.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where everything is written.")],
    settings: Annotated[
        Path | None, typer.Option(metavar="TOML", help="Settings; default: the recipe's own.")
    ] = None,
    stages: Annotated[
        str, typer.Option(metavar="A..B", help="Stages to run; default: all of them.")
    ] = "",
) -> None:
    """Run a recipe; run again, it goes on where it was stopped and passes over what is done."""
    if name not in RECIPES:
        raise SettingsError(f"no recipe '{name}': there are {', '.join(RECIPES)}.")
    try:
        from wavlm_meeting.recipes import tiny_pretrain
        from wavlm_meeting.recipes.tiny_pretrain.chain import run_chain
        from wavlm_meeting.recipes.tiny_pretrain.settings import TinyPretrainSettings
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error}: recipes need the extra 'train'; pip install 'wavlm-meeting[train]'."
        ) from None
    from wavlm_meeting.config import read_toml

    handler = logging.Handler()
    handler.emit = lambda record: show_note(record.getMessage())  # type: ignore[method-assign]
    log = logging.getLogger("wavlm_meeting.recipes")
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    log.propagate = False
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    own = Path(tiny_pretrain.__path__[0]) / "tiny_pretrain.toml"
    run_chain(data, make_folder(out), read_toml(settings or own, TinyPretrainSettings), stages)
    show_line(f"{out / 'bundle'}: done.")
