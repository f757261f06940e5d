"""Training of the separation head: it learns, and what is frozen stays."""

from typing import Any

import pytest
import torch

pytest.importorskip("lightning", reason="training needs the extra 'train'")
pytest.importorskip("asteroid", reason="training needs the extra 'train'")

from wavlm_meeting.separation.model import build_head
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.separation.task import Batch, SeparationTask, TaskSettings
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

ENCODER = WavLMConfig(
    conv_layers=((8, 40, 20), (8, 4, 4)), width=16, layers=1, heads=2, ffn=16,
    position_kernel=8, position_groups=2, dropout=0.5,
)  # fmt: skip
SETTINGS = SeparationSettings(
    fft=128, hop=64, layers=1, width=32, heads=2, ffn=32, kernel=5, subsampling=2
)


def task_of(*, features: bool = True, **changes: Any) -> SeparationTask:
    """Return a small task at its start, in training."""
    torch.manual_seed(0)
    encoder = WavLM(ENCODER) if features else None
    head = build_head(ENCODER, SETTINGS.model_copy(update={"features": features}))
    task = SeparationTask(encoder, head, TaskSettings(**{"steps": 40, **changes})).train()
    task.on_train_start()
    return task


def batch_of() -> Batch:
    """Return windows of two tones each and a little noise."""
    time = torch.arange(4000) / 16_000
    pitches = torch.tensor([[300.0, 1700.0], [2600.0, 500.0], [900.0, 4000.0]])
    images = 0.1 * torch.sin(2 * torch.pi * pitches[..., None] * time)
    images[2, 1] = 0  # one talks alone
    torch.manual_seed(1)
    noise = 0.003 * torch.randn(3, 4000)
    return Batch(images.sum(dim=1) + noise, images, noise)


def total(task: SeparationTask, batch: Batch) -> torch.Tensor:
    """Return what is minimised."""
    losses = task.losses(batch)
    return losses["talkers"] + task.settings.noise_weight * losses["noise"]


def learn(task: SeparationTask, batch: Batch, steps: int = 40) -> float:
    """Train on one batch and return the last loss."""
    found = task.configure_optimizers()
    optimizer, scheduler = found["optimizer"], found["lr_scheduler"]["scheduler"]
    for _ in range(steps):
        optimizer.zero_grad()
        loss = total(task, batch)
        loss.backward()
        optimizer.step()
        scheduler.step()
    return loss.item()


@pytest.mark.parametrize("objective", ["magnitude", "sdr"])
@pytest.mark.parametrize("features", [True, False])
def test_tones_are_told_apart(objective: str, features: bool) -> None:
    """Either objective falls far on what is easy, with and without an encoder."""
    task = task_of(features=features, objective=objective, learning_rate=1e-2)
    first = total(task, batch_of()).item()
    last = learn(task, batch_of())
    assert last < (first - 8.0 if objective == "sdr" else 0.3 * first)


def test_a_frozen_encoder_stays() -> None:
    """It gets no gradients and drops nothing out; the head alone is optimised."""
    task = task_of()
    assert task.encoder is not None
    before = {name: weight.clone() for name, weight in task.encoder.state_dict().items()}
    assert torch.equal(total(task, batch_of()), total(task, batch_of()))  # no dropout
    learn(task, batch_of(), 3)
    for name, weight in task.encoder.state_dict().items():
        assert torch.equal(weight, before[name])
    groups = task.configure_optimizers()["optimizer"].param_groups
    optimised = sum(len(group["params"]) for group in groups)
    assert optimised == len(list(task.head.parameters()))


def test_a_tuned_encoder_learns_at_its_own_rate() -> None:
    """All that is run gets gradients, and a tenth of the head's rate."""
    task = task_of(frozen=False)
    total(task, batch_of()).backward()
    assert task.encoder is not None
    without = {name for name, p in task.encoder.named_parameters() if p.grad is None}
    assert without == {"mask_embedding"}
    groups = task.configure_optimizers()["optimizer"].param_groups
    rates = {id(p): group["max_lr"] for group in groups for p in group["params"]}
    assert {rates[id(p)] for p in task.head.parameters()} == {1e-3}
    tuned = [p for p in task.encoder.parameters() if p.requires_grad]
    assert {round(rates[id(p)], 12) for p in tuned} == {1e-4}


def test_bfloat16_is_near_to_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products in half precision change the loss by little, and gradients stay float32."""
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"bf16": True}, raising=False)
    exact, half = task_of(), task_of(bfloat16=True)
    one, other = total(exact, batch_of()), total(half, batch_of())
    assert other != one
    assert other.item() == pytest.approx(one.item(), rel=0.03)
    other.backward()
    assert all(p.grad is not None and p.grad.dtype == torch.float32 for p in half.head.parameters())
