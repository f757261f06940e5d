"""What is kept of a recording until its result is written."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from wavlm_meeting.cli.results import Results, parse_formats
from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.formats import DiarizationDocument
from wavlm_meeting.formats.document import document_of_turns


@pytest.fixture
def document() -> DiarizationDocument:
    """Give a result in which nobody speaks."""
    return document_of_turns("talk", [])


def test_rttm_is_always_written(tmp_path: Path, document: DiarizationDocument) -> None:
    """Whoever asks for more keeps the standard format; each format has its own suffix."""
    results = Results(tmp_path, parse_formats(" CSV, textgrid,csv"), resume=False)
    results.write(document, "folder/talk.mp3")
    assert {path.name for path in tmp_path.iterdir()} == {"talk.rttm", "talk.csv", "talk.TextGrid"}


@pytest.mark.parametrize("wanted", ["rtm", "rttm,", ""])
def test_unknown_formats_are_refused(wanted: str) -> None:
    """A misspelt or empty name is told with its cure."""
    with pytest.raises(SettingsError, match="--format: unknown format"):
        parse_formats(wanted)


def test_results_are_there_if_all_are_and_new(
    tmp_path: Path, document: DiarizationDocument
) -> None:
    """A missing file or one older than the recording means that it is to be done again."""
    recording = tmp_path / "talk.wav"
    recording.touch()
    results = Results(tmp_path, parse_formats("csv"), resume=True)
    assert not results.are_there(str(recording))
    results.write(document, str(recording))
    assert results.are_there(str(recording))
    os.utime(tmp_path / "talk.rttm", (1, 1))
    assert not results.are_there(str(recording))
    results.write(document, str(recording))
    (tmp_path / "talk.csv").unlink()
    assert not results.are_there(str(recording))


@pytest.mark.parametrize(
    ("error", "stays"), [(AudioError("bad"), False), (OSError(28, "full"), True), (None, False)]
)
def test_a_journal_outlives_what_is_not_its_fault(
    error: Exception | None, stays: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It goes with the result or a recording that is no good, and stays on a full disk."""
    results = Results(tmp_path, ["rttm"], resume=False)
    with suppress(AudioError, OSError), results.journal("talk.wav") as place:
        place.touch()
        if error is not None:
            raise error
    assert place == tmp_path / ".talk.journal"
    assert place.exists() == stays
    assert ("--resume" in capsys.readouterr().err) == stays


@pytest.mark.parametrize("resume", [True, False])
def test_only_resume_takes_a_journal_up(resume: bool, tmp_path: Path) -> None:
    """Without --resume everything is heard anew."""
    (tmp_path / ".talk.journal").write_bytes(b"old")
    with Results(tmp_path, ["rttm"], resume).journal("talk.wav") as place:
        assert place.exists() == resume
