"""`wavlm-meeting score`: results against references."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavlm_meeting.cli.annotations import read_all
from wavlm_meeting.cli.options import AsJson
from wavlm_meeting.cli.output import show_json, show_note, show_table

if TYPE_CHECKING:
    from wavlm_meeting.scoring.diarization import ErrorCounts

app = typer.Typer(help="Score results against references.", no_args_is_help=True)


@app.callback()
def _group() -> None:
    """Keep `diarization` a command of its own while it is the only one."""


@app.command(short_help="Count DER and JER.", no_args_is_help=True)
def diarization(
    reference: Annotated[str, typer.Argument(metavar="REF", help="RTTM file, or folder of them.")],
    hypothesis: Annotated[str, typer.Argument(metavar="HYP", help="RTTM file, or folder of them.")],
    uem: Annotated[
        str | None,
        typer.Option(metavar="UEM", help="What to score of each recording: a file, or a folder."),
    ] = None,
    collar: Annotated[
        float,
        typer.Option(
            min=0.0, metavar="SECONDS", help="Not scored on each side of a reference boundary."
        ),
    ] = 0.0,
    skip_overlap: Annotated[
        bool, typer.Option("--skip-overlap", help="Leave out where the reference has overlap.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Diarization error rate with its parts in seconds, and Jaccard error rate."""
    from wavlm_meeting.formats import read_rttm, read_uem
    from wavlm_meeting.scoring.diarization import score_diarization

    score = score_diarization(
        read_all(reference, ".rttm", read_rttm),
        read_all(hypothesis, ".rttm", read_rttm),
        uem=None if uem is None else read_all(uem, ".uem", read_uem),
        collar=collar,
        skip_overlap=skip_overlap,
    )
    if as_json:
        files = {uri: _as_dict(counts) for uri, counts in score.files.items()}
        unscored = list(score.unscored)
        show_json({"files": files, "total": _as_dict(score.total), "unscored": unscored})
        return
    show_table(
        "",
        ("recording", "DER %", "missed s", "false alarm s", "confusion s", "of s", "JER %"),
        [_row(uri, counts) for uri, counts in score.files.items()],
        total=_row("total", score.total) if len(score.files) > 1 else (),
    )
    if score.unscored:
        show_note(f"not in the reference, not scored: {', '.join(score.unscored)}.")


def _row(name: str, counts: "ErrorCounts") -> tuple[str, ...]:
    """Write counts out for people."""
    seconds = (counts.missed_s, counts.false_alarm_s, counts.confusion_s, counts.total_s)
    return (
        name,
        f"{100 * counts.der:.2f}",
        *(f"{value:.3f}" for value in seconds),
        f"{100 * counts.jer:.2f}",
    )


def _as_dict(counts: "ErrorCounts") -> dict[str, Any]:
    """Return counts and rates as plain data; rates are fractions."""
    plain = {"der": counts.der, "jer": counts.jer, **asdict(counts)}
    return {name: round(value, 6) for name, value in plain.items()}
