"""Tables of the register of voices: their versions, and what SQLite's errors mean."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from wavlm_meeting.errors import FormatError, SettingsError

APPLICATION = 0x574C4D56
"""Marks a SQLite file as a register of voices (`PRAGMA application_id`, "WLMV")."""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        """CREATE TABLE voice (
            id INTEGER PRIMARY KEY,
            name TEXT NOT NULL,
            key TEXT NOT NULL UNIQUE
        )""",
        """CREATE TABLE model (
            id INTEGER PRIMARY KEY,
            sha256 TEXT NOT NULL UNIQUE,
            name TEXT NOT NULL,
            size INTEGER NOT NULL
        )""",
        """CREATE TABLE take (
            id INTEGER PRIMARY KEY,
            voice INTEGER NOT NULL REFERENCES voice ON DELETE CASCADE,
            model INTEGER NOT NULL REFERENCES model,
            file TEXT NOT NULL,
            embedding BLOB NOT NULL, -- D numbers in single precision, little-endian
            speech_s REAL NOT NULL,
            created TEXT NOT NULL,
            UNIQUE (model, embedding)
        )""",
        "CREATE INDEX take_of_voice ON take (voice)",
    ),
)
"""Statements that bring a register from each version to the next; there are as many as versions."""

_OUT_OF_REACH = {
    "SQLITE_BUSY": "another process has kept it to itself for too long; try again.",
    "SQLITE_READONLY": "cannot be written; change its rights, or those of its folder.",
    "SQLITE_CANTOPEN": "cannot be opened; check the path and its rights.",
    "SQLITE_PERM": "cannot be opened; check its rights.",
    "SQLITE_FULL": "the disk is full; free some space and try again.",
    "SQLITE_IOERR": "the disk cannot be read or written; check it and try again.",
}
"""What SQLite's errors mean, by the beginning of their names."""


def prepare(database: sqlite3.Connection, path: Path) -> None:
    """Make a database ready: a new one gets its tables, an older one those of today.

    Raises FormatError for one of a newer version, or of another program.
    """
    database.execute("PRAGMA foreign_keys = ON")
    database.execute("PRAGMA secure_delete = ON")
    if _version(database, path) == len(MIGRATIONS):
        return
    database.execute("BEGIN IMMEDIATE")
    try:
        # Asked again: another process may have done it meanwhile.
        for statements in MIGRATIONS[_version(database, path) :]:
            for statement in statements:
                database.execute(statement)
        database.execute(f"PRAGMA application_id = {APPLICATION}")
        database.execute(f"PRAGMA user_version = {len(MIGRATIONS)}")
        database.execute("COMMIT")
    finally:
        if database.in_transaction:
            database.execute("ROLLBACK")


@contextmanager
def worded(path: Path) -> Iterator[None]:
    """Turn SQLite's errors into ours, which name the cure."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        name = getattr(error, "sqlite_errorname", "")
        if name == "SQLITE_NOTADB":
            raise _no_register(path) from None
        if name.startswith("SQLITE_CORRUPT"):
            raise FormatError(
                f"{path}: damaged ({error}); restore a copy of it, or an export."
            ) from None
        for beginning, cure in _OUT_OF_REACH.items():
            if name.startswith(beginning):
                raise SettingsError(f"{path}: {cure}") from None
        raise


def _version(database: sqlite3.Connection, path: Path) -> int:
    """Return the version of a register, 0 for an empty database."""
    (application,) = database.execute("PRAGMA application_id").fetchone()
    (version,) = database.execute("PRAGMA user_version").fetchone()
    (tables,) = database.execute("SELECT count(*) FROM sqlite_schema").fetchone()
    if application != APPLICATION and (application or version or tables):
        raise _no_register(path)
    if version > len(MIGRATIONS):
        raise FormatError(
            f"{path}: a register of version {version}, and this wavlm-meeting reads versions up to "
            f"{len(MIGRATIONS)}; update it (pip install -U wavlm-meeting)."
        )
    return int(version)


def _no_register(path: Path) -> FormatError:
    return FormatError(f"{path}: not a register of voices; name another file with --register.")
