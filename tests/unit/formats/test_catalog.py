"""Every format of turns: what is written is read back, and what is not the format is refused."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.formats import FORMATS, DiarizationDocument, read_turns
from wavlm_meeting.formats.catalog import format_named, format_of
from wavlm_meeting.formats.document import (
    SpeakerTurn,
    document_of_turns,
    overlaps_of,
    with_overlap,
)

Row = tuple[int, int, str]


def rows(document: DiarizationDocument) -> list[Row]:
    """List a document's turns in milliseconds."""
    return [(round(1000 * t.start), round(1000 * t.end), t.speaker) for t in document.turns]


def drawn(random: np.random.Generator, names: list[str]) -> list[SpeakerTurn]:
    """Draw turns that overlap, touch and repeat, of one speaker too."""
    turns = []
    for _ in range(random.integers(1, 40)):
        start = float(random.uniform(0, 20_000))
        end = start + float(random.uniform(0.001, 30))
        turns += [SpeakerTurn(start=start, end=end, speaker=str(random.choice(names)))]
        turns += [SpeakerTurn(start=end, end=end + 1, speaker=str(random.choice(names)))]
    return [*turns, turns[0]]


@pytest.mark.parametrize("name", FORMATS)
def test_round_trips_are_exact_to_the_millisecond(name: str, tmp_path: Path) -> None:
    """Any turns come back with both ends, their speakers and their overlap, in their order."""
    random = np.random.default_rng(2)
    path = tmp_path / f"call{FORMATS[name].suffix}"
    for _ in range(6):
        turns = drawn(random, ["ann", "Bob_2", "SPEAKER_00", "Zoë"])
        document = document_of_turns("call", with_overlap(turns))
        FORMATS[name].write(document, path)
        [(uri, found)] = read_turns(path).items()
        assert (uri, rows(found)) == ("call", rows(document))
        assert found.overlaps == document.overlaps
        assert found.speakers == document.speakers
        shares = [[turn.overlap for turn in each.turns] for each in (found, document)]
        assert np.allclose(*shares, atol=0.002)  # counted before and after turns are rounded


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "speaker", ["Dr. Ann Lee", '"Bob" <b@x.org> & co', "1:2", "ann:", "=1+1", "-->", "!x", "O'Neil"]
)
def test_names_come_back(name: str, speaker: str, tmp_path: Path) -> None:
    """Quotes, brackets, colons and commas in names break no format; RTTM writes `_` for spaces."""
    turns = [SpeakerTurn(start=1, end=2, speaker=speaker), SpeakerTurn(start=2, end=3, speaker="x")]
    path = tmp_path / f"call{FORMATS[name].suffix}"
    FORMATS[name].write(document_of_turns("call", turns), path)
    wanted = speaker.replace(" ", "_") if name == "rttm" else speaker
    assert rows(read_turns(path)["call"]) == [(1000, 2000, wanted), (2000, 3000, "x")]


@pytest.mark.parametrize("name", FORMATS)
def test_silence_is_a_result(name: str, tmp_path: Path) -> None:
    """Nobody speaks: a file is written, and reads back as no turns of this recording."""
    path = tmp_path / f"silence{FORMATS[name].suffix}"
    FORMATS[name].write(document_of_turns("silence", [], 5.0), path)
    [(uri, found)] = read_turns(path).items()
    assert (uri, found.turns, found.speakers) == ("silence", (), ())


@pytest.mark.parametrize("name", set(FORMATS) - {"json", "csv"})
def test_names_that_would_fall_together_are_refused(name: str, tmp_path: Path) -> None:
    """Two speakers never become one without a word; no file is left."""
    turns = [SpeakerTurn(start=0, end=1, speaker=who) for who in ("Ann Lee", "Ann  Lee")]
    with pytest.raises(FormatError, match="one name but for spaces; rename one"):
        FORMATS[name].write(document_of_turns("call", turns), tmp_path / f"a{FORMATS[name].suffix}")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", FORMATS)
