"""Writing results: figures as JSON, tables as Markdown, which are shown as well."""

import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from wavlm_meeting.files import atomic_write

log = logging.getLogger(__name__)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Write plain values as JSON."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def write_table(path: Path, text: str) -> None:
    """Write a table and log its lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    for line in text.splitlines():
        log.info("%s", line)


def table_head(titles: Sequence[str]) -> list[str]:
    """Return the first two lines of a Markdown table."""
    return [table_row(titles), "|---" * len(titles) + "|"]


def table_row(cells: Iterable[str]) -> str:
    """Return a line of a Markdown table."""
    return f"| {' | '.join(cells)} |"
