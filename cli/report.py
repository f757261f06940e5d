"""`wavlm-meeting report`: results as pictures."""

from pathlib import Path
from typing import Annotated

import typer

from wavlm_meeting.cli.annotations import read_all
from wavlm_meeting.cli.output import show_line
from wavlm_meeting.errors import FormatError

app = typer.Typer(help="Draw results.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `timeline` a command of its own while it is the only one."""


@app.command(no_args_is_help=True)
def timeline(
    hypothesis: Annotated[str, typer.Argument(metavar="HYP", help="RTTM file of one recording.")],
    out: Annotated[Path, typer.Option(metavar="PNG|SVG|PDF", help="Picture to write.")],
    reference: Annotated[
        str | None, typer.Option(metavar="REF", help="RTTM file to draw above it.")
    ] = None,
) -> None:
    """Draw who spoke when, one row a speaker."""
    from wavlm_meeting.formats import read_rttm
    from wavlm_meeting.report.timeline import draw_timeline

    found = read_all(hypothesis, ".rttm", read_rttm)
    if len(found) != 1:
        raise FormatError(f"{hypothesis}: {len(found)} recordings; give the RTTM file of one.")
    ((uri, annotation),) = found.items()
    annotations = {"hypothesis": annotation}
    if reference is not None:
        references = read_all(reference, ".rttm", read_rttm)
        if uri not in references:
            raise FormatError(f"{reference}: no turns of '{uri}'; give the reference of the same.")
        annotations = {"reference": references[uri], **annotations}
    ends = [each.get_timeline().extent().end for each in annotations.values()]
    draw_timeline(annotations, out, max(ends))
    show_line(str(out))
