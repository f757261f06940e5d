"""The JSON document: what is written is read back, and what contradicts itself is refused."""

import json
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats import DiarizationDocument, document_of, read_json, write_json


@dataclass(frozen=True)
class Turn:
    """A turn as the pipeline gives it."""

    start: float
    end: float
    speaker: str
    confidence: float
    overlap: float = 0.0


@dataclass(frozen=True)
class Result:
    """A result as the pipeline gives it."""

    uri: str = "call"
    duration_s: float = 10.00049
    turns: tuple[Turn, ...] = (
        Turn(0.5, 3.5, "ann", 0.91234),
        Turn(3.0001, 4.0001, "bob", 1.0),
        Turn(6.0, 8.0, "bob", 0.5),
        Turn(9.0, 9.5, "ann", 0.75),
    )
    overlaps: tuple[tuple[float, float], ...] = ((3.0001, 3.5),)
    model: str = "tiny"
    model_sha256: str = "ab" * 32
    speaker_counts: dict[int, float] = field(default_factory=dict)


def test_a_result_becomes_a_document(tmp_path: Path) -> None:
    """Turns, overlaps, shares, model and version, rounded, with these keys and no others."""
    write_json(document_of(Result()), tmp_path / "a.json")
    assert json.loads((tmp_path / "a.json").read_text()) == {
        "uri": "call",
        "duration_s": 10.0,
        "speakers": [
            {"speaker": "ann", "talk_s": 3.5, "share": 0.5385},
            {"speaker": "bob", "talk_s": 3.0, "share": 0.4615},
        ],
        "turns": [
            {"start": 0.5, "end": 3.5, "speaker": "ann", "confidence": 0.912, "overlap": 0.0},
            {"start": 3.0, "end": 4.0, "speaker": "bob", "confidence": 1.0, "overlap": 0.0},
            {"start": 6.0, "end": 8.0, "speaker": "bob", "confidence": 0.5, "overlap": 0.0},
            {"start": 9.0, "end": 9.5, "speaker": "ann", "confidence": 0.75, "overlap": 0.0},
        ],
        "overlaps": [{"start": 3.0, "end": 3.5}],
        "speaker_counts": [],
        "model": {"name": "tiny", "sha256": "ab" * 32},
        "toolkit": version("wavlm-meeting"),
    }


@pytest.mark.parametrize("result", [Result(), Result(turns=(), overlaps=())])
def test_documents_are_read_back(tmp_path: Path, result: Result) -> None:
    """Reading gives what was written; a silent recording is a document too."""
    document = document_of(result)
    write_json(document, tmp_path / "a.json")
    assert read_json(tmp_path / "a.json") == document


def change(document: DiarizationDocument, **changes: Any) -> str:
    """Write a document as JSON with some entries replaced."""
    return json.dumps(document.model_dump() | changes)


TURN = {"start": 1.0, "end": 2.0, "speaker": "ann", "confidence": 0.5}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"turns": [TURN | {"end": 0.5}]}, "turns.0: .*0.5 s, lies before the start, 1 s"),
        ({"turns": [TURN | {"confidence": 1.5}]}, "turns.0.confidence: .*less than or equal to 1"),
        ({"turns": [TURN | {"start": -1.0}]}, "turns.0.start: .*greater than or equal to 0"),
        ({"turns": [TURN | {"speaker": "eve"}]}, "'speakers' lacks eve"),
        ({"turns": [TURN, TURN | {"start": 0.5}]}, "the turn at 0.5 s is out of order"),
        ({"model": {"name": "tiny"}}, "model.sha256: Field required"),
        ({"wording": []}, "wording: Extra inputs are not permitted"),
    ],
)
def test_a_faulty_document_is_named(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    """The message has the file and the entry."""
    path = tmp_path / "a.json"
    path.write_text(change(document_of(Result()), **changes))
    with pytest.raises(FormatError, match=f"a.json: {says}"):
        read_json(path)


def test_what_is_no_json_is_refused(tmp_path: Path) -> None:
    """A file cut off while it was copied, say."""
    (tmp_path / "a.json").write_text('{"uri": "call", ')
    with pytest.raises(FormatError, match=r"a\.json: Invalid JSON"):
        read_json(tmp_path / "a.json")
