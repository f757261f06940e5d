"""Pretraining on a GPU: mixing, clusters, and a step in bfloat16; skipped where there is none."""

from pathlib import Path

import pytest
import torch

pytest.importorskip("lightning", reason="training needs the extra 'train'")

from wavlm_meeting.config import parse_settings
from wavlm_meeting.pretraining.kmeans import KMeansSettings, fit_kmeans
from wavlm_meeting.pretraining.mixing import MixingSettings, draw_mixing, mix
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.pretraining.task import PretrainingBatch, PretrainingTask

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")

DEVICE = "cuda"
VALUES = {
    "encoder": {"width": 64, "layers": 2, "heads": 2, "ffn": 128},
    "mixing": {"probability": 0.5, "noise_probability": 0.5},
}


def batch(device: str) -> PretrainingBatch:
    """Give the same utterances and noises on any device."""
    torch.manual_seed(0)
    lengths = torch.tensor([64_000, 48_000, 80_000])
    waves = torch.randn(3, 80_000) * (torch.arange(80_000) < lengths[:, None])
    labels = torch.randint(20, (3, 249))
    noises = torch.randn(2, 30_000)
    parts = (waves, lengths, [labels], noises, torch.tensor([30_000, 30_000]))
    waves, lengths, labels, noises, noise_lengths = (
        [own.to(device) for own in part] if isinstance(part, list) else part.to(device)
        for part in parts
    )
    return PretrainingBatch(waves, lengths, labels, ["a", "b", "c"], noises, noise_lengths)


def task(folder: Path, **changes: object) -> PretrainingTask:
    """Give a small task with the same weights every time."""
    settings = parse_settings({**VALUES, **changes}, PretrainingSettings, "here")
    return PretrainingTask(settings, (20,), folder)


def test_mixing_is_that_of_the_cpu() -> None:
    """The same plan on both devices gives the same mixture."""
    here, there = batch("cpu"), batch(DEVICE)
    settings = MixingSettings(probability=1.0, noise_probability=0.5)
    plan = draw_mixing(here.lengths, settings, here.noise_lengths)
    moved = type(plan)(*(value.to(DEVICE) for value in vars(plan).values()))
    expected = mix(here.waveforms, here.lengths, plan, here.noises, here.noise_lengths)
    found = mix(there.waveforms, there.lengths, moved, there.noises, there.noise_lengths)
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_step_in_bfloat16_is_finite_and_near_float32(tmp_path: Path, compiled: bool) -> None:
    """Loss within a per cent of float32's, every gradient finite, compiled layers or not."""
    found = []
    for half in (False, True):
        own = task(tmp_path, optimizer={"bfloat16": half}).to(DEVICE).eval()
        if compiled and half:
            for layer in own.model.encoder.layers:
                layer.compile()
        torch.manual_seed(1)
        torch.cuda.manual_seed(1)
        loss = own.losses(batch(DEVICE)).total
        loss.backward()
        found.append(float(loss))
        assert all(p.grad.isfinite().all() for p in own.parameters() if p.grad is not None)
    assert found[1] == pytest.approx(found[0], rel=0.01)


def test_clusters_are_as_good_as_on_the_cpu() -> None:
    """Inertia on a GPU is within a per cent of that on the CPU."""
    torch.manual_seed(0)
    frames = torch.randn(20_000, 16)
    settings = KMeansSettings(clusters=30, restarts=3, passes=20, batch=2000)
    here, there = fit_kmeans(frames, settings), fit_kmeans(frames, settings, DEVICE)
    assert there.inertia == pytest.approx(here.inertia, rel=0.01)
