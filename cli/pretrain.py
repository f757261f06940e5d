"""`wavlm-meeting pretrain`: pretraining from shards, and what it takes."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from wavlm_meeting.cli.options import AsJson
from wavlm_meeting.cli.output import show_json, show_line, show_note, show_table
from wavlm_meeting.cli.training import quieten_lightning, training_bar
from wavlm_meeting.errors import SettingsError

if TYPE_CHECKING:
    from wavlm_meeting.pretraining.estimate import Plan


def pretrain(
    config: Annotated[
        str, typer.Argument(metavar="CONFIG", help="A size, such as base, or a TOML file.")
    ],
    plan: Annotated[
        bool, typer.Option("--plan", help="Tell what the run would take; start nothing.")
    ] = False,
    gpus: Annotated[int, typer.Option(min=1, metavar="N", help="GPUs to plan for.")] = 1,
    gpu: Annotated[
        str, typer.Option(metavar="NAME", help="Their kind: a100, h100, h200 or b200.")
    ] = "h100",
    utilisation: Annotated[
        float, typer.Option(metavar="SHARE", help="Share of their peak that is assumed.")
    ] = 0.4,
    shards: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Shards of speech to train on.")
    ] = None,
    labels: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD", help="Labels beside them, by name; may be given again."),
    ] = None,
    noise: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Shards of noise to mix in.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder for checkpoints and logs.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Pretrain on shards with labels, or tell what that would take.

    Run again it goes on from its last checkpoint; started by torchrun, its processes share the
    work. The folder of --out is a model for every command that takes one.
    """
    if plan:
        show_plan(config, gpus, gpu, utilisation, as_json=as_json)
        return
    if shards is None or not labels or out is None:
        raise SettingsError("to train give --shards, --labels and --out; to plan, --plan.")
    train(config, shards, labels, noise, out)


def train(config: str, shards: Path, labels: list[str], noise: Path | None, out: Path) -> None:
    """Train, with a bar on a terminal."""
    try:
        from wavlm_meeting.training.pretrain import pretrain as run
    except ModuleNotFoundError as error:
        raise SettingsError(
            f"{error}: pretraining needs the extra 'train'; pip install 'wavlm-meeting[train]'."
        ) from None
    from wavlm_meeting.pretraining.settings import named_settings

    quieten_lightning()
    leads = os.environ.get("RANK", "0") == "0"
    with training_bar(quiet=not leads) as report:
        run(shards, labels, out, named_settings(config), noise, report)
    if leads:
        show_line(f"{out}: done.")


def show_plan(config: str, gpus: int, gpu: str, utilisation: float, *, as_json: bool) -> None:
    """Show the plan of a run as a table, or as JSON."""
    from wavlm_meeting.pretraining.estimate import estimate
    from wavlm_meeting.pretraining.settings import named_settings

    found = estimate(named_settings(config), gpus=gpus, gpu=gpu, utilisation=utilisation)
    if as_json:
        show_json(_facts(found))
        return
    show_table("", (f"{config} on {gpus} x {gpu}", "planned"), _rows(found))
    if not found.fits:
        show_note(
            f"{_gigabytes(found.memory.total)} do not fit into {_gigabytes(found.gpu_memory)} with "
            'a tenth left free: set trainer.recompute = true or trainer.strategy = "fsdp", lower '
            "batches.seconds, or take more GPUs."
        )


def _facts(plan: "Plan") -> dict[str, object]:
    """Return a plan with its sums."""
    facts = asdict(plan)
    facts["parameters"] |= {"total": sum(plan.parameters.values())}
    facts["memory"] |= {"total": plan.memory.total}
    return facts


def _rows(plan: "Plan") -> list[tuple[str, str]]:
    """Write a plan out for people: sizes first, then what they take."""
    memory = plan.memory
    spread = {"ddp": "copied", "fsdp": "sharded"}[plan.strategy]
    return [
        ("parameters", f"{sum(plan.parameters.values()):,}"),
        *((f"  {part}", f"{count:,}") for part, count in plan.parameters.items()),
        ("memory of each GPU", _gigabytes(memory.total)),
        (f"  weights, {spread}", _gigabytes(memory.weights)),
        ("  gradients", _gigabytes(memory.gradients)),
        ("  Adam's moments", _gigabytes(memory.moments)),
        ("  weights as products take them", _gigabytes(memory.copies)),
        ("  activations", _gigabytes(memory.activations)),
        ("    if layers keep theirs", _gigabytes(plan.activations_kept)),
        ("    if layers are recomputed", _gigabytes(plan.activations_recomputed)),
        (f"fits into {_gigabytes(plan.gpu_memory)}", "yes" if plan.fits else "no"),
        ("operations", ""),
        ("  for a second of audio", f"{plan.flops_per_second / 1e9:.2f} GFLOP"),
        ("  for an update", f"{plan.flops_per_step / 1e12:.2f} TFLOP"),
        ("audio", ""),
        ("  in an update", f"{plan.step_s:.1f} s"),
        (f"  in all {plan.steps:,} updates", f"{plan.audio_h:.0f} h"),
        (f"at {plan.utilisation:.0%} of the peak, assumed", ""),
        ("  seconds of audio a second", f"{plan.audio_per_second:.0f}"),
        ("  days", f"{plan.days:.2f}"),
    ]


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:.2f} GB"
