"""Speech by level: real recordings against a neural detector, and what is no speech."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from numpy.typing import NDArray
from scipy.signal import lfilter

from wavlm_meeting.audio import read_audio
from wavlm_meeting.errors import AudioError, AudioWarning
from wavlm_meeting.verification.speech import CLIPPED, FRAME, check_speech, speech_of

RATE = 16_000
SOURCES = ("librispeech", "vctk", "commonvoice", "picovoice_barista")

Samples = NDArray[np.float32]


@pytest.fixture(scope="module")
def spoken(shared_dir: Path) -> list[Samples]:
    """Give real recordings of single people: three of each source."""
    folders = [shared_dir / "corpus/speech" / source for source in SOURCES]
    files = [sorted(folder.rglob("*.opus"))[::97][:3] for folder in folders]
    return [read_audio(file)[: 10 * RATE] for own in files for file in own]


@pytest.fixture(scope="module")
def voice(spoken: list[Samples]) -> Samples:
    """Give one of them, with quiet pauses, at full level."""
    return spoken[3] / np.abs(spoken[3]).max()


def test_finds_what_a_neural_detector_finds(spoken: list[Samples]) -> None:
    """Speech of close recordings is as long as silero-vad finds, to 0.3 s or 15 %, and where."""
    silero_vad = pytest.importorskip("silero_vad")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        detector = silero_vad.load_silero_vad(onnx=False)
    agreement = []
    for samples in spoken:
        found = speech_of(samples)
        expected = np.zeros(len(found.frames), np.bool_)
        for part in silero_vad.get_speech_timestamps(torch.from_numpy(samples), detector):
            expected[part["start"] // FRAME : part["end"] // FRAME] = True
        assert found.seconds == pytest.approx(expected.sum() / 100, rel=0.15, abs=0.3)
        agreement.append((found.frames == expected).mean())
    assert min(agreement) > 0.75
    assert np.mean(agreement) > 0.88


@pytest.mark.parametrize("gain_db", [-30, -15, 0])
def test_level_does_not_matter(gain_db: float, voice: Samples) -> None:
    """A recording holds as much speech when it is quieter."""
    quiet = voice * np.float32(10 ** (gain_db / 20))
    assert speech_of(quiet).seconds == pytest.approx(speech_of(voice).seconds, abs=0.05)


def test_noise_and_pauses_are_no_speech(voice: Samples) -> None:
    """Silence, digital or noisy, around speech adds nothing to it, and speech keeps its place."""
    speech = speech_of(voice)
    rng = np.random.default_rng(0)
    for level in (0.0, 0.003):
        quiet = (level * rng.standard_normal(5 * RATE)).astype(np.float32)
        found = speech_of(np.concatenate([quiet, voice, quiet]))
        assert found.seconds == pytest.approx(speech.seconds, rel=0.1)
        assert found.frames[:490].sum() <= 5
        assert found.frames[-490:].sum() <= 5


def test_what_stays_alike_is_no_speech() -> None:
    """White and coloured noise and a hum hold no speech; they are not silent."""
    rng = np.random.default_rng(1)
    white = rng.standard_normal(8 * RATE)
    brown = lfilter([1.0], [1.0, -0.95], white) / 4
    hum = np.sin(2 * np.pi * 50 * np.arange(8 * RATE) / RATE)
    for sound in (white, brown, hum):
        found = speech_of((0.1 * sound).astype(np.float32))
        assert (found.seconds, found.silent) == (0.0, False)


def test_clicks_are_no_speech() -> None:
    """A few clicks in silence do not make half a second of speech."""
    samples = np.zeros(5 * RATE, np.float32)
    samples[::RATE] = 1.0
    with pytest.raises(AudioError, match="of speech"):
        check_speech(samples, "clicks.wav")


def test_silence_is_refused() -> None:
    """Nothing, and dither of 16 bits, is silent."""
    rng = np.random.default_rng(2)
    dither = (rng.integers(-1, 2, 3 * RATE) / 32768).astype(np.float32)
    for samples in (np.zeros(3 * RATE, np.float32), dither):
        with pytest.raises(AudioError, match=r"^a\.wav: silent"):
            check_speech(samples, "a.wav")


def test_too_little_speech(voice: Samples) -> None:
    """Under half a second of speech is refused with how much there is, or warned of for a list."""
    middle = int(np.argmax(np.abs(voice)))
    short = np.concatenate([np.zeros(RATE), voice[middle : middle + RATE // 5], np.zeros(RATE)])
    with pytest.raises(AudioError, match=r"a\.wav: 0\.[1-4]\d s of speech.*0\.5 s"):
        check_speech(short.astype(np.float32), "a.wav")
    with pytest.warns(AudioWarning, match=r"a\.wav: 0\.[1-4]\d s of speech"):
        check_speech(short.astype(np.float32), "a.wav", enough=False)


def test_clipping(spoken: list[Samples], tmp_path: Path) -> None:
    """Recordings that go 12 dB beyond full scale are warned of, in lossy files too; others not."""
    path = tmp_path / "clipped.ogg"
    for samples in spoken:
        loud = samples / np.abs(samples).max()
        assert speech_of(loud).clipped < CLIPPED / 2
        clipped = np.clip(4 * loud, -1, 1)
        soundfile.write(path, clipped, RATE, format="OGG", subtype="OPUS")
        for each in (clipped, read_audio(path)):
            assert speech_of(each).clipped > CLIPPED
    with pytest.warns(AudioWarning, match=r"a\.wav: \d+\.\d % of the samples are cut off"):
        check_speech(clipped, "a.wav")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_speech(loud, "a.wav")


def test_the_shortest_recordings() -> None:
    """A tenth of a second, the least that is ever read, is measured too."""
    rng = np.random.default_rng(3)
    assert speech_of(rng.standard_normal(RATE // 10).astype(np.float32)).frames.shape == (10,)
