"""Words find their speakers: by overlap, by what is said around them, by the nearest turn."""

from collections.abc import Sequence
from itertools import product

import numpy as np
import pytest

from wavlm_meeting.diarization import Turn
from wavlm_meeting.diarization.transcript import (
    UNKNOWN,
    best_sequence,
    evidence_of,
    transcribe,
)
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.formats.words import Word


def turns_of(*rows: tuple[float, float, str]) -> list[Turn]:
    """Make turns."""
    return [Turn(start, end, speaker, 0.9) for start, end, speaker in rows]


def said(words: Sequence[Word], turns: Sequence[Turn], **settings: float) -> list[tuple[str, str]]:
    """Return who says what, a pair a segment."""
    found = transcribe(words, turns, "call", **settings)
    return [(segment.speaker, segment.text) for segment in found.segments]


def test_words_go_to_who_speaks_then() -> None:
    """Segments are what one says without a pause, with their times and words."""
    words = [Word(0.1, 0.4, "how"), Word(0.5, 0.9, "are"), Word(1.0, 1.4, "you"),
             Word(2.0, 2.4, "fine"), Word(4.0, 4.5, "good")]  # fmt: skip
    turns = turns_of((0, 1.5, "ann"), (1.8, 5, "bob"))
    found = transcribe(words, turns, "call")
    assert found.uri == "call"
    assert [(each.speaker, each.text, each.start, each.end) for each in found.segments] == [
        ("ann", "how are you", 0.1, 1.4),
        ("bob", "fine", 2.0, 2.4),
        ("bob", "good", 4.0, 4.5),
    ]
    assert [word.start for word in found.segments[0].words] == [0.1, 0.5, 1.0]


def test_a_word_on_a_boundary_goes_to_who_speaks_most_of_it() -> None:
    """Turns that end and begin within a word share it."""
    turns = turns_of((0, 1, "ann"), (1, 2, "bob"))
    around = [Word(0.2, 0.4, "a"), Word(1.5, 1.8, "c")]
    assert said([*around, Word(0.7, 1.2, "b")], turns) == [("ann", "a b"), ("bob", "c")]
    assert said([*around, Word(0.9, 1.4, "b")], turns) == [("ann", "a"), ("bob", "b c")]


def test_a_lone_word_moves_only_on_weak_evidence() -> None:
    """A short turn of somebody's own keeps its word; one that only touches a word does not."""
    words = [Word(n, n + 0.5, f"w{n}") for n in range(5)]
    own = turns_of((0, 1.8, "ann"), (1.9, 2.6, "bob"), (2.9, 5, "ann"))
    assert said(words, own) == [("ann", "w0 w1"), ("bob", "w2"), ("ann", "w3 w4")]
    touching = turns_of((0, 2.2, "ann"), (2.2, 2.7, "bob"), (2.9, 5, "ann"))
    assert said(words, touching) == [("ann", "w0 w1 w2 w3 w4")]
    assert said(words, touching, change_cost=0) == [
        ("ann", "w0 w1"),
        ("bob", "w2"),
        ("ann", "w3 w4"),
    ]


def test_overlap_belongs_to_who_goes_on_or_ends_the_sentence() -> None:
    """Within another's turn no word moves; where turns pass into each other a sentence is ended."""
    words = [Word(n, n + 0.5, f"w{n}") for n in range(6)]
    assert said(words, turns_of((0, 6, "ann"), (2, 3, "bob"))) == [("ann", "w0 w1 w2 w3 w4 w5")]
    passing = turns_of((0, 4, "ann"), (2, 6, "bob"))
    assert said(words, passing) == [("ann", "w0 w1 w2 w3"), ("bob", "w4 w5")]
    words[2] = Word(2, 2.5, "w2.")
    assert said(words, passing) == [("ann", "w0 w1 w2."), ("bob", "w3 w4 w5")]


def test_channels_are_decided_apart() -> None:
    """Two recognised apart may speak at once; their segments stand by start."""
    words = [Word(n, n + 0.5, f"a{n}", channel="1") for n in range(4)]
    words += [Word(n + 0.1, n + 0.6, f"b{n}", channel="2") for n in range(4)]
    turns = turns_of((0, 4, "ann"), (1, 1.7, "bob"), (4.2, 5, "bob"))
    found = said([*words, Word(4.3, 4.9, "b4", channel="2")], turns)
    assert found == [("ann", "a0 a1 a2 a3"), ("ann", "b0 b1 b2 b3"), ("bob", "b4")]


