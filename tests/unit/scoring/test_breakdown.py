"""Errors broken down: parts add up to md-eval's totals, and equal counting every millisecond."""

from collections import defaultdict
from collections.abc import Mapping
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import JaccardErrorRate

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats import read_rttm, read_uem
from wavlm_meeting.scoring.bootstrap import paired_interval
from wavlm_meeting.scoring.breakdown import (
    COLLARS_S,
    DEPTHS,
    LENGTHS,
    AtCollars,
    SystemBreakdown,
    compare_diarization,
)
from wavlm_meeting.scoring.diarization import ErrorCounts, score_diarization

SECONDS = ("total_s", "correct_s", "missed_s", "false_alarm_s", "confusion_s")
Turns = list[tuple[int, int, str]]


def annotate(turns: Turns, uri: str = "call") -> Annotation:
    """Make an annotation of turns (start, end, speaker) in milliseconds."""
    annotation = Annotation(uri=uri)
    for index, (start, end, speaker) in enumerate(turns):
        annotation[Segment(start / 1000, end / 1000), index] = speaker
    return annotation


def parts(system: SystemBreakdown) -> dict[str, list[AtCollars]]:
    """Return every kind of parts of the counts."""
    return {
        "depth": list(system.by_depth.values()),
        "length": list(system.by_length.values()),
        "number": list(system.by_number.values()),
        "recording": [each.total for each in system.recordings.values()],
        "speaker": [c for each in system.recordings.values() for c in each.by_speaker.values()],
    }


def assert_parts_add_up(
    system: SystemBreakdown,
    reference: Mapping[str, Annotation],
    hypothesis: Mapping[str, Annotation],
    uem: Mapping[str, Timeline] | None,
) -> None:
    """Check every kind of parts against the counts of pyannote.metrics, at each collar."""
    for place, collar in enumerate(COLLARS_S):
        score = score_diarization(reference, hypothesis, uem, collar)
        for name in SECONDS:
            expected = pytest.approx(getattr(score.total, name), abs=1e-3)
            assert getattr(system.total[place], name) == expected
            for kind, counts in parts(system).items():
                found = sum(getattr(each[place], name) for each in counts)
                assert found == expected, (kind, collar)
        for uri, counts in score.files.items():
            assert system.recordings[uri].total[place].der == pytest.approx(counts.der, abs=1e-5)
        speakers = [each[place] for each in parts(system)["speaker"]]
        assert sum(each.speaker_errors for each in speakers) == pytest.approx(
            system.total[place].speaker_errors
        )
    assert system.total[0].jer == pytest.approx(score.total.jer)


def read_folder(folder: Path, pattern: str) -> dict[str, Annotation]:
    """Read all RTTM files of a folder into one."""
    return {uri: each for path in folder.glob(pattern) for uri, each in read_rttm(path).items()}


def test_md_eval_figures_of_two_systems(shared_dir: Path) -> None:
    """Diart's outputs on AMI's test meetings, beside each other: md-eval's figures and parts."""
    scoring = shared_dir / "corpus/scoring"
    reference = read_folder(scoring / "ami_test_only_words", "*")
    uem = {
        uri: part
        for path in (scoring / "ami_test_uem").iterdir()
        for uri, part in read_uem(path).items()
    }
    outputs = scoring / "diart_outputs"
    names = ("online_5.0s", "offline_vbx")
    hypotheses = {name: read_rttm(outputs / f"{name}_AMI.rttm") for name in names}
    compared = compare_diarization(reference, hypotheses, uem)
    online, offline = compared.systems.values()
    figures = [[f"{100 * each.der:.2f}" for each in system.total] for system in (online, offline)]
    assert figures == [["27.46", "21.09"], ["24.14", "16.19"]]
    total = online.total[0]
    assert [getattr(total, name) for name in SECONDS if name != "correct_s"] == pytest.approx(
        [30713.924, 3062.760, 1550.237, 3820.310], abs=0.0005
    )
    total = online.total[1]
    assert [getattr(total, name) for name in SECONDS if name != "correct_s"] == pytest.approx(
        [23629.124, 1645.533, 656.690, 2681.496], abs=0.0005
    )
    assert set(online.unscored) == set(hypotheses["online_5.0s"]) - set(reference)
    assert [each.difference for each in compared.differences if each] == pytest.approx(
        [a.der - b.der for a, b in zip(online.total, offline.total, strict=True)]
    )
    assert online.numbers.keys() == {3, 4}
    assert online.numbers[4].total() == 15


