"""Journals: what was heard outlives the process that heard it."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from wavlm_meeting.diarization.heard import LocalSpeakers
from wavlm_meeting.diarization.journal import Journal, Shape, fingerprint, open_journal

ABOUT = {"recording": "one", "window": 10}


def heard(count: int, shape: Shape, seed: int = 0) -> Iterator[LocalSpeakers]:
    """Draw windows as heads give them: values that float16 holds, the last one short."""
    rng = np.random.default_rng(seed)

    def draw(*size: int) -> np.ndarray:
        return rng.random(size).astype(np.float16).astype(np.float32)

    for number in range(count):
        length = shape.frames if number < count - 1 else shape.frames // 2
        yield LocalSpeakers(
            start=number * 5,
            activity=draw(length, shape.speakers),
            embeddings=draw(shape.speakers, shape.embedding),
            speech_s=rng.random(shape.speakers),
            levels=rng.normal(-30, 9, shape.speakers).astype(np.float16).astype(np.float32),
            features=draw(length, shape.features) if shape.features else None,
        )


def assert_same(journal: Journal, windows: list[LocalSpeakers]) -> None:
    """Check that a journal gives these windows, to the last bit."""
    assert len(journal) == len(windows)
    for found, wanted in zip(journal, windows, strict=True):
        assert found.start == wanted.start
        assert (found.activity == wanted.activity).all()
        assert (found.embeddings == wanted.embeddings).all()
        assert (found.speech_s == wanted.speech_s).all()
        assert (found.levels == wanted.levels).all()
        assert (found.features is None) == (wanted.features is None)
        if wanted.features is not None:
            assert (found.features == wanted.features).all()


@pytest.mark.parametrize("features", [0, 5])
@pytest.mark.parametrize("named", [True, False])
def test_what_is_written_is_read(features: int, named: bool, tmp_path: Path) -> None:
    """More windows than are read at once come back as they were, and as often as wanted."""
    shape = Shape(6, 3, 4, features)
    windows = list(heard(600, shape))
    with open_journal(tmp_path / "x.journal" if named else None, shape, ABOUT) as journal:
        for window in windows:
            journal.append(window)
        assert_same(journal, windows)
        assert_same(journal, windows)
    assert len(list(tmp_path.iterdir())) == named


def test_a_journal_goes_on(tmp_path: Path) -> None:
    """Opened again it has its windows, whether or not it was closed; more can follow."""
    path, shape = tmp_path / "x.journal", Shape(6, 3, 4, 0)
    windows = list(heard(5, shape))
    with open_journal(path, shape, ABOUT) as first:
        first.append(windows[0])
        with open_journal(path, shape, ABOUT) as second:
            assert_same(second, windows[:1])
            for window in windows[1:]:
                second.append(window)
            second.keep(3)
            second.append(windows[3])
    with open_journal(path, shape, ABOUT) as third:
        assert_same(third, windows[:4])


@pytest.mark.parametrize("damage", ["cut", "zeros", "flip"])
def test_what_a_crash_broke_is_dropped(damage: str, tmp_path: Path) -> None:
    """A record that is cut off, unwritten or altered goes, with what follows; the rest stays."""
    path, shape = tmp_path / "x.journal", Shape(6, 3, 4, 0)
    windows = list(heard(600, shape))
    with open_journal(path, shape, ABOUT) as journal:
        for window in windows:
            journal.append(window)
    size, record = path.stat().st_size, shape.record().itemsize
    place = size - 300 * record  # where window 300 begins
    data = bytearray(path.read_bytes())
    if damage == "cut":
        data = data[: place + record - 1]
    elif damage == "zeros":
        data[place:] = bytes(size - place)
    else:
        data[place + 20] ^= 1
    path.write_bytes(data)
    with open_journal(path, shape, ABOUT) as journal:
        assert_same(journal, windows[:300])
        journal.append(windows[300])
        assert_same(journal, windows[:301])


@pytest.mark.parametrize(
    ("shape", "about"),
    [
        (Shape(6, 3, 4, 0), {**ABOUT, "recording": "two"}),
        (Shape(6, 3, 4, 0), {**ABOUT, "channel": 2}),
        (Shape(7, 3, 4, 0), ABOUT),
        (Shape(6, 3, 4, 2), ABOUT),
    ],
)
def test_a_journal_of_something_else_is_begun_anew(
    shape: Shape, about: dict[str, object], tmp_path: Path
) -> None:
    """Another recording, model or shape takes nothing over, and neither does a stray file."""
    path = tmp_path / "x.journal"
    with open_journal(path, Shape(6, 3, 4, 0), ABOUT) as journal:
        for window in heard(3, Shape(6, 3, 4, 0)):
            journal.append(window)
    with open_journal(path, shape, about) as journal:
        assert len(journal) == 0
    path.write_bytes(b"{}\n" + bytes(5000))
    with open_journal(path, shape, about) as journal:
        assert len(journal) == 0


def test_a_recording_is_known_by_its_content(tmp_path: Path) -> None:
    """Another beginning, end, length or time is another recording; so are other samples."""
    path = tmp_path / "x.wav"
    path.write_bytes(bytes(300_000))
    os.utime(path, (1000, 1000))
    known = fingerprint(path)
    assert fingerprint(str(path)) == known
    for place in (0, 299_999):
        data = bytearray(300_000)
        data[place] = 1
        path.write_bytes(data)
        os.utime(path, (1000, 1000))
        assert fingerprint(path) != known
    path.write_bytes(bytes(300_000))
    assert fingerprint(path) != known
    samples = np.zeros(100, np.float32)
    assert fingerprint(samples) == fingerprint(samples.copy())
    assert fingerprint(samples) != fingerprint(samples[:99])
