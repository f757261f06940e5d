"""What is random in a step of a training depends on the step alone."""

import lightning
import numpy as np
import torch


class StepSeeds(lightning.Callback):
    """Seeds what is random in a step by run, step and process.

    A run that goes on from a checkpoint then draws what one would that was never stopped.
    """

    def __init__(self, seed: int, accumulate: int) -> None:
        self.seed, self.accumulate = seed, accumulate

    def on_train_batch_start(
        self, trainer: lightning.Trainer, _module: object, _batch: object, batch_idx: int
    ) -> None:
        """Seed the next batch."""
        place = (trainer.global_step, batch_idx % self.accumulate, trainer.global_rank)
        mixed = np.random.SeedSequence((self.seed, *place)).generate_state(1, np.uint64)
        torch.manual_seed(int(mixed[0] >> 1))
