"""How fast a training goes: seconds of audio a second, and the share of what the hardware can."""

import time
from collections.abc import Callable
from typing import Any

import lightning
import torch

from wavlm_meeting.devices import has_bfloat16
from wavlm_meeting.units import SAMPLE_RATE

PRODUCT = {"cuda": 8192, "cpu": 1024}
"""Rows of the square matrices that the hardware's speed is measured with."""
TRIES = 5


class Throughput(lightning.Callback):
    """Logs `speed/audio` and `speed/share_of_peak`, over all processes.

    The peak is that of a large matrix product in the dtype of the training, measured before the
    first step. Batches must have `lengths` (B,) in samples; `operations` says how many floating
    point operations a step takes for these.
    """

    def __init__(self, operations: Callable[[list[int]], float], *, half: bool, every: int) -> None:
        self.operations, self.every = operations, every
        self.half = half
        self._peak = self._since = self._seconds = self._work = 0.0

    def on_train_start(self, trainer: lightning.Trainer, _: lightning.LightningModule) -> None:
        """Measure the hardware and start the clock."""
        device = trainer.strategy.root_device
        half = self.half and has_bfloat16(device.type)
        self._peak = product_speed(torch.bfloat16 if half else torch.float32, device)
        self._restart()

    def on_train_batch_end(
        self,
        trainer: lightning.Trainer,
        pl_module: lightning.LightningModule,
        outputs: Any,  # noqa: ARG002 - Lightning gives it by name
        batch: Any,
        batch_idx: int,
    ) -> None:
        """Count, and log now and then."""
        lengths = batch.lengths.tolist()
        self._seconds += sum(lengths) / SAMPLE_RATE
        self._work += self.operations(lengths)
        if (batch_idx + 1) % self.every:
            return
        passed = time.perf_counter() - self._since
        own = torch.tensor([self._seconds, self._work / self._peak], device=pl_module.device)
        total = trainer.strategy.reduce(own / passed, reduce_op="sum")
        pl_module.log_dict(
            {"speed/audio": total[0], "speed/share_of_peak": total[1] / trainer.world_size}
        )
        self._restart()

    def _restart(self) -> None:
        self._since, self._seconds, self._work = time.perf_counter(), 0.0, 0.0


def product_speed(dtype: torch.dtype, device: torch.device) -> float:
    """Measure the operations a second of a large matrix product; the best of some tries."""
    size = PRODUCT.get(device.type, 1024)
    a, b = torch.randn(2, size, size, device=device).to(dtype)
    fastest = float("inf")
    for _ in range(TRIES):
        start = time.perf_counter()
        (a @ b).sum().item()  # waits for a GPU
        fastest = min(fastest, time.perf_counter() - start)
    return 2.0 * size**3 / fastest