def test_references_of_the_field_survive(name: str, tmp_path: Path, shared_dir: Path) -> None:
    """A reference of AMI, in each format and back."""
    folder = shared_dir / "corpus/scoring/ami_test_only_words"
    [document] = read_turns(folder / "ES2004c.rttm").values()
    assert len(document.turns) > 300
    path = tmp_path / f"ES2004c{FORMATS[name].suffix}"
    FORMATS[name].write(document, path)
    assert rows(read_turns(path)["ES2004c"]) == rows(document)


def test_overlap_is_counted_as_on_a_ruler() -> None:
    """Overlaps and shares are what counting every millisecond gives."""
    random = np.random.default_rng(3)
    for _ in range(20):
        turns = []
        for _ in range(12):
            start = int(random.integers(0, 900))
            end = start + int(random.integers(1, 120))
            speaker = str(random.integers(0, 3))
            turns.append(SpeakerTurn(start=start / 1000, end=end / 1000, speaker=speaker))
        speaking = np.zeros((3, 1100), bool)
        for turn in turns:
            speaking[int(turn.speaker), round(turn.start * 1000) : round(turn.end * 1000)] = True
        several = speaking.sum(axis=0) > 1
        ruler = np.zeros(1100, bool)
        for start_s, end_s in overlaps_of(turns):
            ruler[round(start_s * 1000) : round(end_s * 1000)] = True
        assert np.array_equal(ruler, several)
        assert all(first[1] <= second[0] for first, second in pairwise(overlaps_of(turns)))
        for turn in with_overlap(turns):
            part = several[round(turn.start * 1000) : round(turn.end * 1000)]
            assert turn.overlap == pytest.approx(part.mean(), abs=6e-4)


def test_formats_are_found_by_name_and_ending() -> None:
    """In any case; what there is not is refused with the nearest, or with all there are."""
    assert format_of("x/call.TEXTGRID") is FORMATS["textgrid"]
    assert format_named("SRT") is FORMATS["srt"]
    with pytest.raises(SettingsError, match="--to: unknown format 'txtgrid': did you mean 'textg"):
        format_named("txtgrid")
    with pytest.raises(SettingsError, match=r"choose from rttm, json, csv, srt, vtt"):
        format_named("elan")
    with pytest.raises(FormatError, match=r"call\.eaf: no format of turns ends in '\.eaf'; known"):
        format_of("call.eaf")


