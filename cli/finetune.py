"""`wavlm-meeting finetune`: make a model better on one's own recordings."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavlm_meeting.cli.options import Model, Quiet, make_folder
from wavlm_meeting.cli.output import show_line, show_note, show_table
from wavlm_meeting.cli.training import quieten_lightning, training_bar
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.training.diarization_tuning import Figures

app = typer.Typer(
    help="Make a model better on your own recordings.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


@app.callback()
def _group() -> None:
    """Keep the name of the one command there is."""


@app.command("diarization", short_help="Who spoke when.", no_args_is_help=True)
def diarization(
    audio: Annotated[Path, typer.Option(metavar="DIR", help="Folder of recordings.")],
    rttm: Annotated[Path, typer.Option(metavar="DIR", help="Folder with <name>.rttm for each.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the model; a stopped run goes on there.")
    ],
    model: Model = "tiny",
    steps: Annotated[int, typer.Option(min=1, metavar="N", help="Updates of the weights.")] = 300,
    held_out: Annotated[
        float,
        typer.Option(
            min=0.05, max=0.5, metavar="SHARE", help="Share of the recordings to compare on."
        ),
    ] = 0.2,
    seed: Annotated[int, typer.Option(metavar="N", help="Seed of all that is drawn.")] = 1,
    quiet: Quiet = False,
) -> None:
    """Train a model on recordings with references, and compare it with what it was.

    Some recordings are held out for the comparison, and some to choose thresholds on. The model is
    in DIR/model: `wavlm-meeting diarize FILE --model DIR/model`.
    """
    try:
        from wavlm_meeting.training.diarization_finetuning import finetune_diarization
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error}: training needs the extra 'train'; pip install 'wavlm-meeting[train]'."
        ) from None
    quieten_lightning()
    with training_bar(quiet=quiet) as report:
        found = finetune_diarization(
            audio, rttm, make_folder(out), model, steps, held_out, seed, report
        )
    parts = found.parts
    if not quiet:
        held = ", ".join(each.name for each in parts.held_out)
        show_note(
            f"trained on {len(parts.train)} recordings, thresholds chosen on {len(parts.dev)}; the "
            f"table is of those held out: {held}."
        )
        if not found.learned:
            show_note("on the recordings for choosing, the old weights were best: they stay.")
        _show(found.figures)
    show_line(f"{found.model}: done.")


def _show(figures: "Mapping[str, Figures]") -> None:
    """Show the comparison, in per cent."""
    collars = list(next(iter(figures.values())).counts)
    columns = [f"DER %, collar {collar:g} s" for collar in collars]
    rows = []
    for name, found in figures.items():
        values = found.values()
        wrong = ("missed", "false", "confused")
        parts = "/".join(f"{100 * values[f'{each}, collar {collars[0]:g}']:.1f}" for each in wrong)
        ders = [f"{100 * found.counts[collar].der:.2f}" for collar in collars]
        rows.append((name, *ders, parts, f"{found.counted_right} of {found.recordings}"))
    show_table("", ("", *columns, "missed/false/confused", "counts right"), rows)
