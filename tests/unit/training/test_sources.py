"""Files are found in the order of `sorted`, without a list of them all."""

from pathlib import Path

import pytest

from wavlm_meeting.errors import AudioError

pytest.importorskip("lhotse", reason="sources need the extra 'train'")

from wavlm_meeting.training.sources import files_below

NAMES = ["b/c.wav", "b.wav", "b-a/x.wav", "a/z/y.flac", "a/z.FLAC", "a/é.wav", "c", "a/n.txt"]


def test_files_come_in_the_order_of_sorted(tmp_path: Path) -> None:
    """As `sorted` puts all paths; other endings and hidden files are left alone."""
    for name in [*NAMES, ".hidden.wav", "a/._y.flac"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = list(files_below(tmp_path, {".wav", ".flac"}))
    assert found == sorted(tmp_path / name for name in NAMES if "." in name and ".txt" not in name)


def test_a_linked_folder_is_entered(tmp_path: Path) -> None:
    """Corpora lie on many disks."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.wav").touch()
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "link").symlink_to(tmp_path / "disk")
    assert list(files_below(tmp_path / "in", {".wav"})) == [tmp_path / "in/link/a.wav"]


def test_folders_are_read_one_by_one(tmp_path: Path) -> None:
    """The first files come before a later folder is looked at."""
    for name in ("a/1.wav", "b/2.wav"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = files_below(tmp_path, {".wav"})
    assert next(found) == tmp_path / "a/1.wav"
    (tmp_path / "b/3.wav").touch()
    assert [path.name for path in found] == ["2.wav", "3.wav"]


def test_nothing_there_is_said_at_once(tmp_path: Path) -> None:
    """Before the first file is asked for."""
    with pytest.raises(AudioError, match="no audio or video"):
        files_below(tmp_path, {".wav"})
    with pytest.raises(AudioError, match="no such folder"):
        files_below(tmp_path / "nowhere", {".wav"})