@pytest.mark.parametrize(
    ("folder", "files", "ders"),
    [
        ("speechbrain_ES2014c", ("ref_ES2014c.rttm", "sys_ES2014c.rttm"), ["19.47", "10.39"]),
        ("meeteval_examples", ("ref.rttm", "hyp.rttm", "uem.uem"), ["42.50", "37.50"]),
    ],
)
def test_md_eval_figures_of_examples(
    shared_dir: Path, folder: str, files: tuple[str, ...], ders: list[str]
) -> None:
    """With and without a UEM; turns of one speaker that touch keep their collar."""
    paths = [shared_dir / "corpus/scoring" / folder / name for name in files]
    reference, hypothesis = map(read_rttm, paths[:2])
    uem = read_uem(paths[2]) if paths[2:] else None
    (system,) = compare_diarization(reference, {"sys": hypothesis}, uem).systems.values()
    assert [f"{100 * each.der:.2f}" for each in system.total] == ders
    assert_parts_add_up(system, reference, hypothesis, uem)


def test_two_references_of_real_meetings(shared_dir: Path) -> None:
    """The coarser references of AMI clips against those of words alone: parts add up."""
    folder = shared_dir / "corpus/meetings"
    coarse = read_folder(folder, "*.segments.rttm")
    words = {uri: each for uri, each in read_folder(folder, "*[0-9].rttm").items() if uri in coarse}
    uem = {uri: each for path in folder.glob("ami*.uem") for uri, each in read_uem(path).items()}
    (system,) = compare_diarization(words, {"coarse": coarse}, uem).systems.values()
    assert_parts_add_up(system, words, coarse, uem)
    assert len(words) > 5
    assert len(system.recordings) == len(uem) > len(words)  # a UEM may name silent recordings
    assert system.total[0].der > system.total[1].der > 0


def draw_turns(random: np.random.Generator, speakers: str, length: int) -> Turns:
    """Draw turns of up to seven seconds; those of one speaker overlap and touch, too."""
    turns: Turns = []
    for speaker in speakers:
        for _ in range(random.integers(1, 6)):
            start = int(random.integers(0, length))
            middle = start + int(random.integers(50, 900))
            turns.append((start, middle, speaker))
            if random.random() < 0.5:
                turns.append((middle, middle + int(random.integers(100, 6000)), speaker))
    return turns


class ByMillisecond:
    """Counts by looking at every millisecond, with sets and the best of all matchings."""

    def __init__(self, reference: Turns, hypothesis: Turns, uem: list[tuple[int, int]]) -> None:
        self.times = [t for start, end in uem for t in range(start, end)]
        self.spoken = self._speech(reference)
        self.found = self._speech(hypothesis)
        self.lengths = self._turn_lengths()
        self.boundaries = {bound for turn in reference for bound in turn[:2]}
        self.matched = self._match()

    def _speech(self, turns: Turns) -> dict[str, set[int]]:
        speech: dict[str, set[int]] = defaultdict(set)
        for start, end, speaker in turns:
            speech[speaker].update(range(start, end))
        return speech

    def _turn_lengths(self) -> dict[tuple[str, int], int]:
        """Return the length of the turn that a speaker is in at a time."""
        lengths = {}
        for speaker, times in self.spoken.items():
            for start in (t for t in times if t - 1 not in times):
                end = start
                while end in times:
                    end += 1
                lengths.update({(speaker, t): end - start for t in range(start, end)})
        return lengths

    def _match(self) -> dict[str, str]:
        """Return the hypothesis' name of each speaker, so that they speak together longest."""
        scored = set(self.times)
        heard = {name: times & scored for name, times in self.found.items()}
        names = [*heard, *("" for _ in self.spoken)]
        shared = {
            (a, b): len(times & heard.get(b, set()) & scored)
            for a, times in self.spoken.items()
            for b in names
        }
        best = max(
            permutations(names, len(self.spoken)),
            key=lambda order: sum(shared[pair] for pair in zip(self.spoken, order, strict=True)),
        )
        return {a: b for a, b in zip(self.spoken, best, strict=True) if shared[a, b]}

    def count(self, collar: int) -> dict[object, list[float]]:
        """Return milliseconds of talk, miss, confusion and false alarm, by part."""
        left_out = {t for b in self.boundaries for t in range(b - collar, b + collar)}
        counts: dict[object, list[float]] = defaultdict(lambda: [0.0] * 4)
        owner = {b: a for a, b in self.matched.items()}
        for t in self.times:
            if t in left_out:
                continue
            speaking = [a for a, times in self.spoken.items() if t in times]
            heard = [b for b, times in self.found.items() if t in times]
            wrong = [a for a in speaking if self.matched.get(a) not in heard]
            surplus = [b for b in heard if owner.get(b) not in speaking]
            missed = max(0, len(speaking) - len(heard))
            extra = max(0, len(heard) - len(speaking))
            depth = ("depth", DEPTHS[min(len(speaking), 3)])
            for a in speaking:
                miss = missed / len(wrong) if a in wrong else 0.0
                seconds = (1.0, miss, (a in wrong) - miss, 0.0)
                for part in (depth, self._length(a, t), ("speaker", a, self.matched.get(a))):
                    counts[part] = [x + y for x, y in zip(counts[part], seconds, strict=True)]
            for b in surplus:
                for part in (depth, ("length", "no turn"), ("speaker", owner.get(b), b)):
                    counts[part][3] += extra / len(surplus)
        return counts

    def _length(self, speaker: str, t: int) -> tuple[str, str]:
        bounds = (500, 1000, 2000, 5000)
        return ("length", LENGTHS[sum(self.lengths[speaker, t] >= bound for bound in bounds)])


