"""Transcripts: what each format holds, and that words survive a file."""

import json
from pathlib import Path

import pytest

from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.formats.subtitles import read_srt, read_vtt
from wavlm_meeting.formats.transcripts import (
    CUE_CHARACTERS,
    CUE_S,
    TRANSCRIPTS,
    Transcript,
    segment_of,
    text_of,
    transcript_format,
)
from wavlm_meeting.formats.words import Word, read_words

TRANSCRIPT = Transcript(
    uri="my call",
    segments=(
        segment_of("Ann Lee", [Word(0.5, 0.9, "Hello"), Word(0.9, 1.1, "there", spaced=True)]),
        segment_of("Bob", [Word(1.0, 1.25, "<you>"), Word(1.25, 1.5, "'re", spaced=False)]),
    ),
)

WRITTEN = {
    "text": "Ann Lee: Hello there\nBob: <you>'re\n",
    "srt": (
        "1\n00:00:00,500 --> 00:00:01,100\nAnn Lee: Hello there\n\n"
        "2\n00:00:01,000 --> 00:00:01,500\nBob: <you>'re\n\n"
    ),
    "vtt": (
        "WEBVTT\n\n00:00:00.500 --> 00:00:01.100\n<v Ann Lee>Hello there\n\n"
        "00:00:01.000 --> 00:00:01.500\n<v Bob>&lt;you&gt;'re\n\n"
    ),
    "stm": "my_call 1 Ann_Lee 0.500 1.100 Hello there\nmy_call 1 Bob 1.000 1.500 <you>'re\n",
}


@pytest.mark.parametrize("name", WRITTEN)
def test_files_are_laid_out_as_their_formats_want(name: str, tmp_path: Path) -> None:
    """Text, SubRip, WebVTT with its escapes, and STM with its fields."""
    path = tmp_path / "a"
    TRANSCRIPTS[name].write(TRANSCRIPT, path)
    assert path.read_text() == WRITTEN[name]


def test_seglst_has_the_keys_of_the_published_examples(tmp_path: Path, shared_dir: Path) -> None:
    """The same keys as meeteval's own file, with times as numbers."""
    TRANSCRIPTS["seglst"].write(TRANSCRIPT, tmp_path / "a.seglst.json")
    found = json.loads((tmp_path / "a.seglst.json").read_text())
    example = shared_dir / "corpus/scoring/meeteval_examples/ref.seglst.json"
    assert {*found[0]} == {*json.loads(example.read_text())[0]}
    assert found[1] == {
        "session_id": "my call",
        "speaker": "Bob",
        "start_time": 1.0,
        "end_time": 1.5,
        "words": "<you>'re",
    }


def test_stm_is_that_of_the_published_examples(tmp_path: Path, shared_dir: Path) -> None:
    """Meeteval's example is written again field by field from its segments."""
    lines = (shared_dir / "corpus/scoring/meeteval_examples/hyp.stm").read_text().splitlines()
    fields = [line.split(maxsplit=5) for line in lines if line.startswith("recordingA")]
    segments = []
    for _, _, speaker, start, end, text in fields:
        words = [Word(float(start), float(end), word) for word in text.split()]
        segments.append(segment_of(speaker, words))
    TRANSCRIPTS["stm"].write(Transcript(uri="recordingA", segments=tuple(segments)), tmp_path / "a")
    found = [line.split(maxsplit=5) for line in (tmp_path / "a").read_text().splitlines()]
    assert [[*row[:3], float(row[3]), float(row[4]), row[5]] for row in found] == [
        [*row[:3], float(row[3]), float(row[4]), row[5]] for row in fields
    ]


def test_our_json_is_read_as_words_again(tmp_path: Path) -> None:
    """Every word with its times and its space: what was said can be joined with other turns."""
    TRANSCRIPTS["json"].write(TRANSCRIPT, tmp_path / "a.json")
    assert read_words(tmp_path / "a.json")["a"] == (
        Word(0.5, 0.9, "Hello"),
        Word(0.9, 1.1, "there"),
        Word(1.0, 1.25, "<you>"),
        Word(1.25, 1.5, "'re", spaced=False),
    )
    text = (tmp_path / "a.json").read_text()
    assert Transcript.model_validate_json(text) == TRANSCRIPT


@pytest.mark.parametrize(("name", "read"), [("srt", read_srt), ("vtt", read_vtt)])
def test_long_segments_become_subtitles_that_can_be_read(
    name: str, read: object, tmp_path: Path
) -> None:
    """None is longer than two lines or 7 s, and no word is lost; a longer word has one alone."""
    words = [Word(0.3 * n, 0.3 * n + 0.2, f"word{n}") for n in range(200)]
    words += [Word(100 + 3.0 * n, 102 + 3.0 * n, f"slow{n}") for n in range(9)]
    words += [Word(200, 200, "x" * 100), Word(200, 200, "z")]
    path = tmp_path / "a"
    TRANSCRIPTS[name].write(Transcript(uri="a", segments=(segment_of("Ann", words),)), path)
    cues = read(path)  # type: ignore[operator]
    assert " ".join(cue.text for cue in cues).split() == [word.text for word in words]
    assert all(cue.end > cue.start for cue in cues)
    long = [cue for cue in cues if len(cue.text) > CUE_CHARACTERS or cue.end - cue.start > CUE_S]
    assert [cue.text for cue in long] == ["x" * 100]
    assert len(cues) < 40


def test_scripts_without_spaces_get_none() -> None:
    """Chinese and Japanese are joined, Korean and Latin words are not."""
    for words, text in (
        (["你", "好", "。", "OK", "吗"], "你好。 OK 吗"),
        (["こん", "にちは"], "こんにちは"),
        (["안녕", "하세요"], "안녕 하세요"),
        (["so", "what"], "so what"),
    ):
        assert text_of([Word(0, 1, word) for word in words]) == text


def test_names_that_a_format_cannot_hold_are_refused(tmp_path: Path) -> None:
    """A colon ends a name in SubRip, and STM has no spaces: nobody becomes somebody else."""
    colon = Transcript(uri="a", segments=(segment_of("Dr: Ann", [Word(0, 1, "so")]),))
    with pytest.raises(FormatError, match="a colon ends the name in SubRip; rename"):
        TRANSCRIPTS["srt"].write(colon, tmp_path / "a.srt")
    names = ("Ann Lee", "Ann_Lee")
    two = Transcript(uri="a", segments=tuple(segment_of(n, [Word(0, 1, "so")]) for n in names))
    with pytest.raises(FormatError, match="one name but for spaces"):
        TRANSCRIPTS["stm"].write(two, tmp_path / "a.stm")
    assert list(tmp_path.iterdir()) == []


def test_formats_are_told_by_name_and_ending() -> None:
    """SegLST before JSON, whose ending it has too; what there is not is refused."""
    assert transcript_format(Path("a.SegLST.json")) is TRANSCRIPTS["seglst"]
    assert transcript_format(Path("a.json")) is TRANSCRIPTS["json"]
    assert transcript_format(Path("a.json"), "STM") is TRANSCRIPTS["stm"]
    with pytest.raises(SettingsError, match="unknown format 'seglest': did you mean 'seglst'"):
        transcript_format(Path("a"), "seglest")
    with pytest.raises(FormatError, match=r"a\.docx: no format of transcripts ends in '\.docx'"):
        transcript_format(Path("a.docx"))
