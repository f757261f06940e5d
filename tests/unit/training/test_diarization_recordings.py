"""Manifests of conversations: Lhotse's, read piece by piece, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from wavlm_meeting.errors import AudioError, SettingsError

pytest.importorskip("lhotse", reason="training needs the extra 'train'")

from lhotse import CutSet
from pyannote.core import Annotation, Segment

from small_conversations import RATE, small_conversation, write_conversation
from wavlm_meeting.training.diarization_recordings import (
    conversation_of,
    read_conversations,
    ready,
    write_conversations,
)


def test_what_is_written_is_read_and_lhotse_reads_it(tmp_path: Path) -> None:
    """Turns, channels and times stay; Lhotse's cuts say the same and load the same audio."""
    written = [small_conversation(tmp_path / f"{name}.wav") for name in ("one", "three")]
    write_conversations(written, tmp_path / "cuts.jsonl.gz")
    assert read_conversations(tmp_path / "cuts.jsonl.gz") == written
    cut = next(iter(CutSet.from_file(tmp_path / "cuts.jsonl.gz")))
    assert [(s.start, s.end, s.speaker) for s in cut.supervisions] == [
        tuple(said) for said in written[0].said
    ]
    audio = cut.load_audio()
    np.testing.assert_allclose(audio[1], written[0].read(0, 10 * RATE, channel=2), atol=1e-6)
    np.testing.assert_allclose(audio.mean(axis=0), written[0].read(0, 10 * RATE), atol=1e-6)


def test_a_part_of_a_recording(tmp_path: Path) -> None:
    """Turns are cut to what is scored; times of the reference stay those of the file."""
    reference = write_conversation(tmp_path / "call.wav")
    part = conversation_of("call", tmp_path / "call.wav", reference, Segment(2.0, 9.0))
    assert [tuple(said) for said in part.said] == [(0, 2, "a"), (1, 4, "b"), (6, 7, "a")]
    assert (part.samples, part.speakers) == (7 * RATE, ["a", "b"])
    whole = conversation_of("call", tmp_path / "call.wav", reference)
    np.testing.assert_array_equal(part.read(RATE, 100), whole.read(3 * RATE, 100))
    assert part.scored().extent() == Segment(2.0, 9.0)
    for name in ("a", "b"):
        expected = reference.crop(Segment(2.0, 9.0)).label_timeline(name)
        assert part.reference().label_timeline(name) == expected


def test_pieces_are_those_of_the_whole(tmp_path: Path) -> None:
    """Anywhere in a file of any rate; after its end there is silence."""
    call = small_conversation(tmp_path / "call.wav", rate=8000)
    whole = call.read(0, 10 * RATE, channel=1)
    piece = call.read(3 * RATE, RATE, channel=1)
    inner = slice(800, -800)  # away from the resampler's edges
    expected = whole[3 * RATE : 4 * RATE]
    assert np.corrcoef(piece[inner], expected[inner])[0, 1] > 0.999
    late = call.read(9 * RATE, 2 * RATE)
    assert len(late) == 2 * RATE
    assert not late[RATE:].any()


def test_telephone_files_of_ldc(tmp_path: Path) -> None:
    """SPHERE in mu-law is read where it lies; shorten is refused with the tool that unpacks it."""
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal(8000)
    path = tmp_path / "iaaa.sph"
    soundfile.write(path, samples, 8000, format="NIST", subtype="ULAW")
    assert ready(path, tmp_path / "none.flac") == path
    call = conversation_of("iaaa", path, Annotation(uri="iaaa"))
    assert (call.samples, call.channels) == (RATE, 1)
    assert np.std(call.read(0, RATE)) == pytest.approx(0.1, rel=0.1)
    head = b"NIST_1A\n   1024\nsample_coding -s26 ulaw,embedded-shorten-v2.00\nend_head\n"
    (tmp_path / "iaab.sph").write_bytes(head.ljust(1024) + b"ajkg" * 100)
    with pytest.raises(AudioError, match=r"iaab\.sph: .* shorten; unpack it with 'sph2pipe"):
        conversation_of("iaab", tmp_path / "iaab.sph", Annotation(uri="iaab"))


def test_what_does_not_seek_is_decoded_once(tmp_path: Path, shared_dir: Path) -> None:
    """Opus becomes FLAC of the same length, and stays."""
    source = next((shared_dir / "corpus/speech/commonvoice").rglob("*.opus"))
    target = tmp_path / "deep/a.flac"
    assert ready(source, target) == target
    frames = soundfile.info(target).frames
    assert frames == soundfile.info(source).frames
    before = target.stat().st_mtime_ns
    assert ready(source, target) == target
    assert target.stat().st_mtime_ns == before


def test_manifests_that_are_none(tmp_path: Path) -> None:
    """No file, no manifest, an empty one, a file that is gone: one line each."""
    with pytest.raises(SettingsError, match="no such manifest"):
        read_conversations(tmp_path / "none.jsonl.gz")
    write_conversations([], tmp_path / "empty.jsonl.gz")
    with pytest.raises(SettingsError, match="holds no recording"):
        read_conversations(tmp_path / "empty.jsonl.gz")
    (tmp_path / "text.jsonl.gz").write_text("hello")
    with pytest.raises(SettingsError, match="not a manifest"):
        read_conversations(tmp_path / "text.jsonl.gz")
    call = small_conversation(tmp_path / "call.wav")
    (tmp_path / "call.wav").unlink()
    with pytest.raises(AudioError, match="no such file"):
        call.read(0, 100)
