"""Settings: frozen, typed, read from TOML, and no unknown key is let through."""

import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationError

from wavlm_meeting.errors import SettingsError


class Settings(BaseModel):
    """Base of all settings: immutable, and unknown keys are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=False)


S = TypeVar("S", bound=Settings)

BASE = "base"
"""Key of a TOML file that names another one, whose values hold where it says nothing else."""


def parse_settings(values: Mapping[str, Any], settings: type[S], where: str) -> S:
    """Check `values` against the class `settings`.

    `where` names their origin in the message. Raises SettingsError on the first problem; for an
    unknown key it suggests the nearest known one.
    """
    try:
        return settings.model_validate(dict(values))
    except ValidationError as error:
        # A misspelt key first: it is why the right one is missing.
        problem = min(
            error.errors(include_url=False), key=lambda each: each["type"] != "extra_forbidden"
        )
        key = ".".join(str(part) for part in problem["loc"])
        if problem["type"] != "extra_forbidden":
            message = problem["msg"].removeprefix("Value error, ").removesuffix(".")
            raise SettingsError(f"{where}: {key + ': ' if key else ''}{message}.") from None
        known = _known_keys(settings, problem["loc"][:-1])
        close = get_close_matches(str(problem["loc"][-1]), known, n=1)
        cure = f"did you mean '{close[0]}'?" if close else f"known are {', '.join(known)}."
        raise SettingsError(f"{where}: unknown key '{key}': {cure}") from None


def read_toml(path: str | Path, settings: type[S]) -> S:
    """Read a TOML file into the class `settings`; raises SettingsError, naming the file.

    A file may say `base = "other.toml"`, another file beside it, and then only what is different:
    tables are laid over each other, and `false` in the place of a table takes it away.
    """
    return parse_settings(_read_values(Path(path), ()), settings, str(path))


def _read_values(path: Path, above: tuple[Path, ...]) -> dict[str, Any]:
    """Read a file and those that it is based on; `above` are based on it."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file; give the path of a TOML file.") from None
    except IsADirectoryError:
        raise SettingsError(f"{path}: a folder; give the path of a TOML file.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: not valid TOML: {error}.") from None
    if BASE not in values:
        return values
    base = values.pop(BASE)
    if not isinstance(base, str):
        raise SettingsError(f"{path}: {BASE} is {base!r}: give the name of a TOML file.")
    if (path.parent / base).resolve() in (known := (*above, path.resolve())):
        raise SettingsError(f"{path}: is based on itself, by way of {base}; take one away.")
    return merged(_read_values(path.parent / base, known), values)


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay `above` over `below`, table by table; False takes a table away."""
    both = dict(below)
    for key, value in above.items():
        known = both.get(key)
        if isinstance(known, Mapping) and value is False:
            del both[key]
        elif isinstance(known, Mapping) and isinstance(value, Mapping):
            both[key] = merged(known, value)
        else:
            both[key] = value
    return both


def _known_keys(settings: type[BaseModel], path: tuple[int | str, ...]) -> list[str]:
    """List the keys that are allowed at `path` below `settings`."""
    for part in path:
        # Whatever else the path names, such as an index or a union's member, holds no keys.
        if field := settings.model_fields.get(str(part)):
            settings = next(_models_in(field.annotation), settings)
    return sorted(settings.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    """Find the settings in a type such as `tuple[Settings, ...]` or `Settings | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
