"""Word error rates of the recipe for LibriCSS: recognisers, counts, and sessions as a whole."""

import json
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from pyannote.core import Annotation
from pyannote.core import Segment as Turn

from wavlm_meeting.errors import CheckpointError, SettingsError

pytest.importorskip("lhotse", reason="recipes need the extra 'train'")
pytest.importorskip("meeteval", reason="word error rates need the extra 'train'")

from lhotse import CutSet, Recording, SupervisionSegment

from wavlm_meeting.recipes.libricss.evaluation import (
    LONGEST_S,
    Transcriber,
    Words,
    evaluate_words,
    stretches_of,
)
from wavlm_meeting.recipes.libricss.recognisers import open_recogniser
from wavlm_meeting.recipes.libricss.tracks import CONTINUOUS, UTTERANCES, folder_of, track_files
from wavlm_meeting.recipes.libricss.word_errors import (
    Segment,
    WordErrors,
    cp_errors,
    normalise,
    orc_errors,
    utterance_errors,
)

RATE = 16_000
WORDS = {300: "ONE TWO THREE", 900: "FOUR FIVE", 2000: "SIX SEVEN EIGHT NINE"}
"""What a hum of so many hertz says; the oracle below knows it."""

ORACLE = f"""
import sys
import numpy, soundfile
samples, rate = soundfile.read(sys.argv[1])
power = numpy.abs(numpy.fft.rfft(samples)) ** 2
frequency = numpy.fft.rfftfreq(len(samples), 1 / rate)
for hum, words in {WORDS}.items():
    if power[abs(frequency - hum) < 30].sum() > 0.02 * power.sum():
        print(words.lower())
"""
"""Writes down every hum that it hears."""

Samples = NDArray[np.float32]


def hum(hertz: int, start: float, end: float, length_s: float = 12.0) -> Samples:
    """Give a hum between two times, and silence around it."""
    time_s = np.arange(round(length_s * RATE)) / RATE
    within = (time_s >= start) & (time_s < end)
    return (0.3 * np.sin(2 * np.pi * hertz * time_s) * within).astype(np.float32)


@pytest.fixture
def oracle(tmp_path: Path) -> str:
    """Give the name of a recogniser that is a program."""
    path = tmp_path / "oracle.py"
    path.write_text(ORACLE)
    return f"command: {sys.executable} '{path}'"


def test_text_is_compared_as_words() -> None:
    """Case, punctuation and the forms of apostrophes do not count; apostrophes in words do."""
    text = " “Don\u2019t--STOP!” she said,\n'twas  fun_ny. "
    assert normalise(text) == "don't stop she said twas fun ny"


def test_counts_by_hand() -> None:
    """A substitution, a deletion and an insertion are one each, of the words of the reference."""
    found = utterance_errors("a b c d", ["a x c d e"])
    assert found == WordErrors(4, insertions=1, deletions=0, substitutions=1)
    assert found + utterance_errors("a b", [""]) == WordErrors(6, 1, 2, 1)
    assert (found + utterance_errors("a b", [""])).rate == 4 / 6


def test_the_better_track_counts() -> None:
    """Of the tracks of an utterance, the one with the fewest errors counts."""
    assert utterance_errors("one two", ["", "ONE, two!", "one"]).rate == 0
    assert utterance_errors("one two", ["three four five", "one"]).errors == 1


REFERENCE = [
    Segment(0, 2, "anna", "a b c"),
    Segment(1, 3, "ben", "d e"),
    Segment(4, 5, "anna", "f g"),
]


def test_cp_and_orc_by_hand() -> None:
    """Words of anna on two tracks: no error for ORC-WER, all of a track's words for cpWER."""
    tracks = [
        Segment(0, 2, "1", "a b c"),
        Segment(1, 3, "2", "d e"),
        Segment(4, 5, "2", "f g"),
    ]
    assert orc_errors(REFERENCE, tracks).errors == 0
    # anna has track 1 and lacks `f g`; ben has track 2, where they are too many.
    assert cp_errors(REFERENCE, tracks) == WordErrors(7, insertions=2, deletions=2, substitutions=0)
    by_speaker = [each._replace(voice=f"speaker {each.voice}") for each in REFERENCE]
    assert cp_errors(REFERENCE, by_speaker).errors == 0


def test_order_of_segments_is_that_of_time() -> None:
    """Segments may be given in any order: words are put together as they were said."""
    assert cp_errors(REFERENCE, REFERENCE[::-1]).errors == 0
    assert orc_errors(REFERENCE[::-1], REFERENCE).errors == 0


