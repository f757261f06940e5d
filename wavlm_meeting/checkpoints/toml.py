"""Writing TOML: the standard library reads it and does not write it."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def dumps(values: Mapping[str, Any]) -> str:
    """Write nested mappings of strings, numbers, booleans and lists as TOML (version 1.0).

    `None` has no form in TOML: such entries are left out. A list whose items are all mappings
    becomes an array of tables. Raises TypeError for a value of any other type.
    """
    return "\n".join(_table(values, ())).strip("\n") + "\n"


def _table(values: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """Give the lines of one table: its own values first, since a sub-table ends it."""
    present = {key: value for key, value in values.items() if value is not None}
    below = {key: value for key, value in present.items() if _is_table(value) or _is_tables(value)}
    for key, value in present.items():
        if key not in below:
            yield f"{_key(key)} = {_value(value)}"
    for key, value in below.items():
        name = ".".join(map(_key, (*path, key)))
        header, tables = (f"[{name}]", [value]) if _is_table(value) else (f"[[{name}]]", value)
        for table in tables:
            yield ""
            yield header
            yield from _table(table, (*path, key))


def _is_table(value: object) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: object) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(map(_is_table, value))


def _key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _string(key)


def _value(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return repr(value) if math.isfinite(value) else str(value)
        case str():
            return _string(value)
        case Sequence():
            return f"[{', '.join(map(_value, value))}]"
    raise TypeError(f"TOML has no form for {type(value).__name__}.")


def _string(value: str) -> str:
    # JSON's escapes are TOML's too, except that TOML also wants DEL escaped.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
