"""Augmentation: the plan says all, each part does what it is called, and nothing else happens."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from scipy.signal import oaconvolve

pytest.importorskip("lhotse", reason="training needs the extra 'train'")

from wavlm_meeting.audio.room import Room, room_response
from wavlm_meeting.training.augmentation import (
    LEVEL,
    LOUDEST,
    AugmentationSettings,
    Augmenter,
    Background,
    Plan,
)
from wavlm_meeting.training.codecs import NAMES, bit_rates, through_codec
from wavlm_meeting.training.recordings import read_recordings

RATE = 16_000
EVERYTHING = AugmentationSettings(
    untouched=0.0, room=1.0, equaliser=1.0, noise=1.0, clipping=1.0, band=1.0, codec=1.0
)


def rms(waveform: np.ndarray) -> float:
    """Return the level."""
    return float(np.sqrt(np.mean(np.square(waveform, dtype=np.float64))))


@pytest.fixture(scope="module")
def augmenter(tmp_path_factory: pytest.TempPathFactory) -> Augmenter:
    """Give 12 voices, each a tone of its own, three noises, a piece of music and two responses."""
    root = tmp_path_factory.mktemp("sounds")
    rng = np.random.default_rng(0)
    time = np.arange(2 * RATE) / RATE
    for number in range(12):
        path = root / f"voices/{number:02d}.wav"
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, 0.3 * np.sin(2 * np.pi * (100 + 100 * number) * time), RATE)
    for name in ("noise/a", "noise/b", "other/c", "music/d"):
        path = root / f"noises/{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, 0.1 * rng.standard_normal(RATE), RATE)
    for number in range(2):
        path = root / f"rooms/{number}.wav"
        path.parent.mkdir(exist_ok=True)
        response = np.zeros(RATE // 2)
        response[800], response[800 + 400 * (number + 1)] = 0.5, 0.25
        soundfile.write(path, response, RATE, "FLOAT")
    voices = read_recordings(root / "voices")
    voices = replace(voices, speakers=np.arange(12) // 2)
    return Augmenter(
        EVERYTHING, voices, read_recordings(root / "noises"), read_recordings(root / "rooms")
    )


def speech(seconds: float = 1.5) -> np.ndarray:
    """Give something loud of all frequencies."""
    samples = np.random.default_rng(5).standard_normal(int(seconds * RATE))
    return (0.1 * samples).astype(np.float32)


def test_equal_seeds_give_equal_sounds(augmenter: Augmenter) -> None:
    """The plan is a value and rendering it is a function; another seed gives another plan."""
    wave, before = speech(), speech()
    plans = [augmenter.draw(np.random.default_rng(seed), len(wave), 0) for seed in (1, 1, 2)]
    assert plans[0] == plans[1] != plans[2]
    first = augmenter.render(plans[0], wave)
    assert np.array_equal(first, augmenter.render(plans[1], wave))
    assert not np.array_equal(first, augmenter.render(plans[2], wave))
    assert np.array_equal(wave, before)  # the crop itself is left alone


def test_whatever_is_drawn_is_speech_of_the_same_length(augmenter: Augmenter) -> None:
    """Two hundred plans of everything at once: finite, never silent, within full scale."""
    wave = speech(0.5)
    for seed in range(200):
        plan = augmenter.draw(np.random.default_rng(seed), len(wave), 0)
        heard = augmenter.render(plan, wave)
        assert heard.dtype == np.float32
        assert heard.shape == wave.shape
        assert np.isfinite(heard).all()
        assert 1e-4 < np.abs(heard).max() < 1.5  # a codec may overshoot


def test_probabilities_are_those_of_the_settings(augmenter: Augmenter) -> None:
    """Of 2,000 plans each part has its share, within four standard deviations."""
    settings = AugmentationSettings(untouched=0.2)
    drawn = Augmenter(settings, augmenter.voices, augmenter.noises, augmenter.rooms)
    rng = np.random.default_rng(0)
    plans = [drawn.draw(rng, RATE, 0) for _ in range(2000)]
    touched = [plan for plan in plans if plan != Plan()]
    rooms = [plan for plan in touched if plan.response is not None or _reverberates(plan)]
    backgrounds = Counter(plan.background.kind for plan in touched if plan.background)
    shares = {
        "touched": (len(touched) / len(plans), 0.8),
        "room": (len(rooms) / len(touched), settings.room),
        "recorded": (sum(p.response is not None for p in rooms) / len(rooms), settings.recorded),
        "noise": (backgrounds.total() / len(touched), settings.noise),
        "babble": (backgrounds["speech"] / backgrounds.total(), settings.babble),
        "music": (backgrounds["music"] / backgrounds.total(), (1 - settings.babble) / 4),
        "codec": (sum(p.codec is not None for p in touched) / len(touched), settings.codec),
        "band": (sum(p.band is not None for p in touched) / len(touched), settings.band),
        "clipping": (
            sum(p.clipped_at is not None for p in touched) / len(touched), settings.clipping
        ),
    }  # fmt: skip
    for name, (found, expected) in shares.items():
        assert abs(found - expected) < 4 * np.sqrt(expected * (1 - expected) / 700), name


def _reverberates(plan: Plan) -> bool:
    return plan.room is not None and plan.room.reverberation_s > 0


def test_who_speaks_does_not_talk_in_the_background(augmenter: Augmenter) -> None:
    """Three to seven voices, none of them the speaker's own."""
    settings = EVERYTHING.model_copy(update={"babble": 1.0})
    talking = Augmenter(settings, augmenter.voices)
    counts = set()
    for seed in range(100):
        plan = talking.draw(np.random.default_rng(seed), RATE, 3)
        assert plan.background is not None
        assert plan.background.kind == "speech"
        counts.add(len(plan.background.pieces))
        who = {int(talking.voices.speakers[index]) for index, _ in plan.background.pieces}
        assert 3 not in who
    assert counts == {3, 4, 5, 6, 7}


