"""Voices as JSON, to take them from one register to another.

D embedding size.
"""

from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, ValidationError, field_validator, model_validator

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.lines import read_text
from wavlm_meeting.verification.voices import Model, Take, Voice, checked_name, key_of

_LARGEST = float(np.finfo(np.float32).max)
Number = Annotated[float, Field(ge=-_LARGEST, le=_LARGEST, allow_inf_nan=False)]


class TakeEntry(Settings):
    """One recording of a voice."""

    file: str
    """Name of the recording."""
    model: str = Field(pattern="^[0-9a-f]{64}$")
    """SHA-256 of the weights of the model that heard it."""
    model_name: str
    embedding: tuple[Number, ...] = Field(min_length=1)
    """(D,) in single precision, exactly."""
    speech_s: float = Field(ge=0, allow_inf_nan=False)
    """Seconds of speech in it."""
    created: str
    """When it was enrolled, in UTC (ISO 8601)."""

    @field_validator("created")
    @classmethod
    def _is_a_time(cls, text: str) -> str:
        datetime.fromisoformat(text)
        return text


class VoiceEntry(Settings):
    """Somebody who is known."""

    name: str
    takes: tuple[TakeEntry, ...] = Field(min_length=1)

    @field_validator("name")
    @classmethod
    def _is_a_name(cls, name: str) -> str:
        try:
            return checked_name(name)
        except SettingsError as error:
            raise ValueError(str(error)) from None


class VoicesDocument(Settings):
    """What an exported file holds: all of a register."""

    format: Literal["wavlm-meeting voices 1"] = "wavlm-meeting voices 1"
    voices: tuple[VoiceEntry, ...]

    @model_validator(mode="after")
    def _named_once(self) -> Self:
        keys: set[str] = set()
        for voice in self.voices:
            if key_of(voice.name) in keys:
                raise ValueError(f"'{voice.name}' is there twice")
            keys.add(key_of(voice.name))
        return self


def write_voices(voices: list[Voice], path: str | Path) -> None:
    """Write voices with all that is known of them, at once or not at all."""
    document = VoicesDocument(
        voices=tuple(
            VoiceEntry(
                name=voice.name,
                takes=tuple(
                    TakeEntry(
                        file=take.file,
                        model=take.model.sha256,
                        model_name=take.model.name,
                        embedding=tuple(take.embedding.tolist()),
                        speech_s=take.speech_s,
                        created=take.created,
                    )
                    for take in voice.takes
                ),
            )
            for voice in voices
        )
    )
    with atomic_write(path) as temporary:
        temporary.touch(mode=0o600)  # voices are nobody else's business
        temporary.write_text(document.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_voices(path: str | Path) -> list[Voice]:
    """Read voices; raises FormatError that names the file and the first faulty entry."""
    try:
        document = VoicesDocument.model_validate_json(read_text(path))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        entry = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ").removesuffix(".")
        raise FormatError(
            f"{path}: {entry + ': ' if entry else ''}{message}; give a file of "
            "'wavlm-meeting voices export'."
        ) from None
    return [
        Voice(voice.name, tuple(_take_of(entry) for entry in voice.takes))
        for voice in document.voices
    ]


def _take_of(entry: TakeEntry) -> Take:
    embedding = np.array(entry.embedding, np.float32)
    model = Model(entry.model, entry.model_name, len(embedding))
    return Take(entry.file, model, embedding, entry.speech_s, entry.created)
