"""`wavlm-meeting pretrain --plan` as typed."""

import inspect
import json
import re

import pytest

from commands import Command, assert_refused
from wavlm_meeting.cli.pretrain import pretrain
from wavlm_meeting.pretraining.estimate import GPUS, estimate
from wavlm_meeting.pretraining.settings import named_settings, size_names


def cells(table: str) -> dict[str, str]:
    """Read a table's rows of a name and a value."""
    rows = (re.split(r"\s{2,}", line.strip()) for line in table.splitlines())
    return {row[0]: row[1] for row in rows if len(row) == 2}


def gigabytes(count: int) -> str:
    """Write bytes as the table does."""
    return f"{count / 1e9:.2f} GB"


def test_the_table_says_what_the_json_says(command: Command) -> None:
    """Numbers of both answers agree, wherever --plan stands, and are those of the function."""
    options = ["--gpus", "8", "--gpu", "a100", "--utilisation", "0.25"]
    answer = command("pretrain", "--plan", "base", *options)
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
    assert "base on 8 x a100" in answer.stdout
    facts = json.loads(command("pretrain", "base", "--plan", *options, "--json").stdout)
    shown = cells(answer.stdout)
    memory = facts["memory"]
    expected = {
        "parameters": f"{facts['parameters']['total']:,}",
        "layers": f"{facts['parameters']['layers']:,}",
        "memory of each GPU": gigabytes(memory["total"]),
        "weights, copied": gigabytes(memory["weights"]),
        "gradients": gigabytes(memory["gradients"]),
        "Adam's moments": gigabytes(memory["moments"]),
        "activations": gigabytes(memory["activations"]),
        "if layers keep theirs": gigabytes(facts["activations_kept"]),
        "if layers are recomputed": gigabytes(facts["activations_recomputed"]),
        "fits into 80.00 GB": "yes" if facts["fits"] else "no",
        "for a second of audio": f"{facts['flops_per_second'] / 1e9:.2f} GFLOP",
        "for an update": f"{facts['flops_per_step'] / 1e12:.2f} TFLOP",
        "in an update": f"{facts['step_s']:.1f} s",
        "in all 400,000 updates": f"{facts['audio_h']:.0f} h",
        "seconds of audio a second": f"{facts['audio_per_second']:.0f}",
        "days": f"{facts['days']:.2f}",
    }
    assert {name: shown.get(name) for name in expected} == expected
    assert "at 25% of the peak, assumed" in answer.stdout
    assert memory["total"] == sum(memory[part] for part in memory if part != "total")
    plan = estimate(named_settings("base"), gpus=8, gpu="a100", utilisation=0.25)
    for name in ("gpus", "gpu", "utilisation", "flops_per_step", "audio_per_second", "days"):
        assert facts[name] == getattr(plan, name), name


def test_a_file_of_settings(command: Command) -> None:
    """A TOML file is planned as it says; what does not fit is said with its cure."""
    text = 'size = "large"\n[batches]\nseconds = 2000.0\n[optimizer]\nsteps = 10\n'
    (command.folder / "own.toml").write_text(text)
    answer = command("pretrain", "own.toml", "--plan", "--gpus", "2")
    assert answer.returncode == 0, answer.stderr
    assert cells(answer.stdout)["fits into 80.00 GB"] == "no"
    assert cells(answer.stdout)["in an update"] == "4000.0 s"
    (line,) = answer.stderr.splitlines()
    assert line.startswith("note: ")
    assert "trainer.recompute = true" in line


def test_options_are_those_of_the_function() -> None:
    """Defaults are those of `estimate`, and the help of --gpu names every GPU that it knows."""
    command = inspect.signature(pretrain, eval_str=True).parameters
    function = inspect.signature(estimate).parameters
    for name in ("gpus", "gpu", "utilisation"):
        assert command[name].default == function[name].default
    said = command["gpu"].annotation.__metadata__[0].help
    assert all(name in said for name in GPUS)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("bse", "--plan"), ("no size 'bse'", *size_names())),
        (("gone.toml", "--plan"), ("gone.toml: no such file",)),
        (("base", "--plan", "--gpus", "0"), ("--gpus", "1")),
        (("base",), ("--plan",)),
    ],
)
def test_mistakes(command: Command, words: tuple[str, ...], says: tuple[str, ...]) -> None:
    """Each mistake is one line that names it, and status 2."""
    assert_refused(command("pretrain", *words), *says)
