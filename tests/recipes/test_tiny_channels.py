"""Training speech goes through codecs and stays where it was; conversations through channels."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment
from scipy.signal import correlate

from known_voices import WOMAN, recordings
from small_prepared import Prepared, write_prepared
from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.diarization import load_pipeline
from wavlm_meeting.errors import SettingsError

pytest.importorskip("lightning", reason="the recipe needs the extra 'train'")

from wavlm_meeting.recipes.tiny.channels import RATES, SHARES, channels, coded_copy
from wavlm_meeting.recipes.tiny.channels_report import CHANNELS, by_channel
from wavlm_meeting.recipes.tiny.evaluate import Recording, score_found

RATE = 16_000
MILLISECOND = RATE // 1000


@pytest.fixture(scope="module")
def speech(conversation: Path) -> NDArray[np.int16]:
    """Give 8 s of a real call, loud to the last sample."""
    samples, _ = soundfile.read(conversation, dtype="float32")
    piece = samples[8 * RATE : 16 * RATE]
    return np.round(piece * (16_000 / np.abs(piece).max())).astype(np.int16)


@pytest.mark.parametrize(("codec", "bit_rate"), [(n, rates[0]) for n, rates in RATES.items()])
def test_coded_speech_keeps_its_place(speech: NDArray[np.int16], codec: str, bit_rate: int) -> None:
    """No codec moves speech by a millisecond, nor cuts off its end, however short it is."""
    for samples in (speech, speech[:4321]):
        heard = coded_copy(samples, codec, bit_rate)
        assert (heard.dtype, heard.shape) == (np.int16, samples.shape)
        assert not np.array_equal(heard, samples)
        across = correlate(heard.astype(float), samples.astype(float))
        assert abs(int(across.argmax()) - (len(samples) - 1)) < MILLISECOND
    marked = speech.copy()  # a tone that ends with the recording
    marked[-RATE // 4 :] = 8000 * np.sin(2 * np.pi * 440 * np.arange(RATE // 4) / RATE)
    end = coded_copy(marked, codec, bit_rate)[-RATE // 20 :].astype(float)
    assert 0.5 < np.sqrt(np.mean(end**2)) / (8000 / np.sqrt(2)) < 1.5


def rows_of(speech: NDArray[np.int16]) -> list[Prepared]:
    """Return speech of all splits, a meeting of two people and a noise."""
    train = [Prepared(speech[n * 8000 : (n + 2) * 8000], f"s{n}", "a", "train") for n in range(12)]
    meeting = speech[RATE : 4 * RATE]
    return [
        *train,
        Prepared(speech[:RATE], "t", "a", "test"),
        Prepared(meeting, "x", "", "train", "meeting"),
        Prepared(meeting, "y", "", "train", "meeting"),
        Prepared(speech[RATE : 2 * RATE], "", "b", "train", "noise"),
        Prepared(speech[:RATE], "d", "a", "dev"),
    ]


def test_the_stage_codes_what_is_trained_on(speech: NDArray[np.int16], tmp_path: Path) -> None:
    """Training speech is coded at its place, all else is left; any number of processes alike."""
    rows = rows_of(speech)
    for name, workers in (("one", 1), ("two", 2)):
        write_prepared(tmp_path / name, rows)
        channels(tmp_path / name, workers)
    samples, coded = (np.load(tmp_path / "one" / f"{n}.npy") for n in ("samples", "coded"))
    assert (coded.dtype, coded.shape) == (samples.dtype, samples.shape)
    assert np.array_equal(coded, np.load(tmp_path / "two" / "coded.npy"))
    note = np.load(tmp_path / "one" / "coded.npz")
    for row, start, length, codec, bit_rate in zip(
        rows, note["start"], note["length"], note["codec"], note["bit_rate"], strict=True
    ):
        place = slice(start, start + length)
        assert np.array_equal(samples[place], row.samples)
        if row.split == "train" and row.kind != "noise":
            assert bit_rate in RATES[str(codec)]
            assert np.array_equal(coded[place], coded_copy(row.samples, str(codec), int(bit_rate)))
        else:
            assert (codec, bit_rate) == ("", 0)
            assert np.array_equal(coded[place], row.samples)
    assert set(note["codec"]) == {"", *SHARES}


def test_the_stage_is_done_once_for_what_was_prepared(
    speech: NDArray[np.int16], tmp_path: Path
) -> None:
    """Done is left; half done, or of an older corpus, is done; nothing prepared is said."""
    with pytest.raises(SettingsError, match="'prepare'"):
        channels(tmp_path)
    write_prepared(tmp_path, rows_of(speech))
    channels(tmp_path, 1)
    first = (tmp_path / "coded.npy").stat().st_mtime_ns
    channels(tmp_path, 1)
    assert (tmp_path / "coded.npy").stat().st_mtime_ns == first
    (tmp_path / "coded.npz").unlink()
    channels(tmp_path, 1)
    assert (tmp_path / "coded.npy").stat().st_mtime_ns > first
    write_prepared(tmp_path, rows_of(speech)[3:])
    channels(tmp_path, 1)
    assert len(np.load(tmp_path / "coded.npy")) == len(np.load(tmp_path / "samples.npy"))
    assert len(np.load(tmp_path / "coded.npz")["codec"]) == len(rows_of(speech)) - 3
    assert not list(tmp_path.glob(".*"))


def test_the_reference_moves_with_the_speed() -> None:
    """At another speed a click sounds where its turn begins, and everything keeps its speaker."""
    waveform = np.zeros(10 * RATE, np.float32)
    waveform[4 * RATE] = 1.0
    reference = Annotation(uri="x")
    reference[Segment(4.0, 6.0), 0] = "a"
    for name, speed in (("speed 0.95", 0.95), ("speed 1.05", 1.05)):
        heard = CHANNELS[name](Recording("x", waveform, reference))
        ((turn, _, speaker),) = heard.reference.itertracks(yield_label=True)
        assert (turn.start, turn.end, speaker) == pytest.approx((4 / speed, 6 / speed, "a"))
        assert int(heard.waveform.argmax()) == pytest.approx(4 / speed * RATE, abs=1)
        assert len(heard.waveform) == pytest.approx(10 / speed * RATE, abs=1)


def test_the_reference_moves_behind_the_faint_talk() -> None:
    """Twelve seconds come first, 35 dB below what they repeat, and the turns that much later."""
    waveform = np.random.default_rng(0).uniform(-1, 1, 20 * RATE).astype(np.float32)
    reference = Annotation(uri="x")
    reference[Segment(4.0, 6.0), 0] = "a"
    heard = CHANNELS["talk 35 dB fainter before it"](Recording("x", waveform, reference))
    ((turn, _, speaker),) = heard.reference.itertracks(yield_label=True)
    assert (turn.start, turn.end, speaker) == (16.0, 18.0, "a")
    assert (heard.waveform[12 * RATE :] == waveform).all()
    level = 20 * np.log10(np.std(heard.waveform[: 12 * RATE]) / np.std(waveform[8 * RATE :]))
    assert level == pytest.approx(-35.0, abs=1e-3)


def test_the_equaliser_falls_by_6_db_an_octave_and_the_gain_by_20() -> None:
    """Of tones, the one an octave higher comes out at half; 20 dB less is a tenth in 16 bits."""
    time = np.arange(RATE) / RATE
    levels = []
    for frequency in (500, 1000, 2000):
        tone = Recording("x", np.sin(2 * np.pi * frequency * time).astype(np.float32), Annotation())
        levels.append(float(np.std(CHANNELS["tilt -6 dB/octave"](tone).waveform)))
        quiet = CHANNELS["gain -20 dB"](tone).waveform
        assert np.abs(quiet - 0.1 * tone.waveform).max() <= 0.51 / 32768
        assert np.array_equal(quiet * 32768, np.round(quiet * 32768))
    assert np.array(levels[:-1]) / np.array(levels[1:]) == pytest.approx(2.0, rel=1e-3)


def test_what_a_channel_changes_is_scored_against_its_own_reference(shared_dir: Path) -> None:
    """One voice with pauses is heard alike through every channel; what plays faster ends sooner."""
    pause = np.zeros(RATE, np.float32)
    said = [read_audio(path) for path in recordings(shared_dir, WOMAN, 5)]
    waveform = np.concatenate([part for one in said for part in (one[: 2 * RATE], pause)])
    pipeline = load_pipeline("tiny", "cpu")
    reference = pipeline(waveform, num_speakers=1).to_annotation()
    ders = dict(by_channel(pipeline, [Recording("waveform", waveform, reference)]))
    assert list(ders) == list(CHANNELS)
    assert max(ders.values()) < 0.15
    moved = Annotation(uri="waveform")
    for turn, track in reference.itertracks():
        moved[Segment(turn.start * 1.05, turn.end * 1.05), track] = "a"
    assert score_found([Recording("waveform", waveform, moved)], [reference]).total.der > 0.15