def test_words_of_nobody_go_to_the_nearest_turn_within_reach() -> None:
    """Farther away they are of an unknown speaker; with no turns at all, all are."""
    turns = turns_of((0, 1, "ann"), (4, 5, "bob"))
    words = [Word(0.2, 0.8, "a"), Word(1.2, 1.4, "b"), Word(2.4, 2.6, "c"), Word(3.5, 3.9, "d")]
    assert said(words, turns) == [("ann", "a b"), (UNKNOWN, "c"), ("bob", "d")]
    assert said(words, turns, nearest_s=2, pause_s=9) == [("ann", "a b c"), ("bob", "d")]
    assert said(words, turns, nearest_s=0, pause_s=9) == [("ann", "a"), (UNKNOWN, "b c d")]
    assert said(words, [], pause_s=9) == [(UNKNOWN, "a b c d")]
    assert said([], turns) == []


def test_words_of_no_length_are_points() -> None:
    """As some recognisers give them: who speaks at that time says them."""
    turns = turns_of((0, 1, "ann"), (1.5, 2, "bob"))
    assert said([Word(0.5, 0.5, "a"), Word(1.7, 1.7, "b")], turns) == [("ann", "a"), ("bob", "b")]


def test_no_word_is_lost_and_none_is_added() -> None:
    """Whatever the turns: random ones, overlapping, of one speaker too; words out of order."""
    random = np.random.default_rng(4)
    for _ in range(30):
        rows = [(s, s + random.uniform(0, 5), f"s{random.integers(4)}") for s in random.uniform(0, 60, 20)]  # noqa: E501  # fmt: skip
        starts = random.permutation(np.arange(100)) * 0.6
        words = [Word(s, s + random.uniform(0, 0.9), f"w{n}") for n, s in enumerate(starts)]
        found = transcribe(words, turns_of(*rows), "call")
        spoken = sorted(text for segment in found.segments for text in segment.text.split())
        assert spoken == sorted(word.text for word in words)
        assert [segment.start for segment in found.segments] == sorted(
            segment.start for segment in found.segments
        )
        speakers = {row[2] for row in rows} | {UNKNOWN}
        assert {segment.speaker for segment in found.segments} <= speakers


def test_evidence_is_what_counting_every_millisecond_gives() -> None:
    """Shares of words, and distances from the nearest turn, counted one by one."""
    random = np.random.default_rng(5)
    for _ in range(20):
        ends = np.sort(random.choice(3000, 8, replace=False)).reshape(4, 2)
        speaking = np.zeros(4000, bool)
        for start, end in ends:
            speaking[start:end] = True
        begin = np.sort(random.choice(3500, 15, replace=False))
        words = [Word(b / 1000, (b + 40 + 10 * n) / 1000, "") for n, b in enumerate(begin)]
        found = evidence_of(words, [ends / 1000.0], 0.5)[:, 0]
        for word, value in zip(words, found, strict=True):
            start, end = round(word.start * 1000), round(word.end * 1000)
            share = speaking[start:end].mean()
            gap = min(max(first - end, start - last, 0) for first, last in ends)
            assert value == pytest.approx(share or max(1 - gap / 500, 0.0), abs=1e-9)


def test_the_sequence_is_the_best_of_all() -> None:
    """Trying every sequence finds none with more evidence less cost."""
    random = np.random.default_rng(6)
    for _ in range(20):
        evidence = random.uniform(0.01, 1, (6, 3))
        costs = random.uniform(0, 0.5, 6)

        def worth(
            labels: Sequence[int], evidence: np.ndarray = evidence, costs: np.ndarray = costs
        ) -> float:
            changes = np.flatnonzero(np.diff(labels)) + 1
            return evidence[np.arange(6), labels].sum() - costs[changes].sum()

        best = max(map(worth, product(range(3), repeat=6)))
        assert worth(best_sequence(evidence, costs)) == pytest.approx(best)


@pytest.mark.parametrize(
    "wrong", [{"nearest_s": -1}, {"pause_s": float("nan")}, {"change_cost": 0.5}]
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, float]) -> None:
    """With the option's name and what it takes."""
    with pytest.raises(SettingsError, match="give"):
        transcribe([], [], "call", **wrong)