FAULTY = {
    "a.csv": {
        "start;end;speaker": (1, "separated by semicolons"),
        "start,end\n1,2": (1, "no column 'speaker'; name the columns recording,start,end"),
        "start,end,speaker,mood": (1, "unknown column 'mood'; known are recording, start"),
        "start,end,speaker,end": (1, "twice the column 'end'"),
        "start,end,speaker\n1,2,ann\n1,2": (3, "2 fields; the first line names 3"),
        "start,end,speaker\n\n1,x,ann": (3, "end 'x' is not a number"),
        "start,end,speaker\n1,nan,ann": (2, "end is nan"),
        "start,end,speaker\n-1,2,ann": (2, "start is -1; it must be 0 or more"),
        "start,end,speaker\n3,2,ann": (2, "the end, 2, lies before the start, 3"),
        "start,end,speaker\n1,2, ": (2, "no speaker; give a name"),
        "start,end,speaker,confidence\n1,2,a,1.5": (2, "confidence '1.5' is not a number from 0"),
        'start,end,speaker\n1,2,"ann': (2, "not CSV"),
        "": (1, "no column 'start'"),
    },
    "a.txt": {
        "1 2 ann": (1, "not a label; write '<start> <end> <speaker>' with tabs"),
        "1\t2\tann\n\n1\t2\t ": (3, "not a label"),
        "1\tx\tann": (1, "end 'x' is not a number"),
        "2\t1\tann": (1, "the end, 1, lies before the start, 2"),
        "-2\t1\tann": (1, "start is -2"),
    },
    "a.srt": {
        "Ann: hello": (1, "'Ann: hello' is no subtitle's number; is this SRT?"),
        "1": (1, "no times; write '00:00:01,000 --> 00:00:02,000'"),
        "1\n00:00:01.000 --> 00:00:02.000\nAnn:": (2, "are no times; write"),
        "1\n00:00:01,000 --> 00:00:62,000\nAnn:": (2, "are no times; write"),
        "\n1\n00:00:03,000 --> 00:00:02,000\nAnn:": (3, "the end, 2 s, lies before the start, 3 s"),
        "1\n00:00:01,000 --> 00:00:02,000\nhello": (3, "nobody is named; begin each subtitle"),
        "1\n00:00:01,000 --> 00:00:02,000\n: hello": (3, "nobody is named"),
        "1\n00:00:01,000 --> 00:00:02,000": (2, "nobody is named"),
    },
    "a.vtt": {
        "": (1, "begins with 'WEBVTT'"),
        "\nWEBVTT": (1, "begins with 'WEBVTT'"),
        "WEBVTT\n\nname": (3, "no times; write '00:01.000 --> 00:02.000'"),
        "WEBVTT\n\n00:01,000 --> 00:02,000\n<v Ann>": (3, "are no times"),
        "WEBVTT\n\na\n00:03.000 --> 00:02.000\n<v Ann>": (4, "the end, 2 s, lies before"),
        "WEBVTT\n\n00:01.000 --> 00:02.000\nhello": (4, "nobody is named; begin each cue with"),
        "WEBVTT\n\n00:01.000 --> 00:02.000\nso <v Ann>hello": (4, "nobody is named"),
        "WEBVTT\n\n00:01.000 --> 00:02.000\n<v  >hello": (4, "nobody is named"),
    },
    "a.TextGrid": {
        "": (1, "the file ends where the file's type in quotation marks should stand"),
        '"ooTextFile"\n"Pitch 1"': (2, "this is no TextGrid"),
        '"ooTextFile"\n"TextGrid"\n0 2 <exists>\n1': (4, "the file ends where a tier's class"),
        '"ooTextFile" "TextGrid" 0 2\n"x"': (2, "'\"x\"' stands where <exists> or <absent> should"),
        '"ooTextFile" "TextGrid" 0 2 <exists>\n1.5': (
            2,
            "the number of tiers is 1.5; it must be a",
        ),
        '"ooTextFile" "TextGrid" 0 2 <exists> 1\n"Tier"': (2, "'Tier' is no class of tiers"),
        '"ooTextFile" "TextGrid" 0 2 <exists> 1 "IntervalTier" "a" 0 2 1\n2\n1 "a"': (
            3,
            "the end, 1, lies before the start, 2",
        ),
        '"ooTextFile" "TextGrid" 0 2 <exists> 1 "IntervalTier" "a" 0 2 1\n-2\n1 "a"': (
            2,
            "xmin is -2",
        ),
        '"ooTextFile" "TextGrid" 0 2 <exists> 1 "IntervalTier" "" 0 2 1 0 1\n"a"': (
            2,
            "the tier of this interval has no name",
        ),
    },
}


@pytest.mark.parametrize(
    ("name", "text", "line", "says"),
    [(name, text, *found) for name, texts in FAULTY.items() for text, found in texts.items()],
)
def test_a_fault_is_named(name: str, text: str, line: int, says: str, tmp_path: Path) -> None:
    """The message has the file, the line's number and what is wrong with it, in one line."""
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(FormatError) as caught:
        read_turns(path)
    assert str(caught.value).startswith(f"{path}:{line}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_no_text_is_named(name: str, tmp_path: Path) -> None:
    """Missing files, folders and recordings under a wrong name are told apart."""
    suffix = FORMATS[name].suffix
    (tmp_path / f"folder{suffix}").mkdir()
    (tmp_path / f"audio{suffix}").write_bytes(b"RIFF\xff\x80\x00WAVE" * 9)
    for stem, says in (("none", "no such file"), ("folder", "a folder"), ("audio", "not a text")):
        with pytest.raises(FormatError, match=says):
            read_turns(tmp_path / f"{stem}{suffix}")
