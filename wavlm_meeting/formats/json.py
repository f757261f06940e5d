"""The toolkit's own document of who spoke when, with confidences and the model it came from."""

from collections.abc import Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Protocol, Self

from pydantic import Field, ValidationError, model_validator

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import FormatError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.lines import read_text

Seconds = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Stretch(Settings):
    """A part of the recording."""

    start: Seconds
    end: Seconds

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.end < self.start:
            raise ValueError(f"the end, {self.end:g} s, lies before the start, {self.start:g} s")
        return self


class SpeakerTurn(Stretch):
    """One uninterrupted turn of one speaker."""

    speaker: str
    confidence: Fraction
    """How sure the model is that this speaker speaks here."""


class SpeakerShare(Settings):
    """How much one speaker talks."""

    speaker: str
    talk_s: Seconds
    share: Fraction
    """Of the talk of all speakers; overlapped speech counts for each of them."""


class ModelUsed(Settings):
    """The model that a result was computed with."""

    name: str
    sha256: str
    """Of the model's weights."""


class DiarizationDocument(Settings):
    """What `<recording>.json` holds; times in seconds, to the millisecond."""

    uri: str
    """The recording's name."""

    duration_s: Seconds
    speakers: tuple[SpeakerShare, ...]
    """By talk time, most first."""

    turns: tuple[SpeakerTurn, ...]
    """By start."""

    overlaps: tuple[Stretch, ...]
    """Where two or more speak at once, by start."""

    model: ModelUsed
    toolkit: str
    """Version of this toolkit."""

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        for turn, following in pairwise(self.turns):
            if following.start < turn.start:
                raise ValueError(f"the turn at {following.start:g} s is out of order")
        silent = {turn.speaker for turn in self.turns} - {item.speaker for item in self.speakers}
        if silent:
            raise ValueError(f"'speakers' lacks {', '.join(sorted(silent))}")
        return self


class _Turn(Protocol):
    @property
    def start(self) -> float: ...
    @property
    def end(self) -> float: ...
    @property
    def speaker(self) -> str: ...
    @property
    def confidence(self) -> float: ...


class DiarizationLike(Protocol):
    """What a document is made from; `diarization.Diarization` is one."""

    @property
    def uri(self) -> str:
        """The recording's name."""

    @property
    def duration_s(self) -> float:
        """Length of the recording."""

    @property
    def turns(self) -> Sequence[_Turn]:
        """Turns with `start`, `end`, `speaker` and `confidence`."""

    @property
    def overlaps(self) -> Sequence[tuple[float, float]]:
        """Where two or more speak at once, as (start, end)."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def model_sha256(self) -> str:
        """SHA-256 of its weights."""


def document_of(diarization: DiarizationLike) -> DiarizationDocument:
    """Turn a result into its document, rounded to the millisecond."""
    turns = sorted(diarization.turns, key=lambda turn: (turn.start, turn.end, turn.speaker))
    talk: dict[str, float] = {}
    for turn in turns:
        talk[turn.speaker] = talk.get(turn.speaker, 0.0) + turn.end - turn.start
    total = sum(talk.values())
    return DiarizationDocument(
        uri=diarization.uri,
        duration_s=round(diarization.duration_s, 3),
        speakers=tuple(
            SpeakerShare(
                speaker=speaker,
                talk_s=round(talk_s, 3),
                share=min(1.0, round(talk_s / total, 4)) if total else 0.0,
            )
            for speaker, talk_s in sorted(talk.items(), key=lambda item: (-item[1], item[0]))
        ),
        turns=tuple(
            SpeakerTurn(
                start=round(turn.start, 3),
                end=round(turn.end, 3),
                speaker=turn.speaker,
                confidence=round(turn.confidence, 3),
            )
            for turn in turns
        ),
        overlaps=tuple(
            Stretch(start=round(start, 3), end=round(end, 3))
            for start, end in sorted(diarization.overlaps)
        ),
        model=ModelUsed(name=diarization.model, sha256=diarization.model_sha256),
        toolkit=version("wavlm-meeting"),
    )


def write_json(document: DiarizationDocument, path: str | Path) -> None:
    """Write a document, indented for people."""
    with atomic_write(path) as temporary:
        temporary.write_text(document.model_dump_json(indent=2) + "\n", encoding="utf-8")


def read_json(path: str | Path) -> DiarizationDocument:
    """Read a document; raises FormatError that names the file and the first faulty entry."""
    try:
        return DiarizationDocument.model_validate_json(read_text(path))
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        entry = ".".join(str(part) for part in problem["loc"])
        message = problem["msg"].removeprefix("Value error, ")
        raise FormatError(f"{path}: {entry + ': ' if entry else ''}{message}.") from None
