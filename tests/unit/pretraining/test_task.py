"""Pretraining steps: they learn, go on as if never stopped, and stop at what is broken."""

import json
from collections.abc import Iterator
from pathlib import Path

import lightning
import pytest
import torch
from torch.utils.data import DataLoader, IterableDataset

from wavlm_meeting.config import parse_settings
from wavlm_meeting.errors import TrainingError
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.pretraining.task import PretrainingBatch, PretrainingTask

SETTINGS = parse_settings(
    {
        "seed": 3,
        "encoder": {
            "conv_layers": [[16, 10, 5], [16, 8, 8], [16, 8, 8]],
            "width": 32, "layers": 2, "heads": 2, "ffn": 32,
            "position_kernel": 16, "position_groups": 2,
        },
        "objective": {"size": 16},
        "masks": {"span": 4},
        "mixing": {"probability": 0.5},
        "optimizer": {"steps": 40, "learning_rate": 2e-3, "bfloat16": False},
    },
    PretrainingSettings,
    "here",
)  # fmt: skip


class Tones(IterableDataset[PretrainingBatch]):
    """Batches of high and low tones whose label is the tone; batch n is always the same."""

    def __init__(self, first: int = 0, broken: int = -1) -> None:
        self.first, self.broken = first, broken

    def __iter__(self) -> Iterator[PretrainingBatch]:
        frames = SETTINGS.encoder.frame_count(16_000)
        for number in range(self.first, 10_000):
            generator = torch.Generator().manual_seed(number)
            high = torch.rand(4, 1, generator=generator) < 0.5
            tone = torch.where(high, 3000.0, 300.0) * torch.arange(16_000) / 16_000
            waves = torch.sin(2 * torch.pi * tone)
            waves += 0.1 * torch.randn(4, 16_000, generator=generator)
            if number == self.broken:
                waves[1, 5] = torch.nan
            yield PretrainingBatch(
                waves, torch.full((4,), 16_000), [high.long().expand(4, frames)],
                [f"tone {number}-{row}" for row in range(4)],
            )  # fmt: skip


class Kept(lightning.Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(self, *args: object) -> None:
        """Take the loss."""
        outputs = args[2]
        self.losses.append(float(outputs["loss"]) if outputs else float("nan"))


def run(
    folder: Path, steps: int, start: Path | None = None, broken: int = -1, skip: bool = False
) -> tuple[list[float], PretrainingTask, Path]:
    """Train for some steps, from the beginning or from a checkpoint."""
    guard = SETTINGS.guard.model_copy(update={"skip": skip})
    task = PretrainingTask(SETTINGS.model_copy(update={"guard": guard}), (2,), folder)
    kept = Kept()
    trainer = lightning.Trainer(
        max_steps=steps, accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, callbacks=[kept],
    )  # fmt: skip
    first = torch.load(start, weights_only=True)["global_step"] if start else 0
    loader = DataLoader(Tones(first, broken), batch_size=None)
    trainer.fit(task, loader, ckpt_path=start, weights_only=True)
    path = folder / f"{steps}.ckpt"
    trainer.save_checkpoint(path)
    return kept.losses, task, path


def test_a_run_that_goes_on_is_the_run_that_was_never_stopped(tmp_path: Path) -> None:
    """Four steps, a new process's worth of state, four more: losses and weights equal eight's."""
    whole, unbroken, _ = run(tmp_path, 8)
    first, _, checkpoint = run(tmp_path, 4)
    torch.manual_seed(999)
    torch.rand(5)
    second, resumed, _ = run(tmp_path, 8, checkpoint)
    assert first + second == whole
    assert len(set(whole)) == 8
    for (name, ours), theirs in zip(
        resumed.state_dict().items(), unbroken.state_dict().values(), strict=True
    ):
        assert ours.equal(theirs), name


def test_it_learns(tmp_path: Path) -> None:
    """Forty steps on tones, half of them mixed, bring the loss well below chance."""
    losses, _, _ = run(tmp_path, 40)
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_a_broken_batch_stops_the_run_and_is_on_disk(tmp_path: Path) -> None:
    """NaN in a waveform: the error names the file, which names the utterances."""
    with pytest.raises(TrainingError, match="loss nan at step 2") as raised:
        run(tmp_path, 5, broken=2)
    path = tmp_path / "broken-step-2-rank-0.json"
    assert str(path) in str(raised.value)
    assert json.loads(path.read_text())["ids"] == [f"tone 2-{row}" for row in range(4)]


def test_a_broken_batch_is_passed_over_if_wanted(tmp_path: Path) -> None:
    """With guard.skip the weights do not move in that step and stay finite."""
    _, task, _ = run(tmp_path, 5, broken=2, skip=True)
    assert task.skipped >= 1
    assert all(parameter.isfinite().all() for parameter in task.parameters())


def test_the_rate_rises_and_falls_linearly() -> None:
    """Up over 8 % of the steps, then straight down to 0."""
    optimizer = {"steps": 1000, "learning_rate": 5e-4, "warmup": 0.08}
    settings = SETTINGS.model_copy(
        update={"optimizer": SETTINGS.optimizer.model_copy(update=optimizer)}
    )
    scheduler = PretrainingTask(settings, (2,)).configure_optimizers()["lr_scheduler"]["scheduler"]
    share = scheduler.lr_lambdas[0]
    assert share(0) == pytest.approx(1 / 81)
    assert share(40) == pytest.approx(41 / 81)
    assert share(80) == 1.0
    assert share(540) == pytest.approx(0.5)
    assert share(1000) == 0.0


def test_hubert_is_two_settings_away(tmp_path: Path) -> None:
    """No mixing, no bias: the same task, without any parameter of the bias."""
    values = SETTINGS.model_dump() | {"mixing": {"probability": 0.0}}
    values["encoder"] |= {"position_bias": "none"}
    task = PretrainingTask(parse_settings(values, PretrainingSettings, "here"), (2,), tmp_path)
    assert not [
        name for name, _ in task.named_parameters() if "bias_table" in name or "gate" in name
    ]
    batch = next(iter(Tones()))
    assert task.losses(batch).total.isfinite()
