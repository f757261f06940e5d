"""`wavlm-meeting verify`: whether two recordings hold one voice, for a pair or a list."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from wavlm_meeting.cli.errors import Reporter
from wavlm_meeting.cli.options import AsJson, BackendFile, Channel, Device, Model, Quiet
from wavlm_meeting.cli.output import progress_bar, show_json, show_line, show_note, show_table
from wavlm_meeting.cli.recordings import readable
from wavlm_meeting.errors import SettingsError


def verify(
    context: typer.Context,
    first: Annotated[str | None, typer.Argument(metavar="A", help="A recording.")] = None,
    second: Annotated[str | None, typer.Argument(metavar="B", help="Another one.")] = None,
    trials: Annotated[
        Path | None,
        typer.Option(
            metavar="LIST", help="Instead of A and B: '<1|0> A B' or 'A B target|nontarget' a line."
        ),
    ] = None,
    root: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder that the list's paths begin in.")
    ] = Path(),
    out: Annotated[
        Path | None, typer.Option(metavar="SCORES", help="Where the list's scores are written.")
    ] = None,
    model: Model = "tiny",
    backend: BackendFile = None,
    prior: Annotated[
        float, typer.Option(metavar="P", help="How probable one speaker is before listening.")
    ] = 0.5,
    device: Device = "auto",
    channel: Channel = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say whether two recordings are of one speaker: score, probability and decision.

    With --trials and --out, score a whole list, each file embedded once, and count its EER and
    minDCF.
    """
    if trials is not None:
        if first is not None or out is None:
            raise SettingsError("--trials LIST goes with --out SCORES, and without A and B.")
        _verify_list(trials, root, out, model, backend, device, channel, as_json, quiet)
        return
    if first is None or second is None or out is not None:
        raise SettingsError("name two recordings, or --trials LIST and --out SCORES.")
    reporter: Reporter = context.obj
    status = readable([first, second], channel, reporter)[1]
    if status:
        raise typer.Exit(status)
    from wavlm_meeting.verification.verify import verify as verify_pair

    found = verify_pair(first, second, model, backend, prior, device, channel)
    if as_json:
        show_json(asdict(found))
        return
    show_line(f"cosine {found.cosine:.4f}")
    if found.llr is None or found.probability is None:
        show_note(
            f"{model}: has no calibration, so no probability; give --backend FILE, or make one "
            "with a recipe."
        )
        return
    decision = "the same speaker" if found.same_speaker else "different speakers"
    show_line(f"log-likelihood ratio {found.llr:.2f}")
    show_line(f"probability {found.probability:.4f}: {decision}")


def _verify_list(
    trials: Path,
    root: Path,
    out: Path,
    model: str,
    backend: Path | None,
    device: str,
    channel: int | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Score a list of trials, write the scores, and show its error rates."""
    from wavlm_meeting.formats.trials import read_trials, write_scores
    from wavlm_meeting.scoring.verification import check_both_kinds, score_verification
    from wavlm_meeting.verification.verify import score_trials

    listed = read_trials(trials)
    check_both_kinds(listed.targets, str(trials))
    if not out.absolute().parent.is_dir():
        raise SettingsError(f"--out {out}: there is no such folder; make it first.")
    with progress_bar(str(trials), quiet=quiet) as progress:
        scores = score_trials(listed, root, model, backend, device, channel, progress)
    write_scores(scores, out)
    figures = score_verification(listed.targets, scores.values)
    rates = {
        "trials": len(listed.targets),
        "recordings": len(listed.names),
        "eer": figures.eer,
        "min_dcf_01": figures.min_dcf_01,
        "min_dcf_05": figures.min_dcf_05,
    }
    if as_json:
        show_json(rates)
    elif not quiet:
        columns = ("list", "trials", "recordings", "EER %", "minDCF 0.01", "minDCF 0.05")
        counts = (str(rates["trials"]), str(rates["recordings"]))
        costs = (f"{figures.min_dcf_01:.4f}", f"{figures.min_dcf_05:.4f}")
        show_table("", columns, [(str(trials), *counts, f"{100 * figures.eer:.2f}", *costs)])
