"""Mixtures for separation: plain plans, rendered purely; what is heard is the sum of its parts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("lhotse", reason="training needs the extra 'train'")

from wavlm_meeting.audio.simulate import ConversationSettings, Utterance
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.training.separation_mixtures import (
    PATTERNS,
    Mixture,
    MixturePlan,
    MixtureSettings,
    Pattern,
    draw_mixture,
    place,
    render_mixture,
)
from wavlm_meeting.training.separation_rooms import RoomPool, write_room

RATE = 16_000
N = 4 * RATE
DRY = MixtureSettings(
    scene=ConversationSettings(
        room=0.0, noise=0.0, telephone=0.0, equaliser_db=0.0, gain_db=0.0, level_db=(0.0, 0.0)
    )
)


def speech(index: int) -> np.ndarray:
    """Return noise as loud as its index says: six seconds of talker a or b, in two recordings."""
    return np.random.default_rng(index).standard_normal(6 * RATE) * 100 * (1 + index)


def noise(index: int) -> np.ndarray:
    """Return a hum."""
    return np.sin(np.arange(2 * RATE) * (0.01 + index))


VOICES = {
    name: [Utterance(2 * number + n, name, ((800, 5 * RATE),)) for n in range(2)]
    for number, name in enumerate("ab")
}


def drawn(
    seed: int, pattern: Pattern | None = None, settings: MixtureSettings | None = None
) -> MixturePlan:
    """Draw a mixture with a hum to choose."""
    rng = np.random.default_rng(seed)
    return draw_mixture(rng, VOICES, N, settings or MixtureSettings(), [(0, 2 * RATE)], pattern)


def active(image: np.ndarray) -> np.ndarray:
    """Return in which of its tenths of a second an image sounds."""
    return np.square(image).reshape(-1, RATE // 10).mean(axis=1) > 1e-6


def pool_of(folder: Path, microphones: int = 7) -> RoomPool:
    """Write two rooms with three talkers' places and one for noise."""
    for number in range(2):
        rng = np.random.default_rng(number)
        decay = np.exp(-np.arange(800) / 100)
        write_room(folder / f"{number}.npz", rng.standard_normal((4, microphones, 800)) * decay)
    return RoomPool(folder)


def assert_adds_up(found: Mixture, microphones: int = 1) -> None:
    """Check shapes, and that the mixture is the sum of its parts."""
    assert found.waveforms.shape == found.noise.shape == (microphones, N)
    assert found.images.shape == (2, microphones, N)
    parts = found.images.sum(axis=0) + found.noise
    np.testing.assert_allclose(found.waveforms, parts, atol=1e-6)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_talkers_overlap_as_the_pattern_says(pattern: Pattern) -> None:
    """Alone is silence on the second track; in turn never both; throughout nearly always both."""
    both, either = [], []
    for seed in range(8):
        found = render_mixture(drawn(seed, pattern, DRY), speech)
        assert_adds_up(found)
        first, second = (active(image[0]) for image in found.images)
        both.append((first & second).mean())
        either.append((first | second).mean())
        assert second.any() == (pattern != "alone")
    assert np.mean(either) > 0.7
    if pattern in {"alone", "in turn"}:
        assert max(both) <= 0.025  # an edge within a tenth of a second
    elif pattern == "in part":
        assert 0.1 < np.mean(both) < 0.8
    else:
        assert np.mean(both) > 0.8


def test_patterns_come_as_often_as_they_should() -> None:
    """Alone as often as its share says, and never with a second talker."""
    shares = MixtureSettings(pattern_shares=(0.5, 0.0, 0.0, 0.5))
    alone = [len(drawn(seed, None, shares).scene.speakers) == 1 for seed in range(200)]
    assert np.mean(alone) == pytest.approx(0.5, abs=0.1)


def test_a_plan_is_all_there_is() -> None:
    """The same plan renders the same; level and noise are the plan's, the parts add up always."""
    for seed in range(5):
        plan = drawn(seed)
        one, other = (render_mixture(plan, speech, noise) for _ in range(2))
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)
        assert_adds_up(one)
        louder = replace(plan, scene=replace(plan.scene, level_db=plan.scene.level_db + 6.0))
        scaled = render_mixture(louder, speech, noise)
        np.testing.assert_allclose(scaled.images, one.images * 10 ** (6 / 20), rtol=1e-4, atol=1e-7)


def test_rooms_of_a_pool(tmp_path: Path) -> None:
    """What each microphone hears of a talker is their voice through its own response."""
    pool = pool_of(tmp_path)
    loud = MixtureSettings(scene=DRY.scene.model_copy(update={"noise": 1.0}))
    plan = drawn(1, "throughout", loud)
    far = place(np.random.default_rng(0), plan, pool, microphones=7)
    assert len({*far.places}) == 3
    assert far.places[-1] == 3
    found = render_mixture(far, speech, noise, pool)
    assert_adds_up(found, 7)
    dry = render_mixture(plan, speech, noise)
    responses = pool.responses(far.room or 0).astype(np.float64)
    for talker, spot in enumerate(far.places[:-1]):
        level = np.sqrt(np.square(responses[spot, 0]).sum())
        for microphone in (0, 4):
            slow = np.convolve(dry.images[talker, 0], responses[spot, microphone] / level)[:N]
            np.testing.assert_allclose(found.images[talker, microphone], slow, atol=1e-4)
    assert np.square(found.images).sum() != pytest.approx(np.square(dry.images).sum())
    single = {place(np.random.default_rng(n), plan, pool).microphones for n in range(30)}
    assert len(single) > 3
    assert all(len(heard) == 1 for heard in single)
    assert_adds_up(render_mixture(place(np.random.default_rng(0), plan, pool), speech, noise, pool))


def test_a_pool_that_is_none(tmp_path: Path) -> None:
    """An empty folder, and files that hold something else, are said in one line."""
    with pytest.raises(SettingsError, match="no rooms"):
        RoomPool(tmp_path)
    (tmp_path / "bad.npz").write_bytes(b"no")
    with pytest.raises(SettingsError, match="not a room"):
        RoomPool(tmp_path).responses(0)
    write_room(tmp_path / "bad.npz", np.zeros((2, 1, 5)))
    with pytest.raises(SettingsError, match=r"shape \(2, 1, 5\)"):
        RoomPool(tmp_path).shape(0)
