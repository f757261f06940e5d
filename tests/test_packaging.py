"""The wheel holds everything, and works in a new environment that has the base alone."""

import json
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from wavlm_meeting.doctor import MATCHING

ROOT = Path(__file__).parents[1]
SOURCES = ("wavlm_meeting", "cli", "recipes", "pyproject.toml", "README.md", "LICENSE")
CONSTRAINTS = (ROOT / "constraints.txt").read_text()
PINS = dict(re.findall(r"^([^#=\s]+)==(\S+)$", CONSTRAINTS, re.MULTILINE))
CPU_ONLY_SOMEWHERE = "2.13.0"
"""A release of torch that some machines resolve to a CPU-only build."""


@dataclass(frozen=True)
class Environment:
    """An environment that has the wheel and the base."""

    folder: Path
    cpu_only: bool
    """Whether its torch is a CPU-only build."""

    def run(self, program: str, *words: str | Path, cwd: Path | None = None) -> str:
        """Run one of its programs; return what it prints on standard output."""
        answer = subprocess.run(
            [self.folder / "bin" / program, *words],
            cwd=cwd or self.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert answer.returncode == 0, answer.stdout + answer.stderr
        return answer.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the source distribution, and from it the wheel, out of a copy without leftovers."""
    copy = tmp_path_factory.mktemp("checkout")
    for source in SOURCES:
        if (ROOT / source).is_dir():
            leftovers = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / source, copy / source, ignore=leftovers)
        else:
            shutil.copy2(ROOT / source, copy)
    build = [sys.executable, "-m", "build", "--no-isolation", copy]
    answer = subprocess.run(build, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    (wheel,) = (copy / "dist").glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """Install the wheel in a new environment, beside a CPU-only torch if pip finds one."""
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    pip = [folder / "bin/python", "-m", "pip", "--disable-pip-version-check", "-qq"]
    pins = dict(PINS)
    look = ["install", "--dry-run", "--no-deps", "--report", "-", f"torch=={CPU_ONLY_SOMEWHERE}"]
    found = subprocess.run([*pip, *look], capture_output=True, text=True, check=False)
    cpu_only = found.returncode == 0 and "+cpu" in _version_found(found.stdout)
    if cpu_only:
        pins["torch"] = CPU_ONLY_SOMEWHERE
    constraints = folder / "constraints.txt"
    constraints.write_text("".join(f"{name}=={pin}\n" for name, pin in pins.items()))
    install = subprocess.run(
        [*pip, "install", "--no-compile", "-c", constraints, wheel],
        capture_output=True,
        text=True,
        check=False,
    )
    assert install.returncode == 0, install.stdout + install.stderr
    return Environment(folder, cpu_only)


def _version_found(report: str) -> str:
    """Return the version that pip would install."""
    return str(json.loads(report)["install"][0]["metadata"]["version"])


def test_wheel_holds_every_file(wheel: Path) -> None:
    """Each Python file, setting and model of the checkout is in the wheel, and nothing on top."""
    names = set(zipfile.ZipFile(wheel).namelist())
    places = {"wavlm_meeting": "wavlm_meeting", "cli": "wavlm_meeting/cli"}
    places["recipes"] = "wavlm_meeting/recipes"
    for source, place in places.items():
        for path in (ROOT / source).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert f"{place}/{path.relative_to(ROOT / source).as_posix()}" in names
    assert {name.split("/")[0] for name in names} <= {
        "wavlm_meeting",
        f"wavlm_meeting-{wheel.name.split('-')[1]}.dist-info",
    }


def test_embedded_model_is_small(wheel: Path) -> None:
    """The models inside the package take at most 20 MB."""
    infos = zipfile.ZipFile(wheel).infolist()
    sizes = [info.file_size for info in infos if "/assets/" in info.filename]
    assert 0 < sum(sizes) <= 20e6


@pytest.mark.network
def test_base_alone_diarizes(environment: Environment, conversation: Path, tmp_path: Path) -> None:
    """With the base alone, requirements are met and the command works from any folder."""
    environment.run("python", "-m", "pip", "check")
    assert environment.run("wavlm-meeting", "doctor").startswith("healthy: ")
    environment.run("wavlm-meeting", "diarize", conversation, cwd=tmp_path)
    rttm = tmp_path / f"{conversation.stem}.rttm"
    assert rttm.read_text().startswith(f"SPEAKER {conversation.stem} 1 ")
    environment.run("wavlm-meeting", "score", "diarization", rttm, rttm, cwd=tmp_path)
    picture = tmp_path / "timeline.png"
    environment.run("wavlm-meeting", "report", "timeline", rttm, "--out", picture, cwd=tmp_path)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.network
def test_doctor_finds_torchaudio_that_does_not_fit(environment: Environment) -> None:
    """Beside a CPU-only torch, the doctor names torchaudio and gives the line that cures it."""
    if not environment.cpu_only:
        pytest.skip("needs a CPU-only torch, which pip does not find here")
    pip = ("-m", "pip", "--disable-pip-version-check", "-qq")
    audio = f"torchaudio=={MATCHING['torchaudio']}"
    environment.run("python", *pip, "install", "--no-deps", audio)
    doctor = [environment.folder / "bin/wavlm-meeting", "doctor"]
    answer = subprocess.run(doctor, capture_output=True, text=True, check=False)
    environment.run("python", *pip, "uninstall", "-y", "torchaudio")
    assert answer.returncode == 2
    (line,) = answer.stderr.splitlines()
    assert f"torchaudio {MATCHING['torchaudio']} does not load beside torch" in line
    assert audio in line


def test_pins_are_plain() -> None:
    """constraints.txt holds names and versions only: no address, no path, no option."""
    for line in CONSTRAINTS.splitlines():
        assert line.startswith("#") or re.fullmatch(r"[a-z0-9-]+==[0-9a-z.+]+", line), line


def test_doctor_prescribes_the_pins() -> None:
    """The versions in the doctor's cure are those on which the tests pass."""
    assert {name: PINS[name] for name in MATCHING} == MATCHING