@pytest.mark.parametrize("seed", range(6))
def test_counting_every_millisecond_gives_the_same(seed: int) -> None:
    """Of every part, at each collar, for turns at random, more speakers found and fewer."""
    random = np.random.default_rng(seed)
    reference = draw_turns(random, "abc"[: 2 + seed % 2], 25_000)
    hypothesis = draw_turns(random, "wxyz"[: 1 + seed % 4], 25_000)
    limits = [(1_000, 9_000), (9_500, 24_000)]
    uem = {"call": Timeline([Segment(a / 1000, b / 1000) for a, b in limits])}
    references, hypotheses = {"call": annotate(reference)}, {"call": annotate(hypothesis)}
    (system,) = compare_diarization(references, {"x": hypotheses}, uem).systems.values()
    assert_parts_add_up(system, references, hypotheses, uem)
    found: dict[object, AtCollars] = {("depth", name): c for name, c in system.by_depth.items()}
    found |= {("length", name): counts for name, counts in system.by_length.items()}
    by_speaker = system.recordings["call"].by_speaker
    found |= {("speaker", *pair): counts for pair, counts in by_speaker.items()}
    brute = ByMillisecond(reference, hypothesis, limits)
    for place, collar in enumerate(COLLARS_S):
        expected = brute.count(round(1000 * collar))
        assert expected.keys() <= found.keys()
        for part, counts in found.items():
            each = counts[place]
            seconds = (each.total_s, each.missed_s, each.confusion_s, each.false_alarm_s)
            assert seconds == pytest.approx([ms / 1000 for ms in expected[part]], abs=1e-6), part


def test_jer_with_a_collar_is_pyannotes() -> None:
    """For speakers whom a collar leaves matched as they were (pyannote takes twice the collar)."""
    reference = annotate([(0, 5000, "a"), (4000, 9000, "b"), (10_000, 12_000, "a")])
    hypothesis = annotate([(200, 5400, "x"), (4900, 8000, "y"), (9_600, 12_800, "x")])
    uem = Timeline([Segment(0, 14)])
    compared = compare_diarization({"call": reference}, {"x": {"call": hypothesis}}, {"call": uem})
    total = compared.systems["x"].total[1]
    jer = JaccardErrorRate(collar=0.5)(reference, hypothesis, uem=uem)
    assert total.jer == pytest.approx(jer)


def test_speakers_of_whom_a_collar_leaves_nothing_have_no_jer() -> None:
    """A turn of half a second, whatever rounding leaves of it, is no speaker at 0.25 s."""
    turns: Turns = [(0, 4000, "a")] + [(5100 + 700 * k, 5600 + 700 * k, "b") for k in range(9)]
    (system,) = compare_diarization(
        {"call": annotate(turns)}, {"x": {"call": annotate(turns[:1])}}
    ).systems.values()
    assert [each.speakers for each in system.total] == [2, 1]
    assert [each.jer for each in system.total] == [0.5, 0.0]
    assert system.by_length["<0.5"][0] == ErrorCounts()
    assert system.by_length["0.5-1"][0].missed_s == pytest.approx(4.5)


def test_who_shares_a_miss_and_a_confusion() -> None:
    """Two speak, a stranger is found: one of two is missed, one confused, each for a half."""
    reference = annotate([(0, 2000, "a"), (0, 2000, "b"), (3000, 9000, "a")])
    hypothesis = annotate([(0, 2000, "x"), (3000, 9000, "y")])
    (system,) = compare_diarization(
        {"call": reference}, {"s": {"call": hypothesis}}
    ).systems.values()
    by_speaker = system.recordings["call"].by_speaker
    # "b" is the stranger's match, so that "a" alone is wrong, and missed.
    assert by_speaker["b", "x"][0] == ErrorCounts(2, 2, 0, 0, 0, 1, 0)
    assert by_speaker["a", "y"][0].missed_s == pytest.approx(2)
    strangers = annotate([(0, 2000, "z"), (3000, 9000, "y"), (9000, 13_000, "z")])
    reference = annotate([(0, 2000, "a"), (0, 2000, "b"), (3000, 9000, "a"), (9000, 13_000, "c")])
    (system,) = compare_diarization(
        {"call": reference}, {"s": {"call": strangers}}
    ).systems.values()
    by_speaker = system.recordings["call"].by_speaker
    for pair in (("a", "y"), ("b", None)):
        counts = by_speaker[pair][0]
        assert (counts.missed_s, counts.confusion_s) == pytest.approx((1, 1)), pair
    assert by_speaker["c", "z"][0].der == 0


