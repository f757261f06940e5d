"""`wavlm-meeting doctor` in environments that are really healthy, or really broken."""

import shutil
from pathlib import Path

import pytest

from commands import Command, assert_refused
from wavlm_meeting import doctor


def test_healthy_environment_is_one_line(command: Command) -> None:
    """Where the tests run, all is well: one line, status 0, and no problem in the JSON."""
    answer = command("doctor", "--device", "cpu")
    assert (answer.returncode, answer.stderr) == (0, "")
    (line,) = answer.stdout.splitlines()
    assert line.startswith("healthy: Python 3.")
    assert "torch 2." in line
    assert "tiny" in line


def test_every_problem_is_a_line_with_its_cure(command: Command) -> None:
    """A package too old, one that raises and one that ends the process: three lines, status 2."""
    site = command.folder
    (site / "soundfile-0.1.dist-info").mkdir()
    (site / "soundfile-0.1.dist-info/METADATA").write_text("Name: soundfile\nVersion: 0.1\n")
    (site / "av.py").write_text("raise ImportError('libavcodec.so: cannot open')")
    (site / "soxr.py").write_text("import os; os.abort()")
    answer = command("doctor", PYTHONPATH=str(site))
    assert (answer.returncode, answer.stdout) == (2, "")
    old, raising, ending = answer.stderr.splitlines()
    assert "soundfile 0.1 does not do" in old
    assert "cure: pip install 'soundfile>=" in old
    assert "av cannot be imported (ImportError: libavcodec.so: cannot open)" in raising
    assert "cure: pip install --force-reinstall av" in raising
    assert "soxr cannot be imported (it ends the process)" in ending


def test_gpu_that_is_asked_for_and_not_there(command: Command) -> None:
    """`--device cuda` makes an absent GPU a problem."""
    hidden = {"CUDA_VISIBLE_DEVICES": ""}
    assert_refused(command("doctor", "--device", "cuda", **hidden), "torch 2.", "GPU", "cure: ")


def test_damaged_model_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One changed byte in an embedded model is told, with the line that brings it back."""
    shutil.copytree(doctor.ASSETS, tmp_path / "assets")
    monkeypatch.setattr(doctor, "ASSETS", tmp_path / "assets")
    assert doctor._damaged_models() == []
    weights = tmp_path / "assets/tiny/model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)
    (problem,) = doctor._damaged_models()
    assert "'tiny' is damaged" in problem.what
    assert problem.cure.startswith("pip install --force-reinstall")
