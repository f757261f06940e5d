"""Laws of simulated conversations: the plan says all, and rendering it adds nothing."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from wavlm_meeting.audio.room import Room, room_response
from wavlm_meeting.audio.simulate import (
    SOLO_LEVEL,
    ConversationPlan,
    ConversationSettings,
    Noise,
    Placement,
    Utterance,
    crop,
    draw_conversation,
    render,
)
from wavlm_meeting.errors import SettingsError

RATE = 16_000
SETTINGS = ConversationSettings(telephone=0.0)
DRY = Room(0.0, 12.0, (0.0,) * 8, 0)


def said(index: int) -> np.ndarray:
    """Give one of a few loud, endlessly varied 'voices' of five seconds."""
    return (np.random.default_rng(index).standard_normal(5 * RATE) * 3000).astype(np.int16)


def voices(count: int) -> dict[str, list[Utterance]]:
    """Give speakers of two utterances each, with a pause in the middle."""
    speech = ((800, 30_000), (40_000, 79_000))
    return {
        f"speaker {number}": [
            Utterance(2 * number + take, f"speaker {number}", speech) for take in (0, 1)
        ]
        for number in range(count)
    }


def plan_of(count: int, seed: int, seconds: int = 40) -> ConversationPlan:
    """Draw a conversation with noise."""
    rng = np.random.default_rng(seed)
    return draw_conversation(rng, voices(count), seconds * RATE, SETTINGS, [(99, 5 * RATE)])


@pytest.mark.parametrize("count", [1, 2, 6])
def test_equal_seeds_give_equal_conversations(count: int) -> None:
    """A seed fixes plan and waveform; another seed gives another one."""
    first, second, other = plan_of(count, 7), plan_of(count, 7), plan_of(count, 8)
    assert first == second != other
    assert np.array_equal(render(first, said, said), render(second, said, said))


def test_everybody_speaks_and_nobody_twice_at_once() -> None:
    """All speakers of a conversation get a turn, and nobody talks over themselves."""
    for seed in range(20):
        plan = plan_of(4, seed)
        assert len(plan.speakers) == 4
        for name in plan.speakers:
            own = sorted((s, e) for s, e, speaker in plan.turns() if speaker == name)
            assert all(end <= start for (_, end), (start, _) in pairwise(own))
            assert all(0 <= start < end <= plan.length for start, end in own)


def test_a_crop_sounds_like_the_stretch_that_it_is_cut_from() -> None:
    """Rendering a crop equals cutting the rendered whole, room and coloured noise included."""
    plan = plan_of(3, 3, seconds=20)
    assert plan.noise is not None
    plan = replace(plan, noise=replace(plan.noise, equaliser_db=(12.0, 6.0, 0.0, -4.0)))
    start, length = 5 * RATE + 123, 6 * RATE
    part = render(crop(plan, start, length), said, said)
    whole = render(plan, said, said)[start : start + length]
    assert np.abs(part - whole).max() < 1e-4 * np.abs(whole).max()


def test_turns_are_where_the_sound_is() -> None:
    """Without room and noise, all energy lies within the turns, and every turn has some."""
    plan = replace(plan_of(3, 5), noise=None, rooms=dict.fromkeys(voices(3), DRY))
    excerpts = [(p.start, p.start + p.end - p.begin) for p in plan.placements]
    waveform = render(plan, said)
    outside = np.ones(plan.length, bool)
    for start, end in excerpts:
        outside[max(start, 0) : end] = False
    assert np.abs(waveform[outside]).max(initial=0.0) < 1e-6 * np.abs(waveform).max()
    for start, end, _ in plan.turns():
        assert np.abs(waveform[start:end]).max() > 0.1 * np.abs(waveform).max()


def test_gains_and_noise_have_the_drawn_ratio() -> None:
    """A speaker at 0 dB has the nominal level; noise lies `snr_db` below it."""
    utterance = Utterance(1, "a", ((0, 5 * RATE),))
    plan = ConversationPlan(
        length=5 * RATE,
        placements=(Placement(utterance, 0, 5 * RATE, 0),),
        rooms={"a": DRY},
        gains_db={"a": 6.0},
        noise=None,
        telephone=False,
        level_db=0.0,
    )
    speech = render(plan, said)
    noisy = render(replace(plan, noise=Noise(7, 0, 10.0)), said, said)
    rms = [float(np.sqrt(np.mean(x**2))) for x in (speech, noisy - speech)]
    assert rms[0] == pytest.approx(SOLO_LEVEL * 10 ** (6 / 20), rel=0.01)
    assert 20 * np.log10(SOLO_LEVEL / rms[1]) == pytest.approx(10.0, abs=0.1)


def test_a_room_decays_by_60_db_in_its_reverberation_time() -> None:
    """The energy that is left in the tail falls as the drawn reverberation time says."""
    response = room_response(Room(0.5, -10.0, (0.0,) * 8, 1)).astype(float)
    left = 10 * np.log10(np.cumsum(response[::-1] ** 2)[::-1])
    slope = (left[int(0.3 * RATE)] - left[int(0.1 * RATE)]) / 0.2
    assert slope == pytest.approx(-60 / 0.5, rel=0.1)


def test_a_telephone_leaves_300_to_3400_hz() -> None:
    """Outside of the band nothing is left; inside all is."""
    plan = replace(plan_of(2, 1), telephone=True)
    power = np.abs(np.fft.rfft(render(plan, said, said))) ** 2
    frequency = np.fft.rfftfreq(plan.length, 1 / RATE)
    inside = (frequency >= 300) & (frequency <= 3400)
    assert power[~inside].sum() < 1e-6 * power[inside].sum()


def test_speakers_share_a_channel_as_often_as_drawn() -> None:
    """One place and channel for everybody with the probability that is set; else all differ."""
    rng, shared, tries = np.random.default_rng(0), 0, 400
    settings = SETTINGS.model_copy(update={"one_channel": 0.3})
    for _ in range(tries):
        plan = draw_conversation(rng, voices(3), RATE, settings)
        different = len(set(plan.rooms.values()))
        assert different in {1, 3}
        shared += different == 1
    assert abs(shared / tries - 0.3) < 4 * np.sqrt(0.3 * 0.7 / tries)


def test_an_equaliser_is_heard_as_drawn() -> None:
    """Gains at its bands are those of the plan, and nothing is heard before the direct sound."""
    gains_db = (2.0, -3.0, 5.0, 0.0, -6.0, 4.0, -2.0, 3.0)
    response = room_response(Room(0.0, 12.0, gains_db, 0))
    mel = np.linspace(0.0, np.log1p(RATE / 2 / 700), len(gains_db))
    bins = np.round(700 * np.expm1(mel) / RATE * 8192).astype(int)
    level_db = 20 * np.log10(np.abs(np.fft.rfft(response, 8192)))
    assert level_db[bins] == pytest.approx(gains_db, abs=0.6)
    assert np.argmax(np.abs(response)) == 0


def test_a_conversation_has_one_tilt_of_the_drawn_spread() -> None:
    """All responses of a conversation rise alike, in each octave by about what was drawn."""
    rng, tries = np.random.default_rng(0), 300
    settings = SETTINGS.model_copy(update={"room": 0.0, "equaliser_db": 0.0, "tilt_db": 2.0})
    frequency = np.fft.rfftfreq(512, 1 / RATE)
    slopes = []
    for _ in range(tries):
        first, second = draw_conversation(rng, voices(2), RATE, settings).rooms.values()
        assert first.equaliser_db == second.equaliser_db
        level_db = 20 * np.log10(np.abs(np.fft.rfft(room_response(first), 512)))
        one, two, four = (float(level_db[frequency == hertz][0]) for hertz in (1000, 2000, 4000))
        assert two - one == pytest.approx(four - two, abs=0.3 * abs(four - two))
        slopes.append((four - one) / 2)
    assert np.std(slopes) == pytest.approx(2.0, rel=0.15)
    assert abs(np.mean(slopes)) < 0.5


def test_a_background_is_tilted_as_drawn() -> None:
    """White noise rises by one slope for each conversation, and its level at 1 kHz stays."""
    rng, tries = np.random.default_rng(0), 100
    settings = SETTINGS.model_copy(
        update={"noise": 1.0, "noise_tilt_db": 3.0, "level_db": (0.0, 0.0), "telephone": 0.0}
    )
    white = rng.standard_normal(20 * RATE)
    frequency = np.fft.rfftfreq(1024, 1 / RATE)
    slopes = []
    for _ in range(tries):
        plan = draw_conversation(rng, voices(2), 4 * RATE, settings, [(7, len(white))])
        assert plan.noise is not None
        plan = replace(plan, placements=())
        levels = []
        for each in (plan, replace(plan, noise=replace(plan.noise, equaliser_db=()))):
            heard = render(each, said, lambda _: white)
            frames = heard[: len(heard) // 1024 * 1024].reshape(-1, 1024)
            power = np.square(np.abs(np.fft.rfft(frames)))
            octaves = [(frequency > h / 1.2) & (frequency < h * 1.2) for h in (1000, 2000, 4000)]
            levels.append([10 * np.log10(power[:, octave].mean()) for octave in octaves])
        one, two, four = map(float, np.subtract(*levels))
        assert one == pytest.approx(0.0, abs=0.5 + 0.1 * abs(four - two))
        assert two - one == pytest.approx(four - two, abs=0.5 + 0.2 * abs(four - two))
        slopes.append((four - one) / 2)
    assert np.std(slopes) == pytest.approx(3.0, rel=0.3)


def test_nobody_to_speak_is_refused() -> None:
    """No voices, or one without speech, is a user's error that names them."""
    rng = np.random.default_rng(0)
    with pytest.raises(SettingsError, match="nobody"):
        draw_conversation(rng, {}, RATE, SETTINGS)
    with pytest.raises(SettingsError, match="mute"):
        draw_conversation(rng, {"mute": [Utterance(0, "mute", ())]}, RATE, SETTINGS)
