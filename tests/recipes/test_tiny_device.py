"""What is drawn for a GPU and rendered there is what is rendered here."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.small_prepared import Prepared, write_prepared
from wavlm_meeting.audio.simulate import ConversationSettings, Utterance
from wavlm_meeting.config import parse_settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.tiny.collection import Collection, load_collection
from wavlm_meeting.training.scene_packing import ScenePacker
from wavlm_meeting.training.scene_rendering import SceneRenderer
from wavlm_meeting.training.separation_data import MixtureBatches, MixtureBatchSettings
from wavlm_meeting.training.separation_rooms import RoomPool, write_room
from wavlm_meeting.wavlm.config import WavLMConfig

pytest.importorskip("lightning", reason="training needs the extra 'train'")
from wavlm_meeting.diarization.task import Batch
from wavlm_meeting.recipes.tiny.crops import CropBatch, CropBatches, CropReader
from wavlm_meeting.recipes.tiny.data import PlannedBatch, WindowBatches
from wavlm_meeting.recipes.tiny.separate import MixturePlans, rendered, responses_of
from wavlm_meeting.recipes.tiny.settings import DataSettings, TinySettings
from wavlm_meeting.recipes.tiny.train import build_task, samples_on, sizes_of

SECOND = 16_000
CPU = torch.device("cpu")
ENCODER = WavLMConfig(
    conv_layers=((8, 400, 160), (8, 4, 4)), frontend_norm="layer", width=32, heads=2
)


def unlike(reference: torch.Tensor, found: torch.Tensor) -> float:
    """Return the energy of the difference as a share of the reference's."""
    return float((reference - found).square().sum() / reference.square().sum())


@pytest.fixture(scope="module")
def collection(tmp_path_factory: pytest.TempPathFactory) -> Collection:
    """Give four speakers of two utterances, each a level of its own, a noise, and coded copies."""
    rng = np.random.default_rng(0)
    work = tmp_path_factory.mktemp("prepared")

    def sound(seconds: int) -> np.ndarray:
        return (rng.standard_normal(seconds * SECOND) * 2000).astype(np.int16)

    said = [Prepared(sound(4 + n), f"s{n // 2}", "a", "train") for n in range(8)]
    write_prepared(work, [*said, Prepared(sound(3), "", "", "train", "noise")])
    found = load_collection(work, "train")
    return replace(
        found,
        coded_samples=np.ascontiguousarray(found.samples[::-1]),
        coded=np.array([True] * 8 + [False]),
    )


def test_planned_batches_are_the_rendered_ones(collection: Collection) -> None:
    """The same windows and targets, coded copies and background among them."""
    scene = ConversationSettings(room=0.0, noise=0.5, telephone=0.3, companded=0.5)
    settings = DataSettings(
        window_s=2.0,
        batch=12,
        conversation_windows=6,
        in_a_row=3,
        speaker_shares=(0.5, 0.5),
        coded=0.5,
        conversation=scene,
    )
    here = WindowBatches(collection, settings, ENCODER, 4, seed=1).batch(0)
    planned = WindowBatches(collection, settings, ENCODER, 4, seed=1, planned=True).batch(0)
    assert isinstance(here, Batch)
    assert isinstance(planned, PlannedBatch)
    there = planned.rendered(SceneRenderer(samples_on(CPU, collection)))
    for own, other in zip(here[1:], there[1:], strict=True):
        assert torch.equal(own, other)
    assert unlike(here.waveforms, there.waveforms) < 1e-3
    plain = WindowBatches(replace(collection, coded=None), settings, ENCODER, 4, seed=1).batch(0)
    assert isinstance(plain, Batch)
    assert unlike(here.waveforms, plain.waveforms) > 0.1


def test_a_task_renders_what_is_planned(collection: Collection) -> None:
    """On its way to the device; what is rendered already only moves."""
    settings = DataSettings(window_s=2.0, batch=4, speaker_shares=(0.5, 0.5))
    planned = WindowBatches(collection, settings, ENCODER, 4, seed=2, planned=True).batch(0)
    assert isinstance(planned, PlannedBatch)
    encoder = ENCODER.model_copy(update={"conv_layers": ((16, 400, 160), (16, 4, 4))})
    task = build_task(TinySettings(encoder=encoder), 2)
    task.renderer = SceneRenderer(samples_on(CPU, collection))
    expected = planned.rendered(task.renderer)
    found = task.transfer_batch_to_device(planned, CPU, 0)
    for batch in (found, task.transfer_batch_to_device(found, CPU, 0)):
        assert all(map(torch.equal, expected, batch))


def test_sizes_hold_everybody(collection: Collection) -> None:
    """As many speakers as are drawn at most, or as one of the real meetings has."""
    settings = DataSettings(conversation_windows=3, speaker_shares=(0.5, 0.5))
    assert sizes_of(collection, settings) == (3, 2)
    crowd = [Utterance(0, f"m{n}", ((0, SECOND),)) for n in (0, 1, 2, 2, 3)]
    assert sizes_of(replace(collection, meetings=[crowd[:1], crowd]), settings) == (3, 4)


