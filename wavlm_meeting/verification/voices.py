"""The register of voices: whose embeddings they are, in one SQLite file.

Every change is one transaction under SQLite's rollback journal: a process that is killed leaves the
register as it was before, and a second writer waits for the first. Embeddings lie beside the hash
of the model that made them, and only those of one model are ever compared.

D embedding size.
"""

import os
import re
import sqlite3
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from difflib import get_close_matches
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.verification.schema import prepare, worded

PLACE = "WAVLM_MEETING_VOICES"
"""Environment variable that names the register of those who name none."""
WAIT_S = 10.0
"""How long a change waits for that of another process."""

_UNKNOWN_SPEAKER = re.compile(r"speaker_\d+")
"""What diarization calls whom nobody knows."""


@dataclass(frozen=True)
class Model:
    """What made embeddings."""

    sha256: str
    """SHA-256 of its weights."""
    name: str
    size: int
    """D"""


@dataclass(frozen=True)
class Take:
    """One recording of a voice, as one model heard it."""

    file: str
    """Name of the recording, without its folder."""
    model: Model
    embedding: NDArray[np.float32] = field(repr=False)
    """(D,) as the model gives it, of any length."""
    speech_s: float
    """Seconds of speech in the recording."""
    created: str
    """When it was enrolled, in UTC (ISO 8601)."""

    def same_as(self, other: "Take") -> bool:
        """Tell whether two takes are one recording, heard by one model."""
        alike = self.model.sha256 == other.model.sha256
        return alike and np.array_equal(self.embedding, other.embedding)


@dataclass(frozen=True)
class Voice:
    """Somebody who is known."""

    name: str
    takes: tuple[Take, ...]
    """In the order in which they were enrolled."""


