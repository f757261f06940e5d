"""`python -m wavlm_meeting.recipes.tiny`: the embedded model from a corpus, stage by stage."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from wavlm_meeting.config import read_toml
from wavlm_meeting.recipes.tiny.baseline import baseline
from wavlm_meeting.recipes.tiny.export import export
from wavlm_meeting.recipes.tiny.prepare import prepare
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.recipes.tiny.train import train

SHIPPED = Path(__file__).with_name("tiny.toml")
STAGES = ("prepare", "train", "export")
BASELINE = "baseline"
"""A further stage, which no other needs: what the teachers reach by themselves."""


def main(
    corpus: Annotated[Path, typer.Option(help="Folder with manifest.csv, speech/ and noise/.")],
    work: Annotated[Path, typer.Option(help="Folder for everything that is made on the way.")],
    settings: Annotated[Path, typer.Option(help="TOML file with all choices.")] = SHIPPED,
    start: Annotated[
        Path | None, typer.Option(help="Training or bundle of an earlier round to begin with.")
    ] = None,
    target: Annotated[Path, typer.Option(help="Folder of the finished bundle.")] = Path(
        "build/tiny"
    ),
    stages: Annotated[str, typer.Option(help="Stages to run, with commas between.")] = ",".join(
        STAGES
    ),
) -> None:
    """Run the stages; each one that is done is left as it is."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    chosen = read_toml(settings, TinySettings)
    folder = work / settings.stem  # each round's checkpoints and losses
    for stage in stages.split(","):
        if stage == "prepare":
            prepare(corpus, work)
        elif stage == "train":
            train(work, folder, chosen, start)
        elif stage == "export":
            export(corpus, work, folder, chosen, target, start)
        elif stage == BASELINE:
            baseline(corpus, work, chosen)
        else:
            known = ", ".join((*STAGES, BASELINE))
            raise typer.BadParameter(f"no stage '{stage}': there are {known}.")


if __name__ == "__main__":
    typer.run(main)
