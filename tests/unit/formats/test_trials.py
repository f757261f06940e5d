"""Trial lists and scores: both layouts, any order, mistakes by their line."""

from pathlib import Path

import numpy as np
import pytest

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats.trials import (
    Scores,
    Trials,
    match_scores,
    read_scores,
    read_speakers,
    read_trials,
    voxceleb_speakers,
    write_scores,
)


def write(folder: Path, text: str) -> Path:
    """Write a list."""
    path = folder / "list.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "1 a/1.wav a/2.wav\n0 b/1.wav a/1.wav\n",
        "a/1.wav a/2.wav target\nb/1.wav a/1.wav nontarget\n",
        "\ufeff\n  1\ta/1.wav  a/2.wav \r\n\n0 b/1.wav a/1.wav",
    ],
)
def test_both_layouts_say_the_same(tmp_path: Path, text: str) -> None:
    """VoxCeleb's and NIST's, whatever blank lines, tabs and marks there are."""
    trials = read_trials(write(tmp_path, text))
    assert trials.targets.tolist() == [True, False]
    assert trials.names == ("a/1.wav", "a/2.wav", "b/1.wav")
    assert trials.pairs.tolist() == [[0, 1], [2, 0]]


def test_names_like_labels_do_not_confuse(tmp_path: Path) -> None:
    """The first line says which layout a list has: a recording may be called 1, or target."""
    assert read_trials(write(tmp_path, "0 1 target\n1 target target\n")).names == ("1", "target")
    kaldi = read_trials(write(tmp_path, "x 1 target\n1 0 nontarget\n"))
    assert (kaldi.names, kaldi.targets.tolist()) == (("x", "1", "0"), [True, False])


def test_the_corpus_has_its_trials(shared_dir: Path) -> None:
    """As many as there are lines, by names that are files."""
    path = shared_dir / "corpus/trials_test_cv.txt"
    trials = read_trials(path)
    lines = [line.split() for line in path.read_text().splitlines()]
    assert [str(int(target)) for target in trials.targets] == [line[0] for line in lines]
    named = [[trials.names[enrol], trials.names[test]] for enrol, test in trials.pairs]
    assert named == [line[1:] for line in lines]
    assert all((shared_dir / "corpus" / name).is_file() for name in trials.names)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("1 a b\n2 a b\n", r"list\.txt:2: not a trial; write '<1 or 0> <path> <path>'"),
        ("1 a b\n\n0 a\n", r"list\.txt:3: not a trial"),
        ("a b target\n1 a b\n", r"list\.txt:2: .*<enrol> <test> <target or nontarget>"),
        ("a b\n", r"list\.txt:1: not a trial"),
        ("\n", r"list\.txt: no trials; write one a line"),
    ],
)
def test_wrong_trials_are_one_line(tmp_path: Path, text: str, line: str) -> None:
    """A line of another form is named by its number."""
    with pytest.raises(FormatError, match=line):
        read_trials(write(tmp_path, text))


@pytest.mark.parametrize("text", ["a b 1\na b\n", "a b 1\na b c\n", "a b 1\na b nan\n"])
def test_wrong_scores_are_one_line(tmp_path: Path, text: str) -> None:
    """What is missing, no number or not finite is named by its line."""
    with pytest.raises(FormatError, match=r"list\.txt:2: not a score; write"):
        read_scores(write(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """One line each, that names the file."""
    with pytest.raises(FormatError, match="no such file; check the path"):
        read_trials(tmp_path / "none.txt")
    with pytest.raises(FormatError, match="a folder; name a file in it"):
        read_scores(tmp_path)
    (tmp_path / "audio").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(FormatError, match="not a text file"):
        read_speakers(tmp_path / "audio")


def test_scores_come_back(tmp_path: Path) -> None:
    """More of them than are written at once, to nine digits."""
    rng = np.random.default_rng(0)
    names = tuple(f"id{number}/ü.wav" for number in range(40))
    pairs = rng.integers(0, 40, (100_500, 2)).astype(np.int32)
    pairs[:20] = np.arange(40).reshape(20, 2)  # names in the order in which they come
    scores = Scores(100 * rng.standard_normal(len(pairs)), pairs, names)
    write_scores(scores, tmp_path / "scores.txt")
    back = read_scores(tmp_path / "scores.txt")
    assert back.names == names
    np.testing.assert_array_equal(back.pairs, pairs)
    np.testing.assert_allclose(back.values, scores.values, rtol=1e-8)
    assert [path.name for path in tmp_path.iterdir()] == ["scores.txt"]


def test_a_name_with_spaces_is_not_written(tmp_path: Path) -> None:
    """It would be read as two; nothing is left behind."""
    scores = Scores(np.zeros(1), np.zeros((1, 2), np.int32), ("my call.wav",))
    with pytest.raises(FormatError, match=r"'my call\.wav': .*rename it"):
        write_scores(scores, tmp_path / "scores.txt")
    assert not list(tmp_path.iterdir())


def test_scores_find_their_trials_in_any_order() -> None:
    """A pair the other way round is another one; scores that nobody asked for do not matter."""
    trials = Trials(
        np.array([True, False, True]), np.array([[0, 1], [1, 0], [0, 1]], np.int32), ("a", "b")
    )
    names, pairs = ("c", "b", "a"), np.array([[0, 0], [1, 2], [2, 1]], np.int32)
    scores = Scores(np.array([1.0, 2.0, 3.0]), pairs, names)
    assert match_scores(trials, scores).tolist() == [3.0, 2.0, 3.0]
    same = Scores(np.array([4.0, 5.0, 6.0]), trials.pairs, trials.names)
    assert match_scores(trials, same).tolist() == [4.0, 5.0, 6.0]


def test_scores_that_do_not_fit_are_refused() -> None:
    """A trial without a score, by its names; two scores of one pair."""
    trials = Trials(np.array([True, False]), np.array([[0, 1], [1, 2]], np.int32), ("a", "b", "z"))
    pairs = np.array([[0, 1], [1, 0], [0, 1]], np.int32)
    scores = Scores(np.array([1.0, 2.0, 1.0]), pairs, ("a", "b"))
    with pytest.raises(FormatError, match="x: 1 of 2 trials have no score, the first is 'b' 'z'"):
        match_scores(trials, scores, "x")
    scores = Scores(np.array([1.0, 2.0, 1.5]), pairs, ("a", "b"))
    with pytest.raises(FormatError, match="'a' 'b' has two scores that differ"):
        match_scores(trials, scores)


def test_speakers(tmp_path: Path) -> None:
    """From a list of their own, or from VoxCeleb's names if all are such."""
    assert read_speakers(write(tmp_path, "a/1 ann\nb/1 ben\na/1 ann\n")) == {
        "a/1": "ann",
        "b/1": "ben",
    }
    with pytest.raises(FormatError, match=r":2: 'a' has a speaker already"):
        read_speakers(write(tmp_path, "a ann\na ben\n"))
    with pytest.raises(FormatError, match=r":1: not a speaker"):
        read_speakers(write(tmp_path, "a ann ben\n"))
    names = ["id10270/x6uYqmx31kE/00001.wav", "id10271/8jEAjG6SegY/00008.wav"]
    assert voxceleb_speakers(names) == ["id10270", "id10271"]
    assert voxceleb_speakers([*names, "speech/librispeech/251/x.opus"]) is None
