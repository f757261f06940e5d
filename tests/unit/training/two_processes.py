"""Trains a few steps on fixed batches, each process on its share of the utterances: see its test.

    two_processes.py FOLDER STEPS ddp|fsdp [VALUES]

VALUES are settings as JSON, laid over those below; the last utterance of the batches in its list
`broken` holds NaN.
"""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import IterableDataset

from wavlm_meeting.checkpoints.trainings import steps_done
from wavlm_meeting.config import parse_settings
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.pretraining.task import PretrainingBatch, PretrainingTask
from wavlm_meeting.training.processes import processes
from wavlm_meeting.training.trainer import fit

VALUES = {
    "encoder": {
        "conv_layers": [[16, 10, 5], [16, 8, 8], [16, 8, 8]],
        "width": 32, "layers": 3, "heads": 2, "ffn": 32,
        "position_kernel": 16, "position_groups": 2,
        "dropout": 0.0, "attention_dropout": 0.0, "layer_drop": 0.3,
    },
    "objective": {"size": 16},
    # Spans as long as an utterance: every frame is masked, whichever process draws the masks.
    "masks": {"span": 1000},
    "mixing": {"probability": 0.0},
    "optimizer": {"steps": 20, "learning_rate": 2e-3, "gradient_clip": 1.0, "bfloat16": False},
    "trainer": {"accumulate": 2},
}  # fmt: skip
UTTERANCES = 4
CLASSES = 5


class Shares(IterableDataset[PretrainingBatch]):
    """Batches of four utterances of different lengths, shared out over the processes."""

    def __init__(self, settings: PretrainingSettings, first: int, broken: list[int]) -> None:
        self.settings, self.first, self.broken = settings, first, broken

    def __iter__(self) -> Iterator[PretrainingBatch]:
        rank, ranks = processes()
        config = self.settings.encoder
        for number in range(self.first, 1000):
            generator = torch.Generator().manual_seed(number)
            lengths = torch.randint(4000, 16_000, (UTTERANCES,), generator=generator)
            waves = torch.randn(UTTERANCES, 16_000, generator=generator)
            waves *= torch.arange(16_000) < lengths[:, None]
            frames = config.frame_count(16_000)
            labels = torch.randint(CLASSES, (UTTERANCES, frames), generator=generator)
            rows = slice(rank * UTTERANCES // ranks, (rank + 1) * UTTERANCES // ranks)
            ids = [f"{number}-{row}" for row in range(UTTERANCES)][rows]
            if number in self.broken:
                waves[-1, : int(lengths[-1])] = torch.nan
            yield PretrainingBatch(waves[rows], lengths[rows], [labels[rows]], ids)


def main() -> None:
    """Train as the command line says."""
    folder, steps, strategy, *values = sys.argv[1:]
    own = json.loads(values[0]) if values else {}
    broken = own.pop("broken", [])
    merged = {key: {**VALUES.get(key, {}), **own.get(key, {})} for key in {*VALUES, *own}}
    settings = parse_settings(merged, PretrainingSettings, "here")
    torch.set_num_threads(1)
    accumulate = settings.trainer.accumulate
    batches = Shares(settings, steps_done(Path(folder)) * accumulate, broken)
    fit(
        PretrainingTask(settings, (CLASSES,), Path(folder)), batches, Path(folder),
        settings.trainer.model_copy(update={"checkpoint_steps": 3, "log_steps": 1, "workers": 0}),
        steps=int(steps), gradient_clip=settings.optimizer.gradient_clip,
        strategy=strategy, unused=settings.encoder.layer_drop > 0,
    )  # fmt: skip


if __name__ == "__main__":
    main()
