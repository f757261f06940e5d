"""`python -m wavlm_meeting.recipes.tiny`: the embedded model from a corpus, stage by stage."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from wavlm_meeting.config import read_toml
from wavlm_meeting.errors import SettingsError, WavLMMeetingError
from wavlm_meeting.recipes.tiny.backend import backend
from wavlm_meeting.recipes.tiny.baseline import baseline
from wavlm_meeting.recipes.tiny.channels import channels
from wavlm_meeting.recipes.tiny.evidence import evidence
from wavlm_meeting.recipes.tiny.export import SEPARATED, export, trained_pipeline
from wavlm_meeting.recipes.tiny.prepare import prepare
from wavlm_meeting.recipes.tiny.pretrain import PRETRAINED, pretrain
from wavlm_meeting.recipes.tiny.rounds import begun_with, train_round
from wavlm_meeting.recipes.tiny.separate import separate
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.recipes.tiny.variants import variants
from wavlm_meeting.recipes.tiny.voices import voices

SHIPPED = Path(__file__).with_name("tiny.toml")
STAGES = ("prepare", "pretrain", "train", "separate", "export")
FURTHER = ("channels", "voices", "backend", "baseline", "evidence", "variants")
"""Stages that no other needs: training speech through codecs, a head for verification, calibrated
scores of voices, what the teachers reach by themselves, the table of a bundle beside them, and
models that differ in one choice."""
VOICES = "voices"
"""Folder of the training of that head within that of a round."""


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
    rooms: Annotated[
        Path | None, typer.Option(help="Simulated rooms for 'separate', as libricss makes them.")
    ] = None,
    ablations: Annotated[
        str, typer.Option(help="Bundles that 'evidence' puts beside: NAME=BUNDLE, commas between.")
    ] = "",
    only: Annotated[
        str,
        typer.Option(help="Variants that 'variants' is about, commas between; else all."),
    ] = "",
    workers: Annotated[
        int, typer.Option(help="Processes of a stage that can use several; 0 is one a core.", min=0)
    ] = 0,
) -> None:
    """Run the stages; each one that is done is left as it is."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    chosen = read_toml(settings, TinySettings)
    folder = work / settings.stem  # each round's checkpoints and losses
    for stage in stages.split(","):
        if stage == "prepare":
            prepare(corpus, work, chosen.prepare.speeds, workers)
        elif stage == "pretrain":
            pretrain(work, folder / PRETRAINED, chosen)
        elif stage == "train":
            train_round(work, settings, start)
        elif stage == "separate":
            if chosen.separation is not None:
                begun = begun_with(work, folder, chosen, start)
                encoder = trained_pipeline(folder, chosen, begun).encoder
                separate(work, folder / SEPARATED, encoder, chosen.separation, rooms)
        elif stage == "export":
            export(corpus, work, folder, chosen, target, begun_with(work, folder, chosen, start))
        elif stage == "variants":
            names = list(filter(None, only.split(",")))
            typer.echo(variants(corpus, work, folder, chosen, names, workers))
        else:
            bundle = target if "export" in stages.split(",") else start
            _further(stage, corpus, work, folder, chosen, bundle, ablations, workers)


def _further(
    stage: str,
    corpus: Path,
    work: Path,
    folder: Path,
    settings: TinySettings,
    bundle: Path | None,
    ablations: str,
    workers: int,
) -> None:
    if stage == "channels":
        channels(work, workers)
    elif stage in ("voices", "backend"):
        if bundle is None:
            raise SettingsError(f"{stage}: name the bundle that it is for with --start.")
        if stage == "voices":
            voices(corpus, work, folder / VOICES, settings, bundle)
        else:
            backend(corpus, work, bundle, settings.backend, workers)
    elif stage == "baseline":
        baseline(corpus, work, settings)
    elif stage == "evidence":
        typer.echo(evidence(corpus, work, settings, bundle, ablations, workers))
    else:
        known = ", ".join((*STAGES, *FURTHER))
        raise typer.BadParameter(f"no stage '{stage}': there are {known}.")


def run() -> None:
    """Run what was typed; a mistake is told in one line, with exit status 2."""
    try:
        typer.run(main)
    except WavLMMeetingError as error:
        line = str(error)
    except FileNotFoundError as error:
        line = f"{error.filename}: {error.strerror}; check the path."
    else:
        return
    typer.echo(f"error: {line}", err=True)
    raise SystemExit(2)


if __name__ == "__main__":
    run()
