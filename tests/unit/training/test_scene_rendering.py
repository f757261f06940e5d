"""Scenes rendered by the batch are those that the plain renderer gives one at a time."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from wavlm_meeting.audio.simulate import (
    ConversationPlan,
    ConversationSettings,
    Samples,
    Utterance,
    crop,
    draw_conversation,
    render,
)
from wavlm_meeting.training.scene_packing import ScenePacker
from wavlm_meeting.training.scene_rendering import SceneRenderer

LENGTH, COUNT = 64_000, 6
STARTS = np.arange(COUNT + 1) * LENGTH
LENGTHS = np.array([*[LENGTH] * COUNT, 32_000])
NOISE = (COUNT, 32_000)


@pytest.fixture(scope="module")
def samples() -> np.ndarray:
    """Give six utterances and a noise, one after the other."""
    rng = np.random.default_rng(0)
    return (rng.standard_normal(STARTS[-1] + NOISE[1]) * 2000).astype(np.int16)


def plans(count: int, **settings: float) -> list[ConversationPlan]:
    """Draw stretches out of the midst of conversations."""
    rng = np.random.default_rng(1)
    voices = {
        f"s{n}": [
            Utterance(2 * n, f"s{n}", ((1000, 30_000), (40_000, 60_000))),
            Utterance(2 * n + 1, f"s{n}", ((0, LENGTH),)),
        ]
        for n in range(3)
    }
    chosen = ConversationSettings.model_validate({"equaliser_db": 3.0, "noise": 0.7, **settings})
    return [
        crop(draw_conversation(rng, voices, 320_000, chosen, [NOISE]), 50_000, 100_000)
        for _ in range(count)
    ]


def one_by_one(samples: np.ndarray, drawn: list[ConversationPlan]) -> Samples:
    """Render each plan by itself."""

    def audio(index: int) -> np.ndarray:
        return samples[STARTS[index] : STARTS[index] + LENGTHS[index]]

    return np.stack([render(plan, audio, audio) for plan in drawn])


def decibels(reference: Samples, found: Samples) -> np.ndarray:
    """Return how far below the reference the difference is, for each row."""
    energy = np.square(reference).sum(axis=1)
    return 10 * np.log10(energy / np.square(reference - found).sum(axis=1))


@pytest.mark.parametrize("noise_tilt_db", [0.0, 3.0])
def test_without_a_room_both_renderers_agree(samples: np.ndarray, noise_tilt_db: float) -> None:
    """Excerpts, levels, equaliser, noise, telephone and G.711 are the same samples."""
    drawn = plans(8, room=0.0, telephone=0.7, companded=0.5, noise_tilt_db=noise_tilt_db)
    assert {(plan.telephone, plan.companded) for plan in drawn} >= {(True, False), (True, True)}
    renderer = SceneRenderer(torch.from_numpy(samples))
    found = renderer.mixtures(ScenePacker(samples, STARTS, LENGTHS).pack(drawn)).numpy()
    assert decibels(one_by_one(samples, drawn), found).min() > 40


def test_rooms_have_the_drawn_reverberation(samples: np.ndarray) -> None:
    """Direct sound first, nothing for 2.5 ms, then a tail of the drawn energy and decay."""
    drawn = plans(6, room=1.0, equaliser_db=0.0)
    scenes = ScenePacker(samples, STARTS, LENGTHS).pack(drawn)
    responses = SceneRenderer(torch.from_numpy(samples)).room_responses(scenes)
    assert torch.allclose(responses[:, 0], torch.ones(len(responses)), atol=1e-5)
    assert responses[:, 1:40].abs().max() < 1e-5
    tails = responses[:, 40:].square()
    wanted = 10 ** (-scenes.rooms[:, 1] / 10)
    assert torch.allclose(tails.sum(dim=1), wanted, rtol=1e-3)
    for tail, (reverberation_s, _) in zip(tails, scenes.rooms.tolist(), strict=True):
        half = int(reverberation_s * 8000)
        fall_db = 10 * torch.log10(tail[: half // 2].sum() / tail[half : half + half // 2].sum())
        assert fall_db == pytest.approx(30.0, abs=3.0)


def test_speakers_of_one_place_share_its_response(samples: np.ndarray) -> None:
    """One channel is one response; else each speaker has one of their own."""
    renderer = SceneRenderer(torch.from_numpy(samples))
    packer = ScenePacker(samples, STARTS, LENGTHS)
    shared = renderer.room_responses(packer.pack(plans(1, room=1.0, one_channel=1.0)))
    own = renderer.room_responses(packer.pack(plans(1, room=1.0)))
    assert len(shared) > 1
    torch.testing.assert_close(shared[0], shared[1])  # threads may round rows differently
    assert not torch.allclose(own[0], own[1], atol=1e-2)


def test_parts_sum_to_the_mixture_and_keep_to_their_speaker(samples: np.ndarray) -> None:
    """Each track is one speaker as heard, at their place in the plan."""
    drawn = plans(4, room=0.0, telephone=0.0)
    scenes = ScenePacker(samples, STARTS, LENGTHS).pack(drawn)
    images, noise = SceneRenderer(torch.from_numpy(samples)).parts(scenes)
    track = 0
    for number, plan in enumerate(drawn):
        for name in plan.speakers:
            own = tuple(p for p in plan.placements if p.utterance.speaker == name)
            alone = one_by_one(samples, [replace(plan, placements=own, noise=None)])
            assert decibels(alone, images[track : track + 1].numpy()).min() > 40
            assert scenes.plans[track] == number
            track += 1
    assert len(noise) == len(drawn)


def test_copies_and_given_responses_are_used(samples: np.ndarray) -> None:
    """A shift takes other samples for one speaker; a response stands for the statistical room."""
    plan = plans(1, room=1.0, noise=0.0, telephone=0.0, equaliser_db=0.0)[0]
    name = plan.speakers[0]
    own = tuple(p for p in plan.placements if p.utterance.speaker == name)
    plan = replace(plan, placements=own)
    twice = torch.from_numpy(np.concatenate([samples, samples[::-1]]))
    late = torch.zeros(1, 300)
    late[0, 200] = 3.0
    packer = ScenePacker(samples, STARTS, LENGTHS)
    renderer = SceneRenderer(twice, late)
    plain = renderer.mixtures(packer.pack([plan], responses=[{name: 0}]))
    copied = renderer.mixtures(packer.pack([plan], [{name: len(samples)}], [{name: 0}]))
    dry = replace(plan, rooms={name: replace(plan.rooms[name], reverberation_s=0.0)})
    direct = torch.from_numpy(one_by_one(samples, [dry]))
    assert torch.allclose(plain[:, 1200:], direct[:, 1000:-200], atol=1e-4)
    turned = torch.from_numpy(one_by_one(np.ascontiguousarray(samples[::-1]), [dry]))
    assert torch.allclose(copied[:, 1200:], turned[:, 1000:-200], atol=1e-4)
