"""Small trees in the published layouts, of real speech, a broken file in each."""

import json
import random
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from wavlm_meeting.audio import read_audio
from wavlm_meeting.errors import FormatError, SettingsError

pytest.importorskip("lhotse", reason="corpora need the extra 'train'")

from wavlm_meeting.recipes.mix94k import json_stream
from wavlm_meeting.recipes.mix94k.corpora import CORPORA, corpus_cuts
from wavlm_meeting.recipes.mix94k.librilight import PAUSE_S, pieces
from wavlm_meeting.training.shards import read_index, read_shards, write_shards
from wavlm_meeting.training.sources import LONGEST_S, Unreadable

RATE = 16_000
FORMATS = {".opus": {"format": "OGG", "subtype": "OPUS"}, ".ogg": {"subtype": "VORBIS"}}

# N samples

Tree = Callable[[Path, NDArray[np.float32]], Path]


@pytest.fixture(scope="module")
def speech(shared_dir: Path) -> NDArray[np.float32]:
    """Give 80 s of read speech at 16 kHz (N,)."""
    paths = sorted((shared_dir / "corpus/speech/librispeech").rglob("*.opus"))[:8]
    return np.concatenate([read_audio(path) for path in paths])[: 80 * RATE]


def write(path: Path, samples: NDArray[np.float32], start: float, end: float) -> None:
    """Write the seconds from start to end in the format of the path's name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = samples[round(start * RATE) : round(end * RATE)]
    soundfile.write(path, part, RATE, **FORMATS.get(path.suffix, {}))


def taken(name: str, root: Path, out: Path) -> tuple[dict[str, NDArray[np.float32]], list[str]]:
    """Write a corpus into shards; return the sound of each cut (N,) and what was left out."""
    index = write_shards(corpus_cuts(name, root), out, shard_cuts=2)
    assert index == read_index(out)
    assert all(u.reason and "\n" not in u.reason for shard in index for u in shard.skipped)
    cuts = {cut.id: cut.load_audio()[0] for cut in read_shards(out)}
    assert sum(shard.cuts for shard in index) == len(cuts)
    assert sum(shard.seconds for shard in index) == pytest.approx(
        sum(len(samples) for samples in cuts.values()) / RATE, abs=0.01
    )
    return cuts, [u.name for shard in index for u in shard.skipped]


def assert_is(sound: NDArray[np.float32], speech: NDArray[np.float32], start: float) -> None:
    """Check that a sound is the speech from this second on; coding may blur it, not move it."""
    expected = speech[round(start * RATE) :][: len(sound)]
    assert len(expected) == len(sound)
    assert np.corrcoef(sound, expected)[0, 1] > 0.97


def librispeech_tree(root: Path, speech: NDArray[np.float32]) -> Path:
    """Write a tree of two parts; one chapter has no transcript, one file is empty."""
    chapter = root / "LibriSpeech/train-clean-100/103/1240"
    for number in range(2):
        write(chapter / f"103-1240-000{number}.flac", speech, 3 * number, 3 * number + 3)
    (chapter / "103-1240-0002.flac").write_bytes(b"")
    lines = ["0000 CHAPTER ONE", "0001 MISSUS RACHEL LYNDE", "0002 LOST", "0003 NOWHERE"]
    text = "".join(f"103-1240-{line}\n" for line in lines)
    (chapter / "103-1240.trans.txt").write_text(text)
    write(root / "LibriSpeech/train-other-500/20/205/20-205-0000.flac", speech, 10, 42)
    return root


def librilight_tree(root: Path, speech: NDArray[np.float32]) -> Path:
    """Write three books: one as published, one with a cut JSON, one that is no audio."""
    first, second = root / "small/100/a_64kb/ch_01.flac", root / "medium/25/b_64kb/ch_01.flac"
    write(first, speech, 0, 70)
    spans = [[0.5, 12.0], [12.5, 29.0], [29.5, 31.0], [40.0, 70.5]]
    write(second, speech, 5, 40)
    meta = json.dumps({"speaker": "100", "snr": 9.1, "voice_activity": spans})
    first.with_suffix(".json").write_text(meta)
    second.with_suffix(".json").write_text(meta[:40])
    (second.parent / "ch_02.flac").write_text("no audio")
    return root


def segment(sid: str, begin: float, end: float, subsets: list[str]) -> dict[str, object]:
    """Return a segment as published."""
    return {
        "sid": sid,
        "speaker": "N/A",
        "begin_time": begin,
        "end_time": end,
        "text_tn": "AS THEY'RE LEAVING <COMMA>",
        "subsets": subsets,
    }


def gigaspeech_tree(root: Path, speech: NDArray[np.float32]) -> Path:
    """Write one good recording; of the others, one is empty and two missing; the JSON is cut."""
    entries = []
    for kind, aid, subset in (
        ("podcast", "POD0000000001", "{XL}"),
        ("youtube", "YOU0000000003", "{XL}"),
        ("audiobook", "AUD0000000007", "{XL}"),
        ("youtube", "YOU0000000009", "{TEST}"),
        ("audiobook", "AUD0000000008", "{XL}"),
    ):
        parts = [
            segment(f"{aid}_S0000000", 1.5, 4.25, [subset, "{L}"]),
            segment(f"{aid}_S0000001", 4.5, 5.5, ["{DEV}"]),
            segment(f"{aid}_S0000002", 6.0, 9.0, [subset]),
        ]
        path = f"audio/{kind}/P0000/{aid}.opus"
        entries.append(
            {"title": '["{', "path": path, "aid": aid, "subsets": [subset], "segments": parts}
        )
    write(root / entries[0]["path"], speech, 0, 10)
    (root / "audio/youtube/P0000").mkdir(parents=True)
    (root / entries[1]["path"]).write_bytes(b"")
    text = json.dumps({"dataset": "GigaSpeech", "version": "v1.0.0", "audios": entries}, indent=2)
    (root / "GigaSpeech.json").write_text(text[: text.index("AUD0000000008_S0000002")])
    return root


def voxpopuli_tree(root: Path, speech: NDArray[np.float32]) -> Path:
    """Write sessions of two years."""
    for year, start, end in (("2010", 0, 65), ("2009_2", 20, 26)):
        name = f"{year[:4]}0120-0900-PLENARY_en.ogg"
        write(root / "raw_audios/en" / year / name, speech, start, end)
    (root / "raw_audios/en/2010/20101231-0900-PLENARY_en.ogg").write_bytes(b"OggS")
    write(root / "raw_audios/de/2010/20100120-0900-PLENARY_de.ogg", speech, 0, 3)
    return root


def dns_tree(root: Path, speech: NDArray[np.float32]) -> Path:
    """Write a flat folder of clips."""
    for number in range(3):
        write(root / f"datasets/noise/{number}_freesound.wav", speech, number, number + 10)
    (root / "datasets/noise/1_freesound.wav").write_bytes(b"RIFF")
    write(root / "datasets/clean/read_speech/book.wav", speech, 0, 3)
    return root


TREES: dict[str, Tree] = {
    "librispeech": librispeech_tree,
    "librilight": librilight_tree,
    "gigaspeech": gigaspeech_tree,
    "voxpopuli": voxpopuli_tree,
    "dns-noise": dns_tree,
}


def test_librispeech(tmp_path: Path, speech: NDArray[np.float32]) -> None:
    """Utterances stay whole and keep their words; what a transcript promises in vain is listed."""
    cuts, skipped = taken("librispeech", librispeech_tree(tmp_path, speech), tmp_path / "out")
    assert list(cuts) == ["103-1240-0000", "103-1240-0001", "20-205-0000"]
    for sound, start in zip(cuts.values(), (0, 3, 10), strict=True):
        assert_is(sound, speech, start)
    assert len(cuts["20-205-0000"]) == 32 * RATE
    assert skipped == [
        "103-1240-0002", "103-1240-0003", "train-clean-360",
        "train-other-500/20/205/20-205.trans.txt",
    ]  # fmt: skip
    said = {cut.id: cut.supervisions[0] for cut in read_shards(tmp_path / "out")}
    assert [one.text for one in said.values()] == ["CHAPTER ONE", "MISSUS RACHEL LYNDE", None]
    assert [one.speaker for one in said.values()] == ["103", "103", "20"]


def test_librilight(tmp_path: Path, speech: NDArray[np.float32]) -> None:
    """Chapters are cut in pauses; without its JSON a chapter is cut evenly, and that is said."""
    cuts, skipped = taken("librilight", librilight_tree(tmp_path, speech), tmp_path / "out")
    first, second = "small/100/a_64kb/ch_01.flac", "medium/25/b_64kb/ch_01.flac"
    expected = {
        f"{first}-0000": (0.5, 28.5),
        f"{first}-0001": (29.5, 1.5),
        f"{first}-0002": (40.0, 30.0),
        f"{second}-0000": (5.0, 30.0),
        f"{second}-0001": (35.0, 5.0),
    }
    assert list(cuts) == list(expected)
    for name, (start, seconds) in expected.items():
        assert len(cuts[name]) == round(seconds * RATE)
        assert_is(cuts[name], speech, start)
    assert skipped == [
        f"{first}-0003",  # half a second
        "medium/25/b_64kb/ch_01.json",
        "medium/25/b_64kb/ch_02.flac",
    ]


def test_librilight_in_one_folder(tmp_path: Path, speech: NDArray[np.float32]) -> None:
    """Where unlab-60k is beside its parts, no chapter is read twice."""
    librilight_tree(tmp_path, speech)
    write(tmp_path / "unlab-60k/100/a_64kb/ch_01.flac", speech, 0, 2)
    cuts, _ = taken("librilight", tmp_path, tmp_path / "out")
    assert list(cuts) == ["unlab-60k/100/a_64kb/ch_01.flac"]


def test_pieces_hold_all_speech_and_no_long_pause() -> None:
    """Whatever the spans: in order, at most LONGEST_S, every voiced moment once."""
    rng = random.Random(0)
    for _ in range(200):
        spans, end = [], 0.0
        for _ in range(rng.randint(1, 30)):
            start = end + rng.choice([0.2, 1.5, 5.0])
            end = start + rng.choice([0.1, 4.0, 14.0, 70.0])
            spans.append((start, end))
        found = pieces(spans)
        assert all(0 < end - start <= LONGEST_S + 1e-9 for start, end in found)
        assert all(a[1] <= b[0] for a, b in pairwise(found))
        voiced = sum(end - start for start, end in spans)
        kept = sum(
            max(0.0, min(end, stop) - max(start, begin))
            for start, end in spans
            for begin, stop in found
        )
        assert kept == pytest.approx(voiced)
        assert all(
            not (begin < before[1] and after[0] < stop)
            for before, after in pairwise(spans)
            for begin, stop in found
            if after[0] - before[1] > PAUSE_S
        )


def test_gigaspeech(tmp_path: Path, speech: NDArray[np.float32]) -> None:
    """Segments of XL alone; a broken or missing file is listed once, and so is a cut JSON."""
    cuts, skipped = taken("gigaspeech", gigaspeech_tree(tmp_path, speech), tmp_path / "out")
    assert list(cuts) == ["POD0000000001_S0000000", "POD0000000001_S0000002"]
    assert [len(sound) for sound in cuts.values()] == [2.75 * RATE, 3 * RATE]
    for sound, start in zip(cuts.values(), (1.5, 6.0), strict=True):
        assert_is(sound, speech, start)
    assert skipped == [
        "audio/youtube/P0000/YOU0000000003.opus",
        "audio/audiobook/P0000/AUD0000000007.opus",
        "GigaSpeech.json",
    ]


def test_voxpopuli(tmp_path: Path, speech: NDArray[np.float32]) -> None:
    """English sessions in even pieces; once the voiced pieces are cut, those instead."""
    cuts, skipped = taken("voxpopuli", voxpopuli_tree(tmp_path, speech), tmp_path / "out")
    early = "raw_audios/en/2009_2/20090120-0900-PLENARY_en.ogg"
    late = "raw_audios/en/2010/20100120-0900-PLENARY_en.ogg"
    starts = {early: 20, f"{late}-0000": 0, f"{late}-0001": 30, f"{late}-0002": 60}
    assert list(cuts) == list(starts)
    for name, start in starts.items():
        assert_is(cuts[name], speech, start)
    assert skipped == ["raw_audios/en/2010/20101231-0900-PLENARY_en.ogg"]
    piece = "unlabelled_data/en/2010/20100120-0900-PLENARY_en_7.ogg"
    write(tmp_path / piece, speech, 8, 28)
    cuts, skipped = taken("voxpopuli", tmp_path, tmp_path / "pieces")
    assert (list(cuts), skipped) == ([piece], [])
    assert_is(cuts[piece], speech, 8)


def test_dns_noise(tmp_path: Path, speech: NDArray[np.float32]) -> None:
    """The noise and nothing else of the challenge."""
    cuts, skipped = taken("dns-noise", dns_tree(tmp_path, speech), tmp_path / "out")
    assert list(cuts) == [f"datasets/noise/{number}_freesound.wav" for number in (0, 2)]
    assert skipped == ["datasets/noise/1_freesound.wav"]
    for sound, start in zip(cuts.values(), (0, 2), strict=True):
        assert_is(sound, speech, start)


@pytest.mark.parametrize("name", CORPORA)
def test_order_ids_and_parts(name: str, tmp_path: Path, speech: NDArray[np.float32]) -> None:
    """Two runs give the same; ids are unique; three parts hold what one run holds."""
    root = TREES[name](tmp_path / "in", speech)
    named = [
        [s.name if isinstance(s, Unreadable) else s.id for s in corpus_cuts(name, root)]
        for _ in range(2)
    ]
    assert named[0] == named[1]
    assert len(set(named[0])) == len(named[0])
    whole, skipped = taken(name, root, tmp_path / "whole")
    for own in range(3):
        write_shards(corpus_cuts(name, root), tmp_path / "parts", 1, (own, 3))
    parts = {cut.id: cut.load_audio()[0] for cut in read_shards(tmp_path / "parts")}
    assert parts.keys() == whole.keys()
    assert all((parts[cut] == whole[cut]).all() for cut in whole)
    left_out = [u.name for shard in read_index(tmp_path / "parts") for u in shard.skipped]
    assert sorted(left_out) == sorted(skipped)


@pytest.mark.parametrize(
    ("name", "layout"),
    [
        ("librispeech", "train-clean-100"),
        ("librilight", "small or medium or large"),
        ("gigaspeech", r"GigaSpeech\.json"),
        ("voxpopuli", "unlabelled_data/en or raw_audios/en"),
        ("dns-noise", "datasets/noise"),
    ],
)
def test_a_corpus_that_is_not_there(name: str, layout: str, tmp_path: Path) -> None:
    """The layout that was looked for is named, before anything is written."""
    with pytest.raises(SettingsError, match=layout):
        corpus_cuts(name, tmp_path)


def test_a_corpus_that_is_none(tmp_path: Path) -> None:
    """The names are listed."""
    with pytest.raises(SettingsError, match="no corpus 'libri': there are librispeech, librilight"):
        corpus_cuts("libri", tmp_path)


def test_an_entry_that_is_not_as_published(tmp_path: Path) -> None:
    """It is listed by its number; the reading goes on."""
    entries = [{"path": "a.opus"}, {"path": "b.opus", "segments": [segment("s", 0, 2, ["{XL}"])]}]
    (tmp_path / "GigaSpeech.json").write_text(json.dumps({"audios": entries}))
    found = list(corpus_cuts("gigaspeech", tmp_path))
    assert [source.name for source in found] == ["GigaSpeech.json, entry 0", "b.opus"]


def test_streamed_json_is_the_json(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read a few letters at a time, it is what `json` reads; cut anywhere, that is an error."""
    monkeypatch.setattr(json_stream, "CHUNK", 50)
    entries = [{"id": n, "text": 'é]}\\"{[' * n, "parts": [{"a": [n, -1.5e3]}]} for n in range(6)]
    for indent in (None, 2):
        text = json.dumps({"version": 1, "audios": entries, "end": [1]}, indent=indent)
        path = tmp_path / "all.json"
        path.write_text(text)
        assert list(json_stream.stream_objects(path, "audios")) == entries
        closed = text.rindex("]", 0, text.rindex('"end"'))
        for length in range(0, closed, 7):
            path.write_text(text[:length])
            found = []
            with pytest.raises(FormatError, match="fetch the file again"):
                found.extend(json_stream.stream_objects(path, "audios"))
            assert found == entries[: len(found)]