def test_rows_are_apart_in_one_conversation(collection: Collection) -> None:
    """The next row is as long and begins when the last has ended; people and rooms are the same."""
    rows = {"conversation_windows": 6, "in_a_row": 3, "spread": 3.0}
    settings = DataSettings(window_s=2.0, batch=24, speaker_shares=(0.0, 1.0), **rows)
    scenes = WindowBatches(collection, settings, ENCODER, 4, seed=1).scenes(0)
    assert [len(scene.windows) for scene in scenes] == [3] * 8
    apart = 0
    for first, second in zip(scenes[::2], scenes[1::2], strict=True):
        assert first.plan.length == second.plan.length == 6 * SECOND
        assert set(first.plan.speakers) == set(second.plan.speakers)
        assert first.plan.rooms == second.plan.rooms
        assert first.plan.placements != second.plan.placements
        background = first.plan.noise, second.plan.noise
        if all(background):
            begun, later = (noise.offset for noise in background)
            assert 6 * SECOND <= later - begun < 2 * 18 * SECOND
            apart += 1
    assert apart
    drawn = {frozenset(scene.plan.speakers) for scene in scenes}
    assert len(drawn) > 1
    with pytest.raises(SettingsError, match="make it a multiple"):
        parse_settings({"conversation_windows": 4, "in_a_row": 3}, DataSettings, "data")


def test_crops_carry_the_labels_of_their_frames() -> None:
    """A crop is its samples from a frame's first one on; beyond the end is silence."""
    samples = torch.arange(1, 40_001).to(torch.int16)
    labels = torch.arange(60)
    table = torch.tensor([[0, 24_000, 0, 37], [24_000, 16_000, 37, 23]])
    reader = CropReader(samples, labels, table, ENCODER, crop_s=1.0)
    noises = torch.tensor([[100, 50]])
    batch = reader.read(CropBatch(torch.tensor([0, 1]), torch.tensor([5, 4]), noises, ["0", "1"]))
    first = 5 * ENCODER.hop
    assert torch.equal(batch.waveforms[0] * 32768, samples[first : first + SECOND].float())
    assert batch.lengths.tolist() == [SECOND, SECOND - 4 * ENCODER.hop]
    assert batch.waveforms[1, batch.lengths[1] :].abs().max() == 0
    frames = ENCODER.frame_count(SECOND)
    assert batch.labels[0][0].tolist() == list(range(5, 5 + frames))
    assert batch.labels[0][1].tolist() == [*range(41, 60), *[-1] * (frames - 19)]
    assert batch.noises is not None
    assert torch.equal(batch.noises[0, :50] * 32768, samples[100:150].float())
    assert batch.noises[0, 50:].abs().max() == 0


def test_crops_stay_within_their_utterances(collection: Collection) -> None:
    """Whatever is drawn, a crop has the samples that it asks for, from long ones more often."""
    utterances = np.array([0, 7])
    batches = CropBatches(collection, utterances, ENCODER, 2.0, 64, 2, seed=1)
    drawn = batches.batch(3)
    ends = drawn.begins * ENCODER.hop + 2 * SECOND
    assert (ends <= torch.from_numpy(collection.lengths[utterances])[drawn.utterances]).all()
    assert (drawn.utterances == 1).sum() > (drawn.utterances == 0).sum()
    assert torch.equal(drawn.begins, batches.batch(3).begins)


def test_mixtures_are_the_sum_of_their_parts(collection: Collection, tmp_path: Path) -> None:
    """Two talkers at most, each with an image of their own, in a room of the pool or another."""
    for room in range(2):
        late = np.zeros((4, 1, 300), np.float32)
        late[:, :, 100] = 1.0
        write_room(tmp_path / f"room-{room}.npz", late)
    pool = RoomPool(tmp_path)
    responses, places = responses_of(pool)
    assert sorted(places.values()) == list(range(8))
    mixtures = MixtureBatches(
        collection.voices,
        collection.audio,
        MixtureBatchSettings(window_s=2.4, mixtures=6),
        seed=1,
        noises=collection.noises,
        pool=pool,
    )
    packer = ScenePacker(collection.samples, collection.starts, collection.lengths)
    scenes = MixturePlans(mixtures, packer, places).batch(0)
    assert set(scenes.responses.tolist()) <= set(places.values())
    batch = rendered(scenes, SceneRenderer(samples_on(CPU, collection), responses))
    assert batch.images.shape == (6, 2, int(2.4 * SECOND))
    parts = batch.images.sum(dim=1) + batch.noise
    assert torch.allclose(batch.waveforms, parts, atol=1e-5)
    heard = batch.images.abs().amax(dim=2) > 1e-3
    assert heard[:, 0].all()
    assert heard[:, 1].any()
    assert batch.images[:, :, :90].abs().max() < 0.1 * batch.images.abs().max()