def test_given_speech_is_the_babble(augmenter: Augmenter, tmp_path: Path) -> None:
    """With a source "speech" among the noises, its recordings talk and are no noise."""
    for name in ("speech/a", "noise/b"):
        (tmp_path / name).parent.mkdir()
        soundfile.write(tmp_path / f"{name}.wav", speech(), RATE)
    given = Augmenter(EVERYTHING, augmenter.voices, read_recordings(tmp_path))
    kinds = set()
    for seed in range(50):
        background = given.draw(np.random.default_rng(seed), RATE, 0).background
        assert background is not None
        kinds.add(background.kind)
        named = {bytes(given.noises.paths[index]).decode() for index, _ in background.pieces}
        (path,) = named
        assert Path(path).parent.name == background.kind
    assert kinds == {"speech", "noise"}


@pytest.mark.parametrize("kind", ["noise", "speech"])
def test_the_background_lies_so_much_below(augmenter: Augmenter, kind: str) -> None:
    """Levels have the drawn ratio, after the room; several voices count together."""
    wave = speech()
    pieces = ((0, 100), (1, 0), (5, 7)) if kind == "speech" else ((2, 300),)
    room = Room(0.4, 0.0, (0.0,) * 8, 1)
    alone = augmenter.render(Plan(room=room), wave)
    background = Background(kind, pieces, 6.0)
    both = augmenter.render(Plan(room=room, background=background), wave)
    dry = alone * (LEVEL / rms(alone))
    assert rms(dry) / rms(both - dry) == pytest.approx(10 ** (6 / 20), rel=1e-3)


def test_a_room_filters_as_its_response_does(augmenter: Augmenter) -> None:
    """Statistical rooms equal a plain convolution; recorded ones begin at the direct sound."""
    wave = speech() * np.float32(LEVEL / rms(speech()))
    room = Room(0.3, 3.0, (2.0, -3.0, 0.0, 4.0, 0.0, 0.0, -6.0, 1.0), 3)
    expected = oaconvolve(wave, room_response(room))[: len(wave)]
    heard = augmenter.render(Plan(room=room), speech())
    assert np.abs(heard - expected).max() < 1e-5
    echo = augmenter.render(Plan(response=1), speech())
    lead = RATE // 1000
    expected = np.zeros_like(wave)
    expected[lead:] += 0.5 * wave[:-lead]
    expected[lead + 800 :] += 0.25 * wave[: -lead - 800]
    assert np.abs(echo - expected).max() < 1e-5


def test_clipping_band_and_level(augmenter: Augmenter) -> None:
    """Nothing above the threshold, nothing outside of the band, and the level that was drawn."""
    wave = speech()
    clipped = augmenter.render(Plan(clipped_at=0.4), wave)
    level = LEVEL / rms(wave)
    assert np.abs(clipped).max() == pytest.approx(0.4 * level * np.abs(wave).max(), rel=1e-5)
    assert (np.abs(clipped) > 0.99 * np.abs(clipped).max()).sum() > 100
    power = np.abs(np.fft.rfft(augmenter.render(Plan(band=(300.0, 3400.0)), wave))) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / RATE)
    inside = (frequency >= 300) & (frequency <= 3400)
    assert power[~inside].sum() < 1e-6 * power[inside].sum()
    assert rms(augmenter.render(Plan(level_db=-12.0), wave)) == pytest.approx(
        LEVEL * 10 ** (-12 / 20), rel=1e-5
    )
    loud = augmenter.render(Plan(level_db=60.0), wave)
    assert np.abs(loud).max() == pytest.approx(LOUDEST, rel=1e-5)


@pytest.mark.parametrize("name", NAMES)
def test_codecs_keep_speech_and_its_place(conversation: Path, name: str) -> None:
    """Real speech comes back recognisable, at its level, a tenth of a second late at most."""
    samples, _ = soundfile.read(conversation, start=8 * RATE, frames=3 * RATE, dtype="float32")
    wave = samples * np.float32(0.5 / np.abs(samples).max())
    for bit_rate in (bit_rates(name)[0], bit_rates(name)[-1]):
        heard = through_codec(wave, name, bit_rate)
        assert heard.shape == wave.shape
        size = 2 * len(wave)
        across = np.fft.irfft(np.fft.rfft(heard, size) * np.fft.rfft(wave, size).conj())
        late = int(across[: RATE // 10].argmax())
        assert np.corrcoef(heard[late:], wave[: len(wave) - late])[0, 1] > 0.9
        assert not np.array_equal(heard, wave)
        assert rms(heard) == pytest.approx(rms(wave), rel=0.3)


def test_a_telephone_has_no_sound_above_4_khz() -> None:
    """g711 halves the band; what is louder than full scale survives, in proportion."""
    wave = speech()
    power = np.abs(np.fft.rfft(through_codec(wave, "g711", 64_000))) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / RATE)
    assert power[frequency > 4100].sum() < 1e-3 * power.sum()
    loud = wave * np.float32(2.0 / np.abs(wave).max())
    heard = through_codec(loud, "g711", 64_000)
    scaled = 2 * through_codec(loud / 2, "g711", 64_000)
    assert np.abs(heard - scaled).max() < 1e-5


def test_silence_stays_silence(augmenter: Augmenter) -> None:
    """A crop of zeros neither divides by zero nor becomes noise."""
    nothing = np.zeros(RATE, np.float32)
    plan = Plan(room=Room(0.3, 3.0, (0.0,) * 8, 3), clipped_at=0.5, level_db=0.0)
    assert not augmenter.render(plan, nothing).any()