def test_numbers_of_speakers() -> None:
    """Who is found too often or not at all is counted within what is scored alone."""
    reference = {
        "two": annotate([(0, 1000, "a"), (1000, 2000, "b"), (8000, 9000, "c")], "two"),
        "one": annotate([(0, 1000, "a")], "one"),
        "none": Annotation(uri="none"),
    }
    hypothesis = {
        "two": annotate([(0, 2000, "x"), (8000, 9000, "y")], "two"),
        "one": annotate([(0, 1000, "x"), (8000, 9000, "y")], "one"),
    }
    uem = {uri: Timeline([Segment(0, 5)]) for uri in reference}
    (system,) = compare_diarization(reference, {"x": hypothesis}, uem).systems.values()
    assert system.numbers == {0: {0: 1}, 1: {1: 1}, 2: {1: 1}}
    assert (system.right_numbers, system.number_error) == (2, pytest.approx(1 / 3))
    assert [each[0].total_s for each in system.by_number.values()] == [0, 1, 2]


def test_interval_of_a_difference() -> None:
    """It is paired: a constant gain is sure, though recordings differ by far more than it."""
    random = np.random.default_rng(0)
    speech = random.uniform(10, 100, 40)
    errors = speech * random.uniform(0, 1, 40)
    first = np.stack([errors + 0.05 * speech, speech], axis=1)
    second = np.stack([errors, speech], axis=1)
    sure = paired_interval(first, second, 500)
    assert sure is not None
    assert (sure.difference, sure.low, sure.high) == pytest.approx((0.05, 0.05, 0.05))
    same = paired_interval(second, second[::-1], 500)
    assert same is not None
    assert same.low < 0 < same.high
    assert same.difference == pytest.approx(0, abs=1e-12)
    silent = np.array([[1.0, 0.0], [0.0, 0.0]])
    assert paired_interval(silent, silent, 10) is None
    # One of two recordings has speech: draws without it tell nothing.
    half = np.array([[1.0, 10.0], [0.0, 0.0]])
    some = paired_interval(half, 2 * half * [1, 0.5], 50)
    assert some is not None
    assert some.difference == pytest.approx(-0.1)
    assert np.isfinite([some.low, some.high]).all()


def test_interval_covers_the_truth() -> None:
    """Of 100 draws of 30 recordings, about 95 intervals hold the difference of all recordings."""
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(100):
        speech = random.uniform(20, 60, 30)
        shares = random.beta(2, 8, (2, 30))
        shares[1] += 0.1
        first, second = (np.stack([share * speech, speech], axis=1) for share in shares)
        found = paired_interval(second, first, 300)
        assert found is not None
        hits += found.low < 0.1 < found.high
    assert 88 <= hits <= 99


def test_no_difference_without_two_of_each() -> None:
    """One system, one recording, or no bootstraps: none."""
    one = {"a": annotate([(0, 1000, "x")], "a")}
    two = {**one, "b": annotate([(0, 1000, "x")], "b")}
    assert compare_diarization(two, {"s": two}).differences == ()
    assert compare_diarization(one, {"s": one, "t": one}).differences == ()
    assert compare_diarization(two, {"s": two, "t": two}, resamples=0).differences == ()
    assert len(compare_diarization(two, {"s": two, "t": one}).differences) == 2


def test_mismatched_systems_are_refused_by_name() -> None:
    """And recordings that only a system has are listed."""
    reference = {"call": annotate([(0, 1000, "x")])}
    other = {"cal": annotate([(0, 1000, "x")], "cal")}
    with pytest.raises(FormatError, match=r"\(call\) and second \(cal\) have no file in common"):
        compare_diarization(reference, {"first": reference, "second": other})
    compared = compare_diarization(reference, {"first": {**reference, **other}, "second": {}})
    assert compared.systems["first"].unscored == ("cal",)
    assert compared.systems["second"].total[0].missed_s == pytest.approx(1)
    with pytest.raises(FormatError, match="the UEM lacks call"):
        compare_diarization(reference, {"first": reference}, {})
