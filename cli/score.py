"""`wavlm-meeting score`: results against references."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from wavlm_meeting.cli.annotations import read_all
from wavlm_meeting.cli.options import AsJson
from wavlm_meeting.cli.output import show_json, show_note, show_table
from wavlm_meeting.cli.score_separation import separation

if TYPE_CHECKING:
    from wavlm_meeting.formats.trials import Trials
    from wavlm_meeting.scoring.diarization import ErrorCounts
    from wavlm_meeting.scoring.verification import VerificationScore

app = typer.Typer(help="Score results against references.", no_args_is_help=True)
app.command("separation", short_help="Count SI-SDR, PESQ, STOI and leakage.", no_args_is_help=True)(
    separation
)


_FIGURES = {
    "eer": "EER %",
    "min_dcf_01": "minDCF 0.01",
    "min_dcf_05": "minDCF 0.05",
    "cllr": "Cllr",
    "min_cllr": "min Cllr",
}
"""Fields of a verification score and their columns."""


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
        files = {uri: counts.as_dict() for uri, counts in score.files.items()}
        unscored = list(score.unscored)
        show_json({"files": files, "total": score.total.as_dict(), "unscored": unscored})
        return
    show_table(
        "",
        ("recording", "DER %", "missed s", "false alarm s", "confusion s", "of s", "JER %"),
        [_row(uri, counts) for uri, counts in score.files.items()],
        total=_row("total", score.total) if len(score.files) > 1 else (),
    )
    if score.unscored:
        show_note(f"not in the reference, not scored: {', '.join(score.unscored)}.")


@app.command(short_help="Count EER, minDCF and Cllr.", no_args_is_help=True)
def verification(
    trials: Annotated[
        Path,
        typer.Argument(metavar="TRIALS", help="'<1|0> A B' or 'A B target|nontarget' a line."),
    ],
    scores: Annotated[
        list[Path],
        typer.Argument(metavar="SCORES", help="'A B <score>' a line; a file each system."),
    ],
    speakers: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="'<recording> <speaker>' a line; VoxCeleb's names tell it anyway."
        ),
    ] = None,
    resamples: Annotated[
        int, typer.Option(min=0, metavar="N", help="Bootstraps for the intervals; 0: none.")
    ] = 1000,
    det: Annotated[
        Path | None, typer.Option(metavar="PNG|SVG|PDF", help="DET curves to draw.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Equal error rate, detection costs and Cllr, with intervals of 95 % over speakers.

    Cllr reads scores as natural log-likelihood ratios.
    """
    from wavlm_meeting.formats.trials import match_scores, read_scores, read_trials
    from wavlm_meeting.scoring.verification import det_curve, score_verification

    listed = read_trials(trials)
    owners = _speakers_of(listed, speakers)
    values = {str(path): match_scores(listed, read_scores(path), path) for path in scores}
    found = {
        name: score_verification(listed.targets, each, listed.pairs, owners, resamples)
        for name, each in values.items()
    }
    if det is not None:
        from wavlm_meeting.report.det import draw_det

        curves = {name: det_curve(listed.targets, each) for name, each in values.items()}
        draw_det(curves, det)
    if as_json:
        show_json({name: _plain(score) for name, score in found.items()})
        return
    show_table(
        "",
        ("scores", *_FIGURES.values()),
        [(name, *_figures(score)) for name, score in found.items()],
    )
    if resamples and owners is None:
        show_note("intervals over recordings, since speakers are not known; name --speakers.")


def _speakers_of(listed: "Trials", path: Path | None) -> list[str] | None:
    """Return the speaker of each recording in a list, from a file or from VoxCeleb's names."""
    from wavlm_meeting.errors import FormatError
    from wavlm_meeting.formats.trials import read_speakers, voxceleb_speakers

    if path is None:
        return voxceleb_speakers(listed.names)
    table = read_speakers(path)
    if lacking := [name for name in listed.names if name not in table]:
        raise FormatError(f"{path}: lacks {len(lacking)} recordings, such as '{lacking[0]}'; add.")
    return [table[name] for name in listed.names]


def _figures(score: "VerificationScore") -> list[str]:
    """Write figures out for people, each with its interval."""
    cells = []
    for name in _FIGURES:
        scale, digits = (100, 2) if name == "eer" else (1, 3)
        bounds = score.intervals.get(name, ())
        ends = "-".join(f"{scale * end:.{digits}f}" for end in bounds)
        value = f"{scale * getattr(score, name):.{digits}f}"
        cells.append(f"{value} ({ends})" if ends else value)
    return cells


def _plain(score: "VerificationScore") -> dict[str, Any]:
    """Return figures as plain data; rates are fractions."""
    plain: dict[str, Any] = {"targets": score.targets, "nontargets": score.nontargets}
    plain |= {name: round(getattr(score, name), 6) for name in _FIGURES}
    bounds = score.intervals.items()
    plain["intervals"] = {name: [round(end, 6) for end in ends] for name, ends in bounds}
    return plain | {"resampled": score.resampled}


def _row(name: str, counts: "ErrorCounts") -> tuple[str, ...]:
    """Write counts out for people."""
    seconds = (counts.missed_s, counts.false_alarm_s, counts.confusion_s, counts.total_s)
    return (
        name,
        f"{100 * counts.der:.2f}",
        *(f"{value:.3f}" for value in seconds),
        f"{100 * counts.jer:.2f}",
    )
