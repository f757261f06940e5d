"""Every shell and Python block of the README runs, in its order, in a copy of the checkout."""

import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import soundfile

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|bash|python)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COPIED = ("*.toml", "*.txt", "*.md", "LICENSE", "Makefile", "wavlm_meeting", "cli", "recipes")


def link(path: Path, script: str) -> None:
    """Write an executable shell script."""
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


@pytest.fixture(scope="module")
def checkout(
    tmp_path_factory: pytest.TempPathFactory, conversation: Path, shared_dir: Path
) -> Path:
    """Copy the checkout and put beside it the files that the README speaks of."""
    folder = tmp_path_factory.mktemp("readme") / "checkout"
    folder.mkdir()
    for pattern in COPIED:
        for source in ROOT.glob(pattern):
            if source.is_dir():
                leftovers = shutil.ignore_patterns("__pycache__")
                shutil.copytree(source, folder / source.name, ignore=leftovers)
            else:
                shutil.copy2(source, folder)
    shutil.copy(conversation, folder / "interview.wav")
    (folder / "recordings").mkdir()
    shutil.copy(conversation, folder / "recordings/call.wav")
    samples, rate = soundfile.read(shared_dir / "corpus/speech/vctk/p225/p225_003.opus")
    soundfile.write(folder / "anna.wav", samples, rate)
    turns = "SPEAKER interview 1 6.7 3.0 <NA> <NA> anna <NA> <NA>\n"
    (folder / "reference.rttm").write_text(turns)
    return folder


@pytest.fixture(scope="module")
def surroundings(checkout: Path) -> dict[str, str]:
    """Give environment variables that keep `pip` and `make` from altering what the tests run in.

    pip installs for real, but into a folder of its own; make takes this environment for its own.
    """
    programs = checkout.parent / "bin"
    programs.mkdir()
    pip = f'shift; exec "{sys.executable}" -m pip install --no-deps --target "{checkout}/../site"'
    link(programs / "pip", f'{pip} "$@"  # the README only ever says `pip install`')
    made = " ".join(f"-o {sys.prefix}/{stamp}" for stamp in (".base", ".dev"))
    link(programs / "make", f'exec {shutil.which("make")} VENV={sys.prefix} {made} "$@"')
    path = os.pathsep.join([str(programs), sysconfig.get_path("scripts"), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}


@pytest.mark.network
@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_block_runs(number: int, checkout: Path, surroundings: dict[str, str]) -> None:
    """The block runs to its end, after those before it."""
    language, code = BLOCKS[number]
    python = [sys.executable, "-P", "-c", code]  # -P: not what lies in the current folder
    answer = subprocess.run(
        python if language == "python" else ["bash", "-euc", code],
        cwd=checkout,
        env=surroundings,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, f"{code}\n{answer.stdout}\n{answer.stderr}"


def test_files_named_exist() -> None:
    """Pictures and documents that the README links to are in the checkout."""
    links = re.findall(r"\]\(([^):]+)\)", README)
    assert links
    assert [name for name in links if not (ROOT / name).is_file()] == []
