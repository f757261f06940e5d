"""Files are written whole or not at all."""

import hashlib
from pathlib import Path

import pytest

from wavlm_meeting.files import atomic_write, sha256_of, size_of


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    """Until then its name is free, and what is written has the same suffix and folder."""
    path = tmp_path / "a.json"
    with atomic_write(path) as temporary:
        temporary.write_text("new")
        assert not path.exists()
        assert (temporary.parent, temporary.suffix) == (tmp_path, ".json")
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_a_failure_leaves_the_older_file(tmp_path: Path) -> None:
    """And nothing beside it, whether anything was written before the failure or not."""
    path = tmp_path / "a.json"
    path.write_text("old")

    def fail(text: str | None) -> None:
        with atomic_write(path) as temporary:
            if text is not None:
                temporary.write_text(text)
            raise RuntimeError("disk full")

    for text in (None, "half"):
        with pytest.raises(RuntimeError, match="disk full"):
            fail(text)
        assert path.read_text() == "old"
        assert list(tmp_path.iterdir()) == [path]


def test_two_writers_do_not_share_a_temporary_file(tmp_path: Path) -> None:
    """The later one wins, whole."""
    path = tmp_path / "a.txt"
    with atomic_write(path) as first:
        first.write_text("first")
        with atomic_write(path) as second:
            second.write_text("second")
        assert path.read_text() == "second"
    assert path.read_text() == "first"


def test_the_checksum_is_that_of_the_bytes(tmp_path: Path) -> None:
    """As `sha256sum` prints it."""
    (tmp_path / "a").write_bytes(b"abc" * 100_000)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_a_folder_is_hashed_by_its_files(tmp_path: Path) -> None:
    """Contents and names count, the folder's own name does not; sizes add up."""
    for name, text in (("a", "one"), ("b", "two")):
        (tmp_path / "first").mkdir(exist_ok=True)
        (tmp_path / "first" / name).write_text(text)
    (tmp_path / "first").rename(tmp_path / "moved")
    before = sha256_of(tmp_path / "moved")
    assert size_of(tmp_path / "moved") == 6
    (tmp_path / "moved" / "b").rename(tmp_path / "moved" / "c")
    assert sha256_of(tmp_path / "moved") != before
    (tmp_path / "moved" / "c").rename(tmp_path / "moved" / "b")
    assert sha256_of(tmp_path / "moved") == before
    (tmp_path / "moved" / "a").write_text("two")
    assert sha256_of(tmp_path / "moved") != before
