"""Writing files whole or not at all, and telling them apart."""

import hashlib
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_write(path: str | Path) -> Iterator[Path]:
    """Give a temporary path beside `path` and rename it to `path` when the block succeeds.

    The temporary name keeps the suffix, since some writers choose their format by it. A block that
    raises leaves no file behind, and an older file at `path` untouched.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.stem}.{secrets.token_hex(4)}{path.suffix}")
    try:
        yield temporary
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def size_of(path: Path) -> int:
    """Return the bytes of a file, or of all files in a folder together."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; of a folder, that of its files' hashes."""
    if Path(path).is_dir():
        parts = sorted(each for each in Path(path).rglob("*") if each.is_file())
        lines = (f"{sha256_of(each)}  {each.relative_to(path).as_posix()}\n" for each in parts)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
