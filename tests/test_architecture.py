"""The arrows between the packages, read from the imports of every file."""

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
HOMES = {
    "wavlm_meeting": ROOT / "wavlm_meeting",
    "wavlm_meeting.cli": ROOT / "cli",
    "wavlm_meeting.recipes": ROOT / "recipes",
}

BASIS = {"errors", "units", "config", "files", "devices", "optimizer"}
STOREYS = [
    BASIS,
    {"audio", "formats", "doctor"},
    {"wavlm"},
    {"heads"},
    {"checkpoints"},
    {"compression", "diarization", "pretraining", "scoring", "separation", "verification"},
    {"report", "training"},
    {"meeting", "speaker_tracks"},
    {"tracks"},
    {"wavlm_meeting"},  # the public names
    {"recipes"},
    {"cli"},
]
"""From the bottom to the top; a part imports lower storeys, and in its own only the basis does."""

NARROWER = {"scoring": BASIS | {"formats"}, "doctor": BASIS, "audio": BASIS, "formats": BASIS}
"""Parts that may import less than what lies below them."""

IMPORT_NAMES = {
    "av": {"av"},
    "huggingface_hub": {"huggingface_hub"},
    "matplotlib": {"matplotlib"},
    "numpy": {"numpy"},
    "packaging": {"packaging"},
    "pyannote.core": {"pyannote.core"},
    "pyannote.metrics": {"pyannote.metrics"},
    "pydantic": {"pydantic"},
    "rich": {"rich"},
    "safetensors": {"safetensors"},
    "scikit-learn": {"sklearn"},
    "scipy": {"scipy"},
    "soundfile": {"soundfile"},
    "soxr": {"soxr"},
    "torch": {"torch"},
    "typer": {"typer"},
}
"""What the base's distributions are imported as."""

EXTRAS_BY_FILE = {
    *("loss.py", "task.py", "mfcc.py", "perceptual.py"),
    *("pyannote.py", "pyannote_foreign.py", "pyannote_audio.py"),
}
"""Files that may use an extra, as may `training/`, `recipes/` and bridges, to be named here."""


def files() -> Iterator[tuple[str, Path]]:
    """Give every module's full name and file."""
    for package, home in HOMES.items():
        for path in sorted(home.rglob("*.py")):
            parts = path.relative_to(home).with_suffix("").parts
            yield ".".join([package, *parts]).removesuffix(".__init__"), path


MODULES = dict(files())


def imports(path: Path) -> Iterator[str]:
    """Give the full name of everything that a file imports, at its top or inside of a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            for name in node.names:
                full = f"{node.module}.{name.name}"
                yield full if full in MODULES else str(node.module)


def part_of(module: str) -> str:
    """Return the part of the house that a module of ours belongs to."""
    return ".".join(module.split(".")[1:2]) or "wavlm_meeting"


def allowed(part: str) -> set[str]:
    """Return the parts that a part may import."""
    (storey,) = [number for number, parts in enumerate(STOREYS) if part in parts]
    below = set().union(*STOREYS[:storey], {part}, BASIS)
    return NARROWER.get(part, below) | {part}


def test_arrows_point_down() -> None:
    """A file imports from its own part and from those that lie below it."""
    wrong = [
        f"{module} -> {name}"
        for module, path in MODULES.items()
        for name in imports(path)
        if name.startswith("wavlm_meeting") and part_of(name) not in allowed(part_of(module))
    ]
    assert wrong == []


def test_no_circles() -> None:
    """No file imports itself by way of others, not even inside of a function."""
    arrows = {
        module: {name for name in imports(path) if name in MODULES}
        for module, path in MODULES.items()
    }
    arrows["wavlm_meeting"] = set()  # the public names load on first use, long after their homes
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_only_the_base_is_needed() -> None:
    """Outside of training and bridges, files import the standard library and the base alone."""
    known = {"wavlm_meeting", *sys.stdlib_module_names, *set().union(*IMPORT_NAMES.values())}
    foreign = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in MODULES.values()
        if path.name not in EXTRAS_BY_FILE and path.relative_to(ROOT).parts[0] != "recipes"
        if "training" not in path.relative_to(ROOT).parts
        for name in imports(path)
        if known.isdisjoint({name.split(".")[0], ".".join(name.split(".")[:2])})
    ]
    assert foreign == []


def test_import_names_are_those_of_the_base() -> None:
    """The table above names the dependencies of pyproject.toml, all of them and no others."""
    listed = {line.split(">=")[0] for line in PYPROJECT["project"]["dependencies"]}
    assert set(IMPORT_NAMES) == listed


def test_the_library_knows_no_terminal() -> None:
    """The library imports neither Typer nor Rich: that is for programs."""
    offenders = [
        module
        for module, path in MODULES.items()
        if part_of(module) not in {"cli", "recipes"}
        if not {"typer", "rich"}.isdisjoint(name.split(".")[0] for name in imports(path))
    ]
    assert offenders == []


def test_packages_are_listed() -> None:
    """pyproject.toml lists the packages on the disk: one left out would miss from the wheel."""
    packages = {
        module if path.name == "__init__.py" else module.rpartition(".")[0]
        for module, path in MODULES.items()
    }
    assert sorted(PYPROJECT["tool"]["setuptools"]["packages"]) == sorted(packages)
    assert packages <= set(MODULES), "a folder with Python files lacks its __init__.py"


def test_files_are_short() -> None:
    """No file is longer than 400 lines."""
    lengths = {path.name: path.read_text().count("\n") for path in MODULES.values()}
    assert {name: length for name, length in lengths.items() if length > 400} == {}


def test_the_command_starts_light() -> None:
    """What `wavlm-meeting --help` imports leaves the seconds of torch and its like to others."""
    code = "import sys, wavlm_meeting.cli.main; print(*sys.modules)"
    answer = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    heavy = {"torch", "numpy", "pandas", "scipy", "matplotlib", "pyannote", "pydantic"}
    assert heavy.isdisjoint(answer.stdout.decode().split())
