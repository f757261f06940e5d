"""DER and JER equal NIST's md-eval on real outputs, and keep the laws of an error rate."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyannote.core import Annotation, Segment, Timeline
from pyannote.metrics.diarization import DiarizationErrorRate, JaccardErrorRate

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats import read_rttm, read_uem
from wavlm_meeting.scoring.diarization import ErrorCounts, score_diarization


def annotate(*turns: tuple[float, float, str], uri: str = "call") -> Annotation:
    """Make an annotation of turns (start, end, speaker)."""
    annotation = Annotation(uri=uri)
    for index, (start, end, speaker) in enumerate(turns):
        annotation[Segment(start, end), index] = speaker
    return annotation


def whole(end: float) -> dict[str, Timeline]:
    """Score the recording `call` from its start to `end`."""
    return {"call": Timeline([Segment(0, end)])}


def random_annotation(random: np.random.Generator, speakers: int, length_s: float) -> Annotation:
    """Draw turns that overlap between speakers, but not of one speaker."""
    turns = []
    for speaker in range(speakers):
        bounds = np.sort(random.uniform(0, length_s, 2 * int(random.integers(1, 20))))
        turns += [(float(a), float(b), f"s{speaker}") for a, b in bounds.reshape(-1, 2)]
    return annotate(*turns)


@pytest.fixture(scope="module")
def scoring(shared_dir: Path) -> Path:
    """Give the folder of annotations with published or md-eval figures."""
    return shared_dir / "corpus/scoring"


def read_folder(folder: Path, read: Callable[[Path], dict[str, Any]]) -> dict[str, Any]:
    """Read all files of a folder into one."""
    return {uri: each for path in sorted(folder.iterdir()) for uri, each in read(path).items()}


@pytest.fixture(scope="module")
def ami(scoring: Path) -> tuple[dict[str, Annotation], dict[str, Timeline]]:
    """Give the references and scored parts of the 16 AMI test meetings."""
    references = read_folder(scoring / "ami_test_only_words", read_rttm)
    return references, read_folder(scoring / "ami_test_uem", read_uem)


AMI = [
    ("online_5.0s", 0.0, False, "27.46", (3062.760, 1550.237, 3820.310, 30713.924)),
    ("online_5.0s", 0.0, True, "22.15", None),
    ("online_5.0s", 0.25, False, "21.09", (1645.533, 656.690, 2681.496, 23629.124)),
    ("online_5.0s", 0.25, True, "17.00", None),
    ("online_1.0s", 0.0, False, "30.40", None),
    ("online_1.0s", 0.0, True, "25.92", None),
    ("online_1.0s", 0.25, False, "23.57", None),
    ("online_1.0s", 0.25, True, "19.76", None),
    ("offline_vbx", 0.0, False, "24.14", None),
    ("offline_vbx", 0.0, True, "11.07", None),
    ("offline_vbx", 0.25, False, "16.19", None),
    ("offline_vbx", 0.25, True, "6.64", None),
]


@pytest.mark.parametrize(("system", "collar", "skip_overlap", "der", "seconds"), AMI)
def test_md_eval_on_ami(
    scoring: Path,
    ami: tuple[dict[str, Annotation], dict[str, Timeline]],
    system: str,
    collar: float,
    skip_overlap: bool,
    der: str,
    seconds: tuple[float, ...] | None,
) -> None:
    """Diart's published outputs on AMI's test meetings: md-eval-22's figures, digit by digit."""
    references, uem = ami
    hypothesis = read_rttm(scoring / f"diart_outputs/{system}_AMI.rttm")
    score = score_diarization(references, hypothesis, uem, collar, skip_overlap)
    total = score.total
    assert f"{100 * total.der:.2f}" == der
    if seconds:
        found = (total.missed_s, total.false_alarm_s, total.confusion_s, total.total_s)
        assert found == pytest.approx(seconds, abs=0.0005)
    assert set(score.files) == set(references)
    assert set(score.unscored) == set(hypothesis) - set(references)


@pytest.mark.parametrize(
    ("collar", "skip_overlap", "der"),
    [(0.0, False, "19.47"), (0.0, True, "11.23"), (0.25, False, "10.39"), (0.25, True, "7.17")],
)
def test_md_eval_on_speechbrains_example(
    scoring: Path, collar: float, skip_overlap: bool, der: str
) -> None:
    """ES2014c without a UEM."""
    folder = scoring / "speechbrain_ES2014c"
    reference = read_rttm(folder / "ref_ES2014c.rttm")
    hypothesis = read_rttm(folder / "sys_ES2014c.rttm")
    score = score_diarization(reference, hypothesis, None, collar, skip_overlap)
    assert f"{100 * score.total.der:.2f}" == der


@pytest.mark.parametrize(("collar", "der"), [(0.0, "42.50"), (0.25, "37.50")])
def test_md_eval_on_meetevals_example(scoring: Path, collar: float, der: str) -> None:
    """Two recordings, one scored in part, and two turns of one speaker that touch."""
    folder = scoring / "meeteval_examples"
    score = score_diarization(
        read_rttm(folder / "ref.rttm"),
        read_rttm(folder / "hyp.rttm"),
        read_uem(folder / "uem.uem"),
        collar,
    )
    assert f"{100 * score.total.der:.2f}" == der


