"""Names on turns, and enrolling whole or not at all, with real people's voices."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from known_voices import MAN, STRANGER, WOMAN, recordings
from wavlm_meeting.audio import read_audio
from wavlm_meeting.diarization import Diarization, Turn, load_pipeline
from wavlm_meeting.errors import AudioError, AudioWarning, SettingsError
from wavlm_meeting.meeting import MOST_S, _alone, _cut, enroll, name_speakers
from wavlm_meeting.verification.backend import Backend, Voices, load_backend
from wavlm_meeting.verification.identification import Identifier, identify, load_identifier
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.verify import verify
from wavlm_meeting.verification.voices import Register

RATE = 16_000


@pytest.fixture
def register(known: Path) -> Path:
    """Give a register that knows two people, to read."""
    return known


def result(*turns: tuple[float, float, str]) -> Diarization:
    """Make a diarization of these turns."""
    made = tuple(Turn(start, end, speaker, 0.9) for start, end, speaker in turns)
    return Diarization("call", 100.0, made, (), "tiny", "")


def test_only_speech_alone_is_listened_to() -> None:
    """Where others speak is left out, too short pieces too, and the longest 30 s are taken."""
    found = result(
        (0.0, 10.0, "A"), (4.0, 5.0, "B"), (9.8, 12.0, "B"), (20.0, 45.0, "A"), (50.0, 50.2, "A")
    )
    np.testing.assert_allclose(_alone(found, "A"), [(5.0, 9.8), (20.0, 45.0)])
    assert _alone(found, "B") == [(10.0, 12.0)]
    long = result((0.0, 20.0, "A"), (30.0, 60.0, "A"), (70.0, 95.0, "A"))
    assert sum(end - start for start, end in _alone(long, "A")) == pytest.approx(MOST_S)
    assert _alone(result((0.0, 5.0, "A"), (0.0, 6.0, "B")), "A") == []


def test_cutting_does_not_depend_on_blocks() -> None:
    """Stretches are cut out of blocks of any size as out of the whole."""
    samples = np.random.default_rng(0).standard_normal(10 * RATE).astype(np.float32)
    wanted = {"A": [(0.5, 1.25), (3.0, 7.5)], "B": [(2.0, 2.1), (9.9, 12.0)], "C": []}
    expected = {
        name: np.concatenate([samples[int(a * RATE) : int(b * RATE)] for a, b in stretches])
        for name, stretches in wanted.items()
        if stretches
    }
    for size in (700, 16_000, 10 * RATE):
        blocks = [samples[start : start + size] for start in range(0, len(samples), size)]
        found = _cut(blocks, wanted)
        assert found.keys() == expected.keys()
        for name, cut in found.items():
            np.testing.assert_array_equal(cut, expected[name])


def test_names_on_turns(
    register: Path, calibration: Path, shared_dir: Path, tmp_path: Path
) -> None:
    """In a conversation the enrolled one is named on his turns, and nobody else is."""
    people = [
        np.concatenate([read_audio(file) for file in recordings(shared_dir, person, 3, 6)])
        for person in (MAN, STRANGER)
    ]
    parts = [voice[start * RATE : (start + 6) * RATE] for start in (0, 6) for voice in people]
    path = tmp_path / "conversation.wav"
    soundfile.write(path, np.concatenate(parts), RATE)
    found = load_pipeline("tiny", "cpu")(path)
    named = name_speakers(found, path, load_identifier("tiny", register, calibration, 0.02))
    assert [turn.start for turn in named.turns] == [turn.start for turn in found.turns]
    for start, expected in ((2, "Max"), (8, "SPEAKER"), (14, "Max"), (20, "SPEAKER")):
        speakers = [turn.speaker for turn in named.turns if turn.start < start + 1 < turn.end]
        assert [speaker.partition("_")[0] for speaker in speakers] == [expected]


def test_unknown_voices_are_unknown(register: Path, calibration: Path, shared_dir: Path) -> None:
    """Other recordings of the enrolled are theirs; a stranger is unknown, at whatever rate."""
    files = [recordings(shared_dir, who, 1, 7)[0] for who in (WOMAN, MAN, STRANGER)]
    found = identify(files, register=register, backend=calibration, false_accepts=0.02)
    assert [each.name for each in found] == ["Anna Bell", "Max", None]
    strict = identify(files[:1], register=register, backend=calibration, false_accepts=1e-6)
    assert (strict[0].name, strict[0].nearest) == (None, "Anna Bell")
    scoring = load_backend(calibration)
    assert found[0].threshold == scoring.threshold(0.02 / 2)
    assert strict[0].threshold > found[0].threshold


def test_a_cosine_serves_without_calibration(register: Path, shared_dir: Path) -> None:
    """Where there is no calibration a cosine is asked for, and serves."""
    with Register(register) as opened:
        voices = opened.voices()
    model = load_speaker_model("tiny")
    plain = Backend(model.sha256, top=300)
    with pytest.raises(SettingsError, match="--threshold"):
        Identifier(model, plain, voices)
    identifier = Identifier(model, plain, voices, threshold=0.6)
    samples = read_audio(recordings(shared_dir, WOMAN, 1, 7)[0])
    found = identifier.identify(Voices(model.embed(samples).numpy()[None], np.array([4.0])))
    assert found[0].name == "Anna Bell"
    assert 0.6 < found[0].score <= 1.0


def test_nobody_is_two_people(register: Path, calibration: Path) -> None:
    """Of two speakers who both sound like one voice, the better one is it; nobody is nobody."""
    identifier = load_identifier("tiny", register, calibration, 0.02)
    with Register(register) as opened:
        own, other = (take.embedding for take in opened.voice("Anna Bell").takes[:2])
        max_ = opened.voice("Max").takes[0].embedding
    voices = Voices(np.stack([0.9 * own + 0.1 * max_, other, max_, own]), np.full(4, 6.0))
    scores = identifier.scores(voices)
    assert (scores[[0, 1, 3], 0] > identifier.threshold).all(), "all three sound like her"
    names = identifier.assign(voices)
    best = int(scores[:, 0].argmax())
    assert [row for row, name in enumerate(names) if name == "Anna Bell"] == [best]
    assert names[2] == "Max"
    nothing = Voices(np.zeros((0, identifier.model.size), np.float32), np.zeros(0))
    assert identifier.assign(nothing) == []


def test_all_or_nothing(
    register: Path, calibration: Path, shared_dir: Path, silence: Path, conversation: Path
) -> None:
    """A silent recording, or two people in one, and none of those named with it is enrolled."""
    good = recordings(shared_dir, STRANGER, 1)[0]
    before = register.read_bytes()
    with pytest.raises(AudioError, match="silent"):
        enroll("Eva", [good, silence], register=register, backend=calibration)
    for backend in (calibration, None):
        with pytest.raises(AudioError, match=r"conversation\.wav: more than one voice"):
            enroll("Eva", [good, conversation], register=register, backend=backend)
    assert register.read_bytes() == before


def test_noise_is_no_voice(register: Path, tmp_path: Path) -> None:
    """What is loud now and then, and no voice, is refused."""
    rng = np.random.default_rng(0)
    loud = np.where(np.arange(6 * RATE) // RATE % 2, 0.1, 0.001)
    bursts = loud * rng.standard_normal(6 * RATE)
    soundfile.write(tmp_path / "bursts.wav", bursts, RATE)
    with pytest.raises(AudioError, match="no voice found"):
        enroll("Eva", [tmp_path / "bursts.wav"], register=register)


def test_clipping_is_warned_of(shared_dir: Path, tmp_path: Path) -> None:
    """A clipped recording is enrolled, with a warning that names it."""
    samples = read_audio(recordings(shared_dir, STRANGER, 1)[0])
    path = tmp_path / "loud.wav"
    soundfile.write(path, np.clip(8 * samples / np.abs(samples).max(), -1, 1), RATE)
    with pytest.warns(AudioWarning, match=r"loud\.wav: .* cut off"):
        voice = enroll("Eva", [path], register=tmp_path / "voices.db")
    assert [take.file for take in voice.takes] == ["loud.wav"]


def test_verify(calibration: Path, shared_dir: Path) -> None:
    """One person twice is probable, two people are not; the prior moves both."""
    one, again = recordings(shared_dir, WOMAN, 2, 5)
    other = recordings(shared_dir, MAN, 1, 5)[0]
    same = verify(one, again, backend=calibration)
    assert same.same_speaker
    assert same.probability is not None
    assert same.probability > 0.9
    different = verify(one, other, backend=calibration)
    assert different.same_speaker is False
    assert different.cosine < same.cosine
    assert verify(other, one, backend=calibration).llr == pytest.approx(different.llr, abs=1e-3)
    rare = verify(one, again, backend=calibration, prior=1e-6)
    assert (rare.same_speaker, rare.llr) == (False, same.llr)
