"""Whose track is which: laws of the mix, on talkers of noise whose tracks are known."""

from collections.abc import Iterator
from itertools import pairwise, product

import numpy as np
import pytest
from numpy.typing import NDArray

from wavlm_meeting.speaker_tracks import (
    FADE_S,
    Mix,
    Turns,
    energies_of,
    mix_of,
    owners_of,
    units_of,
)

RATE = 8000
Samples = NDArray[np.float32]


def cut(tracks: Samples, size: int) -> Iterator[Samples]:
    """Give tracks (J, N) in blocks."""
    for start in range(0, tracks.shape[1], size):
        yield tracks[:, start : start + size]


def talkers(turns: Turns, names: str, length_s: float) -> Samples:
    """Make noise (K, N) where each speaks."""
    draw = np.random.default_rng(0)
    voices = np.zeros((len(names), int(length_s * RATE)), np.float32)
    for start, end, name in turns:
        place = slice(int(start * RATE), int(end * RATE))
        voices[names.index(name), place] = draw.standard_normal(place.stop - place.start)
    return voices


def spoken(turns: Turns, samples: int, name: str | None = None) -> NDArray[np.bool_]:
    """Say where somebody, or `name`, speaks (N,)."""
    flags = np.zeros(samples, np.bool_)
    for start, end, who in turns:
        if name in (None, who):
            flags[round(start * RATE) : round(end * RATE)] = True
    return flags


def mixed(turns: Turns, names: str, tracks: Samples, size: int = 5000) -> tuple[Mix, Samples]:
    """Decide and mix, block by block; gives the speakers' samples (K, N), too."""
    mix = mix_of(turns, list(names), cut(tracks, size), tracks.shape[1], RATE)
    first, parts = 0, []
    for block in cut(tracks, size):
        parts.append(mix(first, block))
        first += block.shape[1]
    return mix, np.concatenate(parts, axis=1)


TURNS: Turns = (
    (0.5, 3.0, "A"),
    (2.5, 5.0, "B"),
    (6.0, 8.0, "B"),
    (6.9, 7.3, "A"),
    (9.0, 9.5, "C"),
    (9.3, 11.0, "A"),
    (10.0, 10.5, "C"),
)


@pytest.mark.parametrize("swaps", list(product([False, True], repeat=3)))
def test_everybody_has_their_own_voice(swaps: tuple[bool, ...]) -> None:
    """Whatever the order of the tracks is after each pause, each speaker's track is their voice."""
    voices = talkers(TURNS, "ABC", 12.0)
    # Who of the three is on the first track, and who on the second, in each group of turns.
    groups = [(0.0, 5.5, (0, 1)), (5.5, 8.5, (1, 0)), (8.5, 12.0, (2, 0))]
    tracks = np.zeros((2, voices.shape[1]), np.float32)
    for (start, end, pair), swapped in zip(groups, swaps, strict=True):
        place = slice(int(start * RATE), int(end * RATE))
        order = pair[::-1] if swapped else pair
        tracks[:, place] = voices[list(order), place]
    tracks = 0.9 * tracks + 0.1 * tracks[::-1]  # a tenth of each leaks into the other
    _, found = mixed(TURNS, "ABC", tracks)
    for own, voice in zip(found, voices, strict=True):
        noise = own - voice
        assert 10 * np.log10(np.square(voice).sum() / np.square(noise).sum()) > 15


@pytest.mark.parametrize("seed", range(5))
def test_nothing_is_lost_or_doubled(seed: int) -> None:
    """Wherever somebody speaks, the speakers' tracks add up to both tracks, whatever these hold."""
    draw = np.random.default_rng(seed)
    starts = np.sort(draw.uniform(0, 19, 25))
    turns = [
        (round(start, 3), round(min(start + length, 20.0), 3), name)
        for start, length, name in zip(
            starts, draw.uniform(0.01, 3, 25), draw.choice(list("ABCD"), 25), strict=True
        )
    ]
    tracks = draw.standard_normal((2, 20 * RATE)).astype(np.float32)
    _, found = mixed(turns, "ABCD", tracks)
    speech = spoken(turns, tracks.shape[1])
    np.testing.assert_allclose(found.sum(axis=0)[speech], tracks.sum(axis=0)[speech], atol=1e-5)
    fade = int(FADE_S * RATE) + 1
    for own, name in zip(found, "ABCD", strict=True):
        near = np.convolve(spoken(turns, tracks.shape[1], name), np.ones(2 * fade + 1), "same") > 0
        assert not own[~near].any(), "silent but for fades where they do not speak"