@pytest.mark.parametrize("count", [cp_errors, orc_errors])
def test_nothing_found_is_all_deleted(count: type) -> None:
    """Where nothing was recognised, every word is missing."""
    silent = [Segment(0, 1, "1", " ")]
    for hypothesis in ([], silent):
        assert count(REFERENCE, hypothesis) == WordErrors(7, 0, 7, 0)


def test_command_recogniser(oracle: str, tmp_path: Path) -> None:
    """A program hears the samples as they are, and its words are put on one line."""
    recogniser = open_recogniser(oracle)
    assert recogniser(hum(300, 0, 2) + hum(900, 0, 2)) == "one two three four five"
    seen = tmp_path / "seen.wav"
    samples = np.linspace(-2, 2, 4000, dtype=np.float32)
    open_recogniser(f"command: sh -c 'cp \"$0\" {seen}'")(samples)
    np.testing.assert_array_equal(soundfile.read(seen, dtype="float32")[0], samples)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("command: no-such-program", "no-such-program: No such file.*name a program"),
        ("command: sh -c 'echo too loud >&2; exit 3'", r"status 3 \(too loud\)"),
        ("command:", "name a program behind it"),
        ("command: 'open", "correct the quotes"),
    ],
)
def test_broken_commands(name: str, says: str) -> None:
    """A program that is not there, or fails, is one line that says so."""
    with pytest.raises(SettingsError, match=says) as caught:
        open_recogniser(name)(np.zeros(1600, np.float32))
    assert "\n" not in str(caught.value)


