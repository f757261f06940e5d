"""Words with times: every recogniser's layout gives the same words, and faults are named."""

import json
from pathlib import Path
from typing import Any

import pytest

from wavlm_meeting.errors import FormatError
from wavlm_meeting.formats.words import Word, read_words

HELLO = {"word": "hello", "start": 0.5, "end": 0.9}
YOU = {"word": "you", "start": 1, "end": 1.25}

LAYOUTS: dict[str, Any] = {
    "our own": {"words": [HELLO, YOU]},
    "a list": [HELLO, YOU],
    "whisper": {
        "text": " hello you",
        "segments": [
            {"id": 0, "start": 0.5, "end": 0.9, "text": " hello", "words": [HELLO | {"p": 1.0}]},
            {"id": 1, "start": 1, "end": 1.3, "text": " you", "words": [YOU | {"word": " you"}]},
        ],
    }
    | {"language": "en"},
    "whisperx": {"segments": [{"words": [HELLO, YOU], "text": "a b"}], "word_segments": [HELLO]},
    "openai": {
        "task": "transcribe",
        "duration": 2.0,
        "words": [HELLO, YOU],
        "segments": [{"id": 0, "start": 0.0, "end": 2.0, "text": " hello you"}],
    },
    "transformers": {
        "text": " hello you",
        "chunks": [
            {"text": " hello", "timestamp": [0.5, 0.9]},
            {"text": " you", "timestamp": [1, 1.25]},
        ],
    },
    "nemo": {
        "text": "hello you",
        "timestamp": {
            "timestep": [6, 12],
            "char": [{"char": ["h"], "start_offset": 6, "start": 0.48, "end": 0.56}],
            "word": [HELLO | {"start_offset": 6, "end_offset": 11}, YOU],
        },
    },
    "nemo, diarized": {
        "words": [
            {"word": "hello", "start_time": "0.5", "end_time": "0.9", "speaker": "speaker_0"},
            {"word": "you", "start_time": "1.0", "end_time": "1.25", "speaker": "speaker_1"},
        ]
    },
    "vosk": [
        {"result": [HELLO | {"conf": 1.0}], "text": "hello"},
        {"result": [YOU], "text": "you"},
        {"text": ""},
    ],
    "deepgram": {
        "metadata": {"channels": 1},
        "results": {
            "channels": [
                {
                    "alternatives": [
                        {
                            "transcript": "hello you",
                            "words": [HELLO, YOU],
                        }
                    ]
                }
            ]
        },
    },
    "google": {
        "results": [
            {
                "alternatives": [
                    {
                        "words": [
                            {"startTime": "0.500s", "endTime": "0.900s", "word": "hello"},
                            {"startTime": "1s", "endTime": "1.250s", "word": "you"},
                        ]
                    },
                    {"words": [{"startTime": "0.500s", "endTime": "0.900s", "word": "yellow"}]},
                ]
            }
        ]
    },
    "amazon": {
        "results": {
            "transcripts": [{"transcript": "hello you"}],
            "items": [
                {
                    "type": "pronunciation",
                    "alternatives": [{"confidence": "0.9", "content": "hello"}],
                    "start_time": "0.5",
                    "end_time": "0.9",
                },
                {
                    "type": "pronunciation",
                    "alternatives": [{"confidence": "0.9", "content": "you"}, {"content": "u"}],
                    "start_time": "1.0",
                    "end_time": "1.25",
                },
            ],
        }
    },
}


def write(path: Path, content: Any) -> Path:
    """Write JSON."""
    path.write_text(json.dumps(content))
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_are_told_by_their_keys(layout: str, tmp_path: Path) -> None:
    """The same two words come out of each."""
    [(uri, words)] = read_words(write(tmp_path / "call.json", LAYOUTS[layout])).items()
    assert uri == "call"
    assert [(word.start, word.end, word.text) for word in words] == [
        (0.5, 0.9, "hello"),
        (1.0, 1.25, "you"),
    ]


def test_ctm_has_several_recordings_and_channels(tmp_path: Path, shared_dir: Path) -> None:
    """Kaldi's and meeteval's: durations become ends, words come by start, confidences pass."""
    path = tmp_path / "a.ctm"
    path.write_text(";; x\nb A 1.0 0.25 you 0.98\nb B 0.5 0.4 hello\n\na 1 3 0 oh\n")
    assert read_words(path) == {
        "b": (Word(0.5, 0.9, "hello", channel="B"), Word(1.0, 1.25, "you", channel="A")),
        "a": (Word(3.0, 3.0, "oh", channel="1"),),
    }
    folder = shared_dir / "corpus/scoring/meeteval_examples"
    words = read_words(folder / "hyp1.ctm")
    assert [word.text for word in words["recordingA"]][:5] == ["Effort", "made", "was", "a", "lot"]