def test_who_is_alone_is_heard_whole() -> None:
    """A recording of one speaker is both tracks together, wherever they are said to speak."""
    tracks = np.random.default_rng(0).standard_normal((2, 4 * RATE)).astype(np.float32)
    _, found = mixed([(0.0, 4.0, "A")], "A", tracks)
    np.testing.assert_allclose(found[0], tracks.sum(axis=0), atol=1e-6)


def test_a_noise_does_not_flip_a_turn() -> None:
    """A burst on the other track while somebody speaks alone changes nothing afterwards."""
    turns = [(0.0, 6.0, "A"), (5.0, 8.0, "B")]
    voices = talkers(turns, "AB", 8.0)
    tracks = voices.copy()
    tracks[1, int(4.6 * RATE) : 5 * RATE] += 3.0  # just before they speak at once
    units = units_of(turns, "AB", tracks.shape[1], RATE)
    owners = owners_of(units, energies_of(units, [tracks]), RATE)
    assert {own for unit, own in zip(units, owners, strict=True) if unit.speakers == (0, 1)} == {
        (0, 1)
    }


def test_fades_are_gentle() -> None:
    """From sample to sample a gain changes by no more than a fade's slope."""
    tracks = np.ones((2, 12 * RATE), np.float32)
    mix, found = mixed(TURNS, "ABC", tracks)
    assert np.abs(np.diff(found, axis=1)).max() <= 2.01 / (FADE_S * RATE)
    assert (np.diff(mix.edges) >= 0).all()


def test_blocks_do_not_matter() -> None:
    """Blocks of any size give the same samples."""
    tracks = np.random.default_rng(1).standard_normal((2, 12 * RATE)).astype(np.float32)
    whole = mixed(TURNS, "ABC", tracks, tracks.shape[1])[1]
    for size in (77, 800):
        np.testing.assert_array_equal(mixed(TURNS, "ABC", tracks, size)[1], whole)


def test_units_cover_everything_once() -> None:
    """Units follow each other without a gap, and say who speaks."""
    units = units_of(TURNS, "ABC", 12 * RATE, RATE)
    assert units[0].start == 0
    assert units[-1].end == 12 * RATE
    assert all(a.end == b.start for a, b in pairwise(units))
    for number, name in enumerate("ABC"):
        flags = np.zeros(12 * RATE, np.bool_)
        for unit in units:
            flags[unit.start : unit.end] = number in unit.speakers
        np.testing.assert_array_equal(flags, spoken(TURNS, 12 * RATE, name))


def test_energies_do_not_depend_on_blocks() -> None:
    """The energy of each unit is that of its samples."""
    tracks = np.random.default_rng(2).standard_normal((2, 12 * RATE)).astype(np.float32)
    units = units_of(TURNS, "ABC", 12 * RATE, RATE)
    expected = [np.square(tracks[:, unit.start : unit.end]).sum(axis=1) for unit in units]
    for size in (313, 5000, 12 * RATE):
        np.testing.assert_allclose(energies_of(units, cut(tracks, size)), expected, rtol=1e-5)


def test_three_at_once_share_two_tracks() -> None:
    """Of three who speak at once, those on a track before stay; nothing is lost."""
    turns = [(0.0, 3.0, "A"), (1.0, 4.0, "B"), (1.5, 2.5, "C")]
    tracks = talkers(turns[:2], "AB", 4.0)
    _, found = mixed(turns, "ABC", tracks)
    np.testing.assert_allclose(found[:2], tracks, atol=1e-6)
    assert not found[2].any()


def test_silence_has_no_tracks() -> None:
    """Where nobody speaks there is nobody's track."""
    tracks = np.zeros((2, RATE), np.float32)
    mix, found = mixed([], "", tracks)
    assert found.shape == (0, RATE)
    assert mix.gains.shape[1] == 0
