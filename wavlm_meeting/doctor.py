"""What is broken in an environment, and the line that cures it.

Imports are tried in processes of their own, because a package that does not fit the installed
torch can do worse than raise: it can end the process.
"""

import json
import os
import platform
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import Any, NamedTuple

from packaging.requirements import Requirement

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import sha256_of

ASSETS = Path(__file__).parent / "assets"

MATCHING = {"torch": "2.14.1", "torchaudio": "2.11.0", "torchcodec": "0.17.0"}
"""Releases that load beside each other, as in constraints.txt."""

BASE = (
    "numpy", "pandas", "scipy", "sklearn", "soundfile", "av", "soxr", "safetensors", "pydantic",
    "huggingface_hub", "matplotlib", "pyannote.core", "pyannote.metrics", "torch",
)  # fmt: skip
"""Import names of what commands on a recording load."""

COMPILED_AGAINST_TORCH = ("torchaudio", "torchcodec")
"""Optional packages that load beside the torch they were compiled against, and no other."""

TRY_IMPORTS = """
import importlib, json, sys
for name in sys.argv[1:]:
    problem = None
    try:
        importlib.import_module(name)
    except BaseException as error:
        problem = f"{type(error).__name__}: {error}"
    print(json.dumps([name, problem]), flush=True)
if torch := sys.modules.get("torch"):
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    print(json.dumps([torch.__version__, torch.version.cuda, gpu]))
"""


@dataclass(frozen=True)
class Problem:
    """Something broken."""

    what: str
    """What does not work, and why."""
    cure: str
    """What to type or to do."""


@dataclass(frozen=True)
class Health:
    """What the doctor found."""

    facts: tuple[str, ...]
    """What is there: Python, torch, GPU, compiler, model."""
    problems: tuple[Problem, ...]
    """What is broken; empty in a healthy environment."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain data."""
        return asdict(self)


class Torch(NamedTuple):
    """The installed torch."""

    version: str
    cuda: str | None
    """CUDA release it was built for; None for a CPU-only build."""
    gpu: str | None
    """Name of the GPU it can use."""


def examine(device: str = "auto") -> Health:
    """Examine the running environment.

    Args:
        device: What the user means to compute on: "cuda" makes an absent GPU a problem; "auto"
            does so only on a machine that has one.

    Raises:
        SettingsError: `device` is not auto, cpu or cuda.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise SettingsError(f"'{device}' is no device: choose auto, cpu or cuda.")
    facts = [f"Python {platform.python_version()}"]
    unmet = _unmet_requirements()
    failures, torch = _try_imports(BASE)
    problems = [*unmet, *_broken_imports(failures, unmet)]
    if torch is not None:
        facts += [f"torch {torch.version}", f"GPU {torch.gpu}" if torch.gpu else "no GPU in use"]
        problems += [*_misfits(torch), *_unusable_gpu(torch, device)]
    compiler = next(filter(shutil.which, (os.environ.get("CXX", "c++"), "g++", "clang++")), None)
    facts.append(f"C++ compiler {compiler}" if compiler else "no C++ compiler for torch.compile")
    problems += _damaged_models()
    facts.append(f"models {', '.join(sorted(path.name for path in ASSETS.glob('*')))}")
    return Health(tuple(facts), tuple(problems))


def _unmet_requirements() -> list[Problem]:
    """Compare the base's requirements with what is installed."""
    problems = []
    for line in requires("wavlm-meeting") or ():
        requirement = Requirement(line)
        if requirement.marker and not requirement.marker.evaluate({"extra": ""}):
            continue
        wanted = f"{requirement.name}{requirement.specifier}"
        cure = f"pip install '{wanted}'"
        try:
            installed = version(requirement.name)
        except PackageNotFoundError:
            problems.append(Problem(f"{requirement.name} is not installed", cure))
            continue
        if not requirement.specifier.contains(installed, prereleases=True):
            what = f"{requirement.name} {installed} does not do, {wanted} is needed"
            problems.append(Problem(what, cure))
    return problems


def _broken_imports(failures: dict[str, str], unmet: list[Problem]) -> list[Problem]:
    """Turn failed imports of the base into problems; what is not installed is among the unmet."""
    return [
        Problem(
            f"{name} cannot be imported ({why})",
            f"pip install --force-reinstall {_distribution(name)}",
        )
        for name, why in failures.items()
        if not (unmet and why.startswith("ModuleNotFoundError"))
    ]


def _misfits(torch: Torch) -> list[Problem]:
    """Import the installed ones of the optional packages that are compiled against torch."""
    installed = {}
    for name in COMPILED_AGAINST_TORCH:
        with suppress(PackageNotFoundError):
            installed[name] = version(name)
    failures, _ = _try_imports(installed)
    pins = " ".join(f"{package}=={pin}" for package, pin in MATCHING.items())
    return [
        Problem(
            f"{name} {installed[name]} does not load beside torch {torch.version}",
            f"pip uninstall -y {' '.join(MATCHING)} && pip install {pins}; "
            f"or, where no extra is used, pip uninstall -y {name}",
        )
        for name in failures
    ]


def _unusable_gpu(torch: Torch, device: str) -> list[Problem]:
    """Tell why a GPU that is asked for, or is there, cannot be used."""
    if torch.gpu or device == "cpu" or (device == "auto" and not shutil.which("nvidia-smi")):
        return []
    if torch.cuda is None:
        what = f"torch {torch.version} is a CPU-only build and uses no GPU"
        cure = f"pip uninstall -y torch && pip install torch=={MATCHING['torch']}"
        return [Problem(what, cure)]
    what = f"torch {torch.version} finds no GPU that CUDA {torch.cuda} can use"
    return [Problem(what, "run nvidia-smi and update the NVIDIA driver, or use --device cpu")]


def _damaged_models() -> list[Problem]:
    """Compare the hash of each embedded model with its card, without loading it."""
    cure = "pip install --force-reinstall --no-deps wavlm-meeting"
    cards = sorted(ASSETS.glob("*/card.toml"))
    if not cards:
        return [Problem("the embedded model is missing", cure)]
    problems = []
    for card in cards:
        weights = card.parent / "model.safetensors"
        expected = tomllib.loads(card.read_text(encoding="utf-8"))["weights"]["sha256"]
        if not weights.is_file() or sha256_of(weights) != expected:
            problems.append(Problem(f"the embedded model '{card.parent.name}' is damaged", cure))
    return problems


def _try_imports(names: Iterable[str]) -> tuple[dict[str, str], Torch | None]:
    """Import modules, one after the other in a new process.

    Returns why those that fail do, and what torch says of itself if it was imported on the way.
    """
    names = list(names)
    command = [sys.executable, "-P", "-c", TRY_IMPORTS, *names]  # -P: not from this folder
    answer = subprocess.run(command, capture_output=True, text=True, check=False).stdout
    replies = [json.loads(line) for line in answer.splitlines()]
    imports = replies[: len(names)]
    failures = {name: " ".join(why.split())[:200] for name, why in imports if why is not None}
    if len(imports) < len(names):
        failures[names[len(imports)]] = "it ends the process"
    return failures, Torch(*replies[-1]) if len(replies) > len(names) else None


def _distribution(module: str) -> str:
    """Return the name by which pip knows a module."""
    return {"sklearn": "scikit-learn"}.get(module, module)