def test_channels_are_kept_apart(tmp_path: Path) -> None:
    """Words of Deepgram's channels say which of them they are of."""
    channels = [{"alternatives": [{"words": [word]}]} for word in (YOU, HELLO)]
    [words] = read_words(write(tmp_path / "a.json", {"results": {"channels": channels}})).values()
    assert [(word.text, word.channel) for word in words] == [("hello", "1"), ("you", "0")]


def test_words_without_times_lie_between_their_neighbours(tmp_path: Path) -> None:
    """As WhisperX leaves numbers: they share the gap; at an end they take the neighbour's."""
    words = [{"word": word} for word in ("In", "20", "24", "so")]
    content = [words[0], HELLO, words[1], words[2], YOU | {"start": 1.1}, words[3]]
    [found] = read_words(write(tmp_path / "a.json", content)).values()
    assert [(word.text, word.start, word.end) for word in found] == [
        ("In", 0.5, 0.5),
        ("hello", 0.5, 0.9),
        ("20", 0.9, 1.0),
        ("24", 1.0, 1.1),
        ("you", 1.1, 1.25),
        ("so", 1.25, 1.25),
    ]


def test_marks_join_the_word_before(tmp_path: Path) -> None:
    """As Amazon and ElevenLabs write them: marks, and spaces that are no words."""
    content = {"words": [HELLO, {"word": ","}, {"word": " "}, YOU, {"word": "?"}]}
    [found] = read_words(write(tmp_path / "a.json", content)).values()
    assert [(word.text, word.spaced) for word in found] == [("hello,", True), ("you?", True)]


def test_a_last_word_may_have_no_end(tmp_path: Path) -> None:
    """As transformers leaves what is cut off."""
    chunks = [{"text": " hello", "timestamp": [0.5, None]}]
    [found] = read_words(write(tmp_path / "a.json", {"chunks": chunks})).values()
    assert found == (Word(0.5, 0.5, "hello"),)


def test_spaces_in_words_tell_what_belongs_together(tmp_path: Path) -> None:
    """Where some begin with a space, as whisper's, others continue the word before."""
    content = [YOU | {"word": " you"}, YOU | {"word": "'re"}]
    [found] = read_words(write(tmp_path / "a.json", content)).values()
    assert [(word.text, word.spaced) for word in found] == [("you", True), ("'re", False)]


FAULTY: dict[str, tuple[Any, str]] = {
    "no times": ([{"word": "hello"}], "no words with times; run the recogniser with times of"),
    "nothing": ({}, "no words with times"),
    "other": ({"turns": [{"start": 1, "end": 2}]}, 'or write {"words": [{"word": "hello"'),
    "sentences": (
        {"segments": [{"start": 0, "end": 4, "text": " hello you"}]},
        "times of sentences, not of words; run the recogniser with times of words",
    ),
    "backwards": ([HELLO, YOU | {"end": 0.5}], "[1]: 'you' ends at 0.5 s, before its start, 1 s"),
    "negative": ({"words": [HELLO | {"start": -1}]}, "words[0]: start is -1; it must be 0 or more"),
    "not a number": ([HELLO | {"end": float("nan")}], "[0]: end is nan"),
    "infinite": ([HELLO | {"end": float("inf")}], "[0]: end is inf"),
    "text": ([HELLO | {"start": "soon"}], "start 'soon' is not a number"),
    "milliseconds": (
        [{"text": "hello", "start": 28160, "end": 28640}],
        "words of more than 10 s; give times in seconds",
    ),
}


@pytest.mark.parametrize("fault", FAULTY)
def test_a_fault_is_named(fault: str, tmp_path: Path) -> None:
    """The message has the file, the entry and a cure."""
    content, says = FAULTY[fault]
    path = write(tmp_path / "a.json", content)
    with pytest.raises(FormatError) as caught:
        read_words(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"words": [', "a: not valid JSON"),
        ("[" * 100_000, "a: not valid JSON"),
        ("[" * 700 + "]" * 700, "a: no"),
        ("SPEAKER call 1 1.5 2.25 <NA> <NA> ann <NA> <NA>", "a:1: 10 fields; give JSON, or CTM"),
        ("call 1 0.5 0.4 hello\ncall 1 -0.5 0.4 hello", "a:2: start is -0.5"),
        ("call 1 0.5 x hello", "a:1: duration 'x' is not a number"),
        ("", "a: no words; run the recogniser"),
    ],
)
def test_what_is_neither_json_nor_ctm_is_named(text: str, says: str, tmp_path: Path) -> None:
    """With the line, and what to give instead."""
    (tmp_path / "a").write_text(text)
    with pytest.raises(FormatError) as caught:
        read_words(tmp_path / "a")
    assert says in str(caught.value)