def now() -> str:
    """Return the time as takes hold it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def default_place() -> Path:
    """Return where the user's register lies, by the XDG base directory specification.

    `$WAVLM_MEETING_VOICES` names it; else it is `wavlm-meeting/voices.db` in `$XDG_DATA_HOME`, or
    in `~/.local/share`.
    """
    if named := os.environ.get(PLACE):
        return Path(named)
    data = os.environ.get("XDG_DATA_HOME", "")
    folder = Path(data) if Path(data).is_absolute() else Path.home() / ".local/share"
    return folder / "wavlm-meeting" / "voices.db"


def checked_name(name: str) -> str:
    """Return a name as the register holds it; raises SettingsError for what cannot be one.

    Runs of spaces are one space. Names go into RTTM, where `;;` begins a comment.
    """
    found = " ".join(unicodedata.normalize("NFC", name).split())
    if not found or not found.isprintable() or ";;" in found:
        raise SettingsError(f"{name!r} is no name: give printable characters, without ';;'.")
    if _UNKNOWN_SPEAKER.fullmatch(key_of(found)):
        raise SettingsError(f"'{found}' is what unknown speakers are called; give another name.")
    return found


def key_of(name: str) -> str:
    """Return what two spellings of one name share: case, spaces and `_` do not tell people apart.

    RTTM has no spaces, and writes `_` for them.
    """
    return "_".join(unicodedata.normalize("NFKC", name).casefold().replace("_", " ").split())


class Register:
    """An open register; use it in a `with` statement."""

    def __init__(self, path: str | Path | None = None, *, create: bool = False) -> None:
        """Open the register at `path`, or the user's own.

        With `create` one is begun where there is none; only its owner may read it. Raises
        SettingsError if there is none or it is out of reach, FormatError for a file that is none.
        """
        self.path = default_place() if path is None else Path(path)
        if create:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.touch(mode=0o600)
        elif not self.path.exists() or not self.path.stat().st_size:
            raise SettingsError(
                f"{self.path}: no register of voices; begin one with 'wavlm-meeting enroll NAME "
                "FILE', or name another one with --register."
            )
        uri = f"{self.path.absolute().as_uri()}?mode=rw"
        with worded(self.path):
            self._database = sqlite3.connect(uri, WAIT_S, isolation_level=None, uri=True)
        try:
            with worded(self.path):
                prepare(self._database, self.path)
        except BaseException:
            self._database.close()
            raise

    def __enter__(self) -> Self:
        """Give the register itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self._database.close()

    def voices(self, model_sha256: str | None = None) -> list[Voice]:
        """Return all voices with their takes, in the order of their names.

        With `model_sha256`, those that this model has heard, with the takes that it made.
        """
        statement = (
            "SELECT voice.name, take.file, model.sha256, model.name, model.size, take.embedding,"
            " take.speech_s, take.created FROM voice JOIN take ON take.voice = voice.id"
            " JOIN model ON model.id = take.model"
            " WHERE ?1 IS NULL OR model.sha256 = ?1 ORDER BY voice.key, take.id"
        )
        with worded(self.path):
            rows = self._database.execute(statement, (model_sha256,)).fetchall()
        found: dict[str, list[Take]] = {}
        for name, file, sha256, model, size, blob, speech_s, created in rows:
            embedding = np.frombuffer(blob, "<f4").astype(np.float32)
            if embedding.shape != (size,):
                raise FormatError(f"{self.path}: damaged at '{name}'; restore a copy or an export.")
            take = Take(file, Model(sha256, model, size), embedding, speech_s, created)
            found.setdefault(name, []).append(take)
        return [Voice(name, tuple(takes)) for name, takes in found.items()]

    def voice(self, name: str) -> Voice:
        """Return one voice; raises SettingsError, with the nearest name, if there is none."""
        found = [voice for voice in self.voices() if key_of(voice.name) == key_of(name)]
        if not found:
            raise self._unknown(name)
        return found[0]

    def enroll(self, name: str, takes: Sequence[Take]) -> Voice:
        """Add takes to a voice, which may be a new one: all of them or none; return all it has.

        A take that it has already is passed over. Raises SettingsError for what cannot be a name,
        and for a take that is somebody else's.
        """
        with self._change():
            self._add(Voice(name, tuple(takes)))
        return self.voice(name)

    def merge(self, voices: Sequence[Voice], *, same_names: bool = False) -> int:
        """Add the voices of another register, all or none; return the number of takes added.

        Who has a name of somebody here, and no take in common with them, may be somebody else:
        SettingsError names them, unless `same_names` says that they are the same people.
        """
        with self._change():
            here = {key_of(voice.name): voice for voice in self.voices()}
            clashes = [
                voice.name
                for voice in voices
                if not same_names
                if (known := here.get(key_of(voice.name)))
                if not any(own.same_as(take) for own in known.takes for take in voice.takes)
            ]
            if clashes:
                raise SettingsError(
                    f"in the register already, with other recordings: {', '.join(clashes)}; if "
                    "they are the same people add --same-names, else rename those here first."
                )
            return sum(self._add(voice) for voice in voices)

    def rename(self, old: str, new: str) -> None:
        """Give a voice another name; raises SettingsError if somebody else has it."""
        name = checked_name(new)
        with self._change():
            number, taken = self._find(old), self._find(name)
            if number is None:
                raise self._unknown(old)
            if taken not in {None, number}:
                raise SettingsError(f"'{name}' is in the register already; choose another name.")
            row = (name, key_of(name), number)
            self._database.execute("UPDATE voice SET name = ?, key = ? WHERE id = ?", row)

    def forget(self, name: str) -> None:
        """Delete a voice with its embeddings, which are overwritten in the file."""
        with self._change():
            number = self._find(name)
            if number is None:
                raise self._unknown(name)
            self._database.execute("DELETE FROM voice WHERE id = ?", (number,))
            self._database.execute("DELETE FROM model WHERE id NOT IN (SELECT model FROM take)")

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Hold the register alone, and keep all that is changed, or nothing where it raises."""
        with worded(self.path):
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._database.execute("COMMIT")
            finally:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")

    def _add(self, voice: Voice) -> int:
        """Add a voice's takes and return how many are new; call it within a change."""
        name = checked_name(voice.name)
        number = self._find(name)
        if number is None:
            insert = "INSERT INTO voice (name, key) VALUES (?, ?) RETURNING id"
            (number,) = self._database.execute(insert, (name, key_of(name))).fetchone()
        added = 0
        for take in voice.takes:
            model, blob = self._model(take.model), take.embedding.astype("<f4").tobytes()
            owner = self._database.execute(
                "SELECT voice.id, voice.name FROM take JOIN voice ON voice.id = take.voice"
                " WHERE take.model = ? AND take.embedding = ?",
                (model, blob),
            ).fetchone()
            if owner and owner[0] != number:
                raise SettingsError(
                    f"{take.file}: is enrolled as '{owner[1]}' already; forget or rename that "
                    f"voice, or leave the file out for '{name}'."
                )
            if not owner:
                self._database.execute(
                    "INSERT INTO take (voice, model, file, embedding, speech_s, created)"
                    " VALUES (?, ?, ?, ?, ?, ?)",
                    (number, model, take.file, blob, take.speech_s, take.created),
                )
                added += 1
        return added

    def _model(self, model: Model) -> int:
        """Return the number of a model, new or known."""
        self._database.execute(
            "INSERT INTO model (sha256, name, size) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
            (model.sha256, model.name, model.size),
        )
        number, size = self._database.execute(
            "SELECT id, size FROM model WHERE sha256 = ?", (model.sha256,)
        ).fetchone()
        if size != model.size:
            raise SettingsError(
                f"{model.name}: embeddings of {model.size} numbers, where the register's of this "
                f"model have {size}; check where they come from."
            )
        return int(number)

    def _find(self, name: str) -> int | None:
        """Return the number of a voice, if there is one of this name."""
        row = self._database.execute(
            "SELECT id FROM voice WHERE key = ?", (key_of(name),)
        ).fetchone()
        return None if row is None else int(row[0])

    def _unknown(self, name: str) -> SettingsError:
        """Say that there is no such voice, and which name is near."""
        rows = self._database.execute("SELECT key, name FROM voice ORDER BY key").fetchall()
        names = dict(rows)
        close = get_close_matches(key_of(name), names, n=1)
        cure = f"did you mean '{names[close[0]]}'?" if close else "see 'wavlm-meeting voices list'."
        return SettingsError(f"'{name}' is not in {self.path}: {cure}")