@pytest.fixture(scope="module")
def ctc(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a small CTC model of random weights, with its characters, as transformers does."""
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    folder = tmp_path_factory.mktemp("ctc")
    characters = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "|": 4, "A": 5, "B": 6}
    (folder / "characters.json").write_text(json.dumps(characters))
    transformers.Wav2Vec2CTCTokenizer(str(folder / "characters.json")).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    sizes = {"conv_dim": (8, 8), "conv_kernel": (10, 32), "conv_stride": (5, 64)}
    config = transformers.Wav2Vec2Config(
        **{name: list(value) for name, value in sizes.items()},
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        vocab_size=len(characters),
        pad_token_id=0,
    )
    torch.manual_seed(0)
    transformers.Wav2Vec2ForCTC(config).save_pretrained(folder)
    return folder


def test_ctc_recogniser(ctc: Path) -> None:
    """The text is the greedy path: repeats joined, blanks dropped, `|` a space."""
    import torch
    import transformers

    samples = np.random.default_rng(0).standard_normal(RATE).astype(np.float32)
    text = open_recogniser(str(ctc), "cpu")(samples)
    model = transformers.Wav2Vec2ForCTC.from_pretrained(ctc).eval()
    scaled = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    with torch.inference_mode():
        path = model(torch.from_numpy(scaled)[None]).logits[0].argmax(-1).tolist()
    kept = [one for place, one in enumerate(path) if not place or one != path[place - 1]]
    names = {4: " ", 5: "A", 6: "B"}
    assert text.split() == "".join(names.get(each, "") for each in kept).split()
    assert any(one == other != 0 for one, other in pairwise([each for each in kept if each])), (
        "the path has no letter twice, so that it tells nothing of blanks between them"
    )


def test_what_is_no_ctc_model(tmp_path: Path) -> None:
    """A folder without a model is refused in one line that names it."""
    with pytest.raises(CheckpointError, match="not a CTC model") as caught:
        open_recogniser(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_stretches_hold_all_speech() -> None:
    """Each hum is in a stretch with a little around it, and none is longer than 20 s."""
    rng = np.random.default_rng(0)
    track = hum(300, 2, 5, 60) + hum(300, 10, 55, 60)
    track += 1e-4 * rng.standard_normal(len(track)).astype(np.float32)
    first, *rest = stretches_of(track)
    assert first == pytest.approx((1.8, 5.2), abs=0.05)
    assert len(rest) == 3
    assert rest[0][0] == pytest.approx(9.8, abs=0.05)
    assert rest[-1][1] == pytest.approx(55.2, abs=0.05)
    assert all(one[1] == other[0] for one, other in pairwise(rest))
    assert max(end - start for start, end in rest) <= LONGEST_S
    assert stretches_of(np.zeros(RATE, np.float32)) == []


def test_texts_are_written_once(tmp_path: Path) -> None:
    """After a stop in the middle of a line, only what was not noted whole is recognised again."""
    asked: list[int] = []

    def recogniser(samples: Samples) -> str:
        asked.append(len(samples))
        return f"länge {len(samples)}"

    journal = tmp_path / "words.jsonl"
    first = Transcriber(recogniser, journal)
    assert first("silence", np.zeros(5, np.float32)) == ""
    first("one", np.ones(1, np.float32))
    first("two", np.ones(2, np.float32))
    journal.write_bytes(journal.read_bytes()[:-4])
    for _ in range(2):
        again = Transcriber(recogniser, journal)
        assert again("one", np.ones(1, np.float32)) == "länge 1"
        assert again("two", np.ones(2, np.float32)) == "länge 2"
    assert asked == [1, 2, 2]


@pytest.fixture
def sessions(tmp_path: Path) -> Path:
    """Write two sessions of three talkers who overlap; return their manifest.

    The separated tracks are perfect with seven microphones; with one, both are the recording as it
    is.
    """
    said = [(300, 1.0, 4.0), (900, 3.0, 6.0), (2000, 7.0, 11.0)]
    cuts = []
    for name in ("0L_session1", "OV40_session1"):
        noise = 1e-3 * np.random.default_rng(0).standard_normal((3, 12 * RATE))
        hums = [hum(*each) + own for each, own in zip(said, noise.astype(np.float32), strict=True)]
        whole = sum(hums)
        path = tmp_path / f"{name}.wav"
        soundfile.write(path, np.stack([whole] * 7, axis=1), RATE)
        recording = Recording.from_file(path, recording_id=name)
        cut = recording.to_cut().with_id(name)
        cut.supervisions = [
            SupervisionSegment(
                f"{name}-{number}", name, start, end - start, speaker=f"{hertz}", text=WORDS[hertz]
            )
            for number, (hertz, start, end) in enumerate(said)
        ]
        cuts.append(cut)
        separated = {1: [whole, whole], 7: [hums[0] + hums[2], hums[1]]}
        for count, tracks in separated.items():
            _write_tracks(tmp_path / "tracks", count, name, said, tracks)
    CutSet.from_cuts(cuts).to_file(tmp_path / "sessions.jsonl.gz")
    return tmp_path / "sessions.jsonl.gz"


def _write_tracks(
    folder: Path, count: int, name: str, said: list[tuple[int, float, float]], tracks: list[Samples]
) -> None:
    """Write the tracks of a session, and of its utterances."""
    kinds = [(CONTINUOUS, name, 0.0, 12.0)]
    kinds += [(UTTERANCES, f"{name}-{k}", start, end) for k, (_, start, end) in enumerate(said)]
    for kind, own, start, end in kinds:
        files = track_files(folder_of(folder, count, kind), own)
        for file, track in zip(files, tracks, strict=True):
            file.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(file, track[round(start * RATE) : round(end * RATE)], RATE)


def test_sessions_in_every_way(sessions: Path, oracle: str, tmp_path: Path) -> None:
    """Perfect tracks have no errors in any way; unseparated ones have those of the overlap."""

    def diarizer(path: Path) -> Annotation:
        turns = Annotation(uri=path.stem)
        for start, end, speaker in ((1, 4, "x"), (3, 6, "y"), (7, 11, "z")):
            turns[Turn(start, end), speaker] = speaker
        return turns

    words = Words(
        sessions, tmp_path / "tracks", open_recogniser(oracle), tmp_path / "words.jsonl", diarizer
    )
    table = evaluate_words(words, (1, 7))
    assert all(found.keys() == {"0L", "OV40"} for found in table.values())
    rates = {way: found["OV40"] for way, found in table.items()}
    for way in ("utterance-wise", "whole sessions, ORC-WER", "whole sessions, cpWER"):
        assert rates[f"{way}, 7 microphones"] == WordErrors(9), way
    # The first utterance holds some of the second, whose two words are too many; and vice versa.
    overlapped = WordErrors(9, insertions=5)
    assert rates["utterance-wise, not separated"] == overlapped
    assert rates["utterance-wise, 1 microphone"] == overlapped
    # Both tracks say all nine words: one of them is too much.
    assert rates["whole sessions, ORC-WER, 1 microphone"].insertions == 9
    assert rates["whole sessions, cpWER, 1 microphone"] == overlapped


def test_sessions_without_a_diarizer(sessions: Path, oracle: str, tmp_path: Path) -> None:
    """Without who spoke when there is no cpWER, and all else is there."""
    words = Words(sessions, tmp_path / "tracks", open_recogniser(oracle), tmp_path / "words.jsonl")
    assert not any("cpWER" in way for way in evaluate_words(words, (7,)))
