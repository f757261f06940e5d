"""Who spoke when in one recording, as every format of turns can be made from it and gives it."""

from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from itertools import pairwise
from typing import Annotated, Protocol, Self

import numpy as np
from pydantic import Field, model_validator

from wavlm_meeting.config import Settings

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
    confidence: Fraction | None = None
    """How sure the model is that this speaker speaks here; null where no model said."""

    overlap: Fraction = 0.0
    """Share of the turn in which others speak too."""


class SpeakerShare(Settings):
    """How much one speaker talks."""

    speaker: str
    talk_s: Seconds
    share: Fraction
    """Of the talk of all speakers; overlapped speech counts for each of them."""


class SpeakerCount(Settings):
    """How likely one number of speakers is."""

    speakers: Annotated[int, Field(ge=0)]
    probability: Fraction


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
    """Its length; the end of the last turn where nobody said."""

    speakers: tuple[SpeakerShare, ...]
    """By talk time, most first."""

    speaker_counts: tuple[SpeakerCount, ...] = ()
    """How many speakers there may be, by number; empty where no model said."""

    turns: tuple[SpeakerTurn, ...]
    """By start."""

    overlaps: tuple[Stretch, ...]
    """Where two or more speak at once, by start."""

    model: ModelUsed | None = None
    """null for turns from elsewhere."""

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
    @property
    def overlap(self) -> float: ...


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
        """Turns with `start`, `end`, `speaker`, `confidence` and `overlap`."""

    @property
    def overlaps(self) -> Sequence[tuple[float, float]]:
        """Where two or more speak at once, as (start, end)."""

    @property
    def speaker_counts(self) -> Mapping[int, float]:
        """Probability of each number of speakers."""

    @property
    def model(self) -> str:
        """Name of the model."""

    @property
    def model_sha256(self) -> str:
        """SHA-256 of its weights."""


def document_of(diarization: DiarizationLike) -> DiarizationDocument:
    """Turn a result into its document, rounded to the millisecond."""
    turns = [
        SpeakerTurn(
            start=round(turn.start, 3),
            end=round(turn.end, 3),
            speaker=turn.speaker,
            confidence=round(turn.confidence, 3),
            overlap=round(turn.overlap, 3),
        )
        for turn in sorted(diarization.turns, key=lambda turn: (turn.start, turn.end, turn.speaker))
    ]
    return DiarizationDocument(
        uri=diarization.uri,
        duration_s=round(diarization.duration_s, 3),
        speakers=_shares(diarization.turns),
        speaker_counts=tuple(
            SpeakerCount(speakers=speakers, probability=round(probability, 4))
            for speakers, probability in sorted(diarization.speaker_counts.items())
        ),
        turns=tuple(turns),
        overlaps=tuple(
            Stretch(start=round(start, 3), end=round(end, 3))
            for start, end in sorted(diarization.overlaps)
        ),
        model=ModelUsed(name=diarization.model, sha256=diarization.model_sha256),
        toolkit=version("wavlm-meeting"),
    )


def document_of_turns(
    uri: str, turns: Iterable[SpeakerTurn], duration_s: float = 0.0
) -> DiarizationDocument:
    """Make the document of turns from elsewhere, without those shorter than a millisecond.

    `duration_s` is the recording's length, if known. Each turn's `overlap` stays as it is.
    """
    lasting = sorted(
        (
            turn.model_copy(update={"start": round(turn.start, 3), "end": round(turn.end, 3)})
            for turn in turns
            if round(turn.end, 3) > round(turn.start, 3)
        ),
        key=lambda turn: (turn.start, turn.end, turn.speaker),
    )
    return DiarizationDocument(
        uri=uri,
        duration_s=max(round(duration_s, 3), *(turn.end for turn in lasting), 0.0),
        speakers=_shares(lasting),
        turns=tuple(lasting),
        overlaps=tuple(Stretch(start=start, end=end) for start, end in overlaps_of(lasting)),
        toolkit=version("wavlm-meeting"),
    )


def overlaps_of(turns: Iterable[SpeakerTurn]) -> list[tuple[float, float]]:
    """Return where two or more speakers speak at once, as (start, end), by start."""
    # Where one turn begins as another ends, the end comes first: they do not overlap.
    edges = sorted(
        edge
        for turn in turns
        if turn.end > turn.start
        for edge in ((turn.start, 1, turn.speaker), (turn.end, -1, turn.speaker))
    )
    speaking: dict[str, int] = {}
    found: list[tuple[float, float]] = []
    begun = None
    for time_s, change, speaker in edges:
        speaking[speaker] = speaking.get(speaker, 0) + change
        if not speaking[speaker]:
            del speaking[speaker]
        if len(speaking) > 1 and begun is None:
            begun = time_s
        elif len(speaking) < 2 and begun is not None:
            if time_s > begun:
                found.append((begun, time_s))
            begun = None
    return found


def with_overlap(turns: Sequence[SpeakerTurn]) -> list[SpeakerTurn]:
    """Give each turn the share of it in which others speak too."""
    overlaps = np.array(overlaps_of(turns)).reshape(-1, 2)
    if not len(overlaps):
        return list(turns)
    lengths = np.repeat(np.diff(overlaps, axis=1)[:, 0], 2) * np.tile([0.0, 1.0], len(overlaps))
    ends = np.array([(turn.start, turn.end) for turn in turns])
    before = np.interp(ends, overlaps.ravel(), lengths.cumsum())  # seconds of overlap up to a time
    shared = (before[:, 1] - before[:, 0]) / np.maximum(ends[:, 1] - ends[:, 0], 1e-9)
    return [
        turn.model_copy(update={"overlap": round(float(min(max(share, 0.0), 1.0)), 3)})
        for turn, share in zip(turns, shared, strict=True)
    ]


def _shares(turns: Iterable[_Turn | SpeakerTurn]) -> tuple[SpeakerShare, ...]:
    """Count how much each speaker talks, most first."""
    talk: dict[str, float] = {}
    for turn in turns:
        talk[turn.speaker] = talk.get(turn.speaker, 0.0) + turn.end - turn.start
    total = sum(talk.values())
    return tuple(
        SpeakerShare(
            speaker=speaker,
            talk_s=round(talk_s, 3),
            share=min(1.0, round(talk_s / total, 4)) if total else 0.0,
        )
        for speaker, talk_s in sorted(talk.items(), key=lambda item: (-item[1], item[0]))
    )
