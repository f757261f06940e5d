"""What a diarization can be turned into keeps what it says."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from wavlm_meeting.diarization.result import Diarization, Turn
from wavlm_meeting.formats import document_of, read_json, read_rttm, write_json


def of(*turns: Turn, overlaps: tuple[tuple[float, float], ...] = ()) -> Diarization:
    """Make a diarization of turns."""
    ordered = tuple(sorted(turns, key=lambda turn: (turn.start, turn.end)))
    return Diarization("call", 30.0, ordered, overlaps, "tiny", "0" * 64, {2: 0.75, 3: 0.25})


def drawn(seed: int) -> Diarization:
    """Draw four speakers' turns to a tenth of a second, so that edges often coincide."""
    rng = np.random.default_rng(seed)
    turns = []
    for speaker in range(4):
        bounds = np.sort(rng.choice(300, 16, replace=False)) / 10
        turns += [
            Turn(float(start), float(end), f"S{speaker}", round(rng.random(), 2))
            for start, end in bounds.reshape(-1, 2)
        ]
    return of(*turns)


@pytest.mark.parametrize("seed", range(5))
def test_one_speaks_at_a_time(seed: int) -> None:
    """No two turns overlap, speech is where it was, and each piece is of a turn that was there."""
    everybody = drawn(seed)
    alone = everybody.exclusive()
    assert len(everybody.to_annotation().get_overlap()) > 0
    assert all(before.end <= after.start for before, after in pairwise(alone.turns))
    spoken = everybody.to_annotation().get_timeline().support()
    assert alone.to_annotation().get_timeline().support() == spoken
    for piece in alone.turns:
        (turn,) = (
            turn
            for turn in everybody.turns
            if turn.speaker == piece.speaker and turn.start <= piece.start and piece.end <= turn.end
        )
        assert piece.confidence == turn.confidence
    assert alone.exclusive().to_annotation() == alone.to_annotation()


@pytest.mark.parametrize("seed", range(5))
def test_the_surest_is_kept(seed: int) -> None:
    """At every instant it is a turn of the highest confidence; shares of overlap are counted."""
    everybody = drawn(seed)
    alone = everybody.exclusive()
    for instant in np.arange(0.05, 30, 0.1):
        there = [turn for turn in everybody.turns if turn.start < instant < turn.end]
        kept = [turn for turn in alone.turns if turn.start < instant < turn.end]
        assert len(kept) == bool(there)
        if there:
            assert kept[0].confidence == max(turn.confidence for turn in there)
    several = everybody.to_annotation().get_overlap()
    for piece in alone.turns:
        shared_s = sum(
            max(0.0, min(piece.end, each.end) - max(piece.start, each.start)) for each in several
        )
        assert piece.overlap == pytest.approx(shared_s / (piece.end - piece.start), abs=0.001)


def test_an_interruption_cuts_a_turn_in_two() -> None:
    """Who is less sure goes on where the surer one ends; overlap stays flagged."""
    found = of(Turn(0, 10, "a", 0.6), Turn(4, 5, "b", 0.9, 1.0), overlaps=((4, 5),)).exclusive()
    assert [(turn.start, turn.end, turn.speaker) for turn in found.turns] == [
        (0, 4, "a"),
        (4, 5, "b"),
        (5, 10, "a"),
    ]
    assert [turn.overlap for turn in found.turns] == [0, 1, 0]
    assert found.overlaps == ((4, 5),)


def test_turns_of_one_at_a_time_stay_as_they_are() -> None:
    """Nothing to choose, nothing changes: touching turns of one speaker stay two."""
    found = of(Turn(0, 1, "a", 0.5), Turn(1, 2, "a", 0.6), Turn(3, 4, "b", 0.5))
    assert found.exclusive() == found
    assert of().exclusive() == of()


def test_a_diarization_survives_its_files(tmp_path: Path) -> None:
    """RTTM gives the turns back, JSON their confidences too, and the plain form is plain."""
    found = drawn(0)
    found.write_rttm(tmp_path / "call.rttm")
    rttm = read_rttm(tmp_path / "call.rttm")["call"].itertracks(yield_label=True)
    read = [(round(turn.start, 3), round(turn.end, 3), name) for turn, _, name in rttm]
    assert sorted(read) == sorted((turn.start, turn.end, turn.speaker) for turn in found.turns)
    write_json(document_of(found), tmp_path / "call.json")
    back = read_json(tmp_path / "call.json").turns
    said = [(turn.start, turn.end, turn.speaker, turn.confidence) for turn in found.turns]
    assert sorted((t.start, t.end, t.speaker, t.confidence) for t in back) == sorted(said)
    plain = json.loads(json.dumps(found.to_dict()))
    assert tuple(Turn(**turn) for turn in plain["turns"]) == found.turns
    assert plain["speaker_counts"] == [
        {"speakers": 2, "probability": 0.75},
        {"speakers": 3, "probability": 0.25},
    ]


def test_diarizations_are_values() -> None:
    """Equal ones are one member of a set, and another count of speakers makes another."""
    assert len({drawn(1), drawn(1), drawn(2)}) == 2
    assert of() != Diarization("call", 30.0, (), (), "tiny", "0" * 64)