def test_counting_in_pieces_equals_pyannote_on_the_whole() -> None:
    """DER without collar and JER are what pyannote.metrics gives for a recording at once."""
    random = np.random.default_rng(4)
    for _ in range(15):
        length_s = float(random.uniform(30, 400))
        reference = random_annotation(random, 3, length_s)
        hypothesis = random_annotation(random, 4, length_s)
        uem = Timeline([Segment(5, 0.3 * length_s), Segment(0.4 * length_s, 0.9 * length_s)])
        counts = score_diarization({"call": reference}, {"call": hypothesis}, {"call": uem}).total
        der = DiarizationErrorRate()(reference, hypothesis, uem=uem, detailed=True)
        jer = JaccardErrorRate()(reference, hypothesis, uem=uem)
        assert counts.der == pytest.approx(der["diarization error rate"], abs=1e-9)
        assert counts.missed_s == pytest.approx(der["missed detection"], abs=1e-6)
        assert counts.correct_s == pytest.approx(der["correct"], abs=1e-6)
        assert counts.jer == pytest.approx(jer, abs=1e-9)


def test_a_perfect_answer_has_no_error() -> None:
    """Whatever the speakers are called, with or without collar."""
    reference = annotate((0, 4, "ann"), (3, 9, "bob"))
    hypothesis = annotate((0, 4, "bob"), (3, 9, "1"))
    for collar in (0.0, 0.25):
        counts = score_diarization({"call": reference}, {"call": hypothesis}, None, collar).total
        assert counts.der == counts.jer == 0


def test_each_kind_of_error_is_counted_in_seconds() -> None:
    """One second missed, two of false alarm, three of one speaker taken for the other."""
    reference = annotate((0, 10, "ann"), (20, 28, "bob"))
    hypothesis = annotate((1, 10, "x"), (20, 25, "y"), (25, 28, "x"), (30, 32, "y"))
    counts = score_diarization({"call": reference}, {"call": hypothesis}, whole(40)).total
    assert counts == ErrorCounts(18, 14, 1, 2, 3, 2, pytest.approx(1 - 9 / 13 + 1 - 5 / 10))
    assert counts.der == pytest.approx(6 / 18)


def test_a_collar_lies_on_both_sides_of_a_boundary() -> None:
    """Of a turn of 10 s, a collar of 0.5 s leaves 9 s."""
    reference = annotate((10, 20, "ann"))
    counts = score_diarization({"call": reference}, {}, whole(30), collar=0.5).total
    assert counts.total_s == pytest.approx(9)


def test_turns_of_one_speaker_that_overlap_count_once() -> None:
    """In reference and hypothesis, and they are no overlapped speech."""
    reference = annotate((0, 6, "ann"), (4, 10, "ann"))
    hypothesis = annotate((0, 8, "x"), (2, 10, "x"))
    for skip_overlap in (False, True):
        counts = score_diarization(
            {"call": reference}, {"call": hypothesis}, whole(10), skip_overlap=skip_overlap
        ).total
        assert (counts.total_s, counts.correct_s, counts.false_alarm_s) == pytest.approx(
            (10, 10, 0)
        )


def test_seconds_are_added_over_files_and_rates_never_averaged() -> None:
    """A long good file and a short bad one: the total follows the long one."""
    reference = {"a": annotate((0, 90, "x"), uri="a"), "b": annotate((0, 10, "x"), uri="b")}
    hypothesis = {"a": annotate((0, 90, "1"), uri="a")}
    score = score_diarization(reference, hypothesis)
    assert {uri: counts.der for uri, counts in score.files.items()} == {"a": 0.0, "b": 1.0}
    assert score.total.der == pytest.approx(0.1)
    assert score.total.jer == pytest.approx(0.5)  # each speaker counts the same


def test_files_of_one_side_only_are_missed_or_reported() -> None:
    """A file without a hypothesis is missed; a hypothesis without a reference is listed."""
    reference = {"a": annotate((0, 2, "x"), uri="a"), "b": annotate((0, 3, "x"), uri="b")}
    hypothesis = {"a": annotate((0, 2, "x"), uri="a"), "z": annotate((0, 9, "x"), uri="z")}
    score = score_diarization(reference, hypothesis)
    assert score.total.missed_s == pytest.approx(3)
    assert score.total.false_alarm_s == 0
    assert score.unscored == ("z",)


def test_a_recording_without_speech_is_scored_for_false_alarms() -> None:
    """A UEM names it where the reference has no line for it."""
    score = score_diarization({}, {"call": annotate((2, 5, "x"))}, whole(10))
    assert score.total.false_alarm_s == pytest.approx(3)
    assert score.total.der == 1
    assert score_diarization({}, {}, whole(10)).total.der == 0


def test_mismatched_files_are_refused() -> None:
    """Names that have nothing in common are a mistake, and so is a UEM that lacks a file."""
    reference = {"call": annotate((0, 2, "x"))}
    with pytest.raises(
        FormatError, match=r"\(call\) and hypothesis \(cal\) have no file in common"
    ):
        score_diarization(reference, {"cal": annotate((0, 2, "x"), uri="cal")})
    with pytest.raises(FormatError, match="the UEM lacks call"):
        score_diarization(reference, reference, {"other": Timeline([Segment(0, 1)])})


def test_scoring_says_nothing_on_its_own() -> None:
    """pyannote.metrics warns of a missing UEM; here the docstring says what is scored then."""
    reference = {"call": annotate((0, 2, "x"))}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        score_diarization(reference, reference, collar=0.25, skip_overlap=True)
