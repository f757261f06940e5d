"""Trains a speaker model for a few steps on a manifest: see `test_speaker_training.py`.

    speaker_processes.py MANIFEST FOLDER SETTINGS

SETTINGS are JSON. Under torchrun with two processes each trains on its share of a batch; alone, one
process takes both shares, one after the other, for each update.
"""

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import torch
from torch.utils.data import IterableDataset

from wavlm_meeting.config import parse_settings
from wavlm_meeting.heads.ecapa import EcapaConfig
from wavlm_meeting.training.augmentation import Augmenter
from wavlm_meeting.training.processes import processes
from wavlm_meeting.training.recordings import read_recordings
from wavlm_meeting.training.speaker_training import SpeakerTrainingSettings, train_speakers
from wavlm_meeting.training.speakers import SpeakerBatches
from wavlm_meeting.training.trainer import TrainerSettings, fit
from wavlm_meeting.verification.model import SpeakerConfig, build_speaker_model
from wavlm_meeting.verification.task import SpeakerBatch, SpeakerTask
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

CONFIG = WavLMConfig(
    conv_layers=((16, 10, 5), (16, 8, 8), (16, 8, 8)), width=16, layers=2, heads=2, ffn=16,
    position_kernel=16, position_groups=2, dropout=0.0, attention_dropout=0.0, layer_drop=0.0,
)  # fmt: skip
HEAD = EcapaConfig(channels=8, aggregated=12, scale=2, squeezed=4, attention=4, embedding=6)


class BothShares(IterableDataset[SpeakerBatch]):
    """What each of two processes would draw, in turn."""

    def __init__(self, batches: SpeakerBatches) -> None:
        self.batches = batches

    def __iter__(self) -> Iterator[SpeakerBatch]:
        for number in range(1000):
            for rank in ("0", "1"):
                os.environ |= {"RANK": rank, "WORLD_SIZE": "2"}
                batch = self.batches.batch(number)
                os.environ |= {"RANK": "0", "WORLD_SIZE": "1"}
                yield batch


def main() -> None:
    """Train as the command line says."""
    cuts, folder = Path(sys.argv[1]), Path(sys.argv[2])
    settings = parse_settings(json.loads(sys.argv[3]), SpeakerTrainingSettings, "here")
    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = build_speaker_model(WavLM(CONFIG), SpeakerConfig(ecapa=HEAD))
    if processes()[1] > 1:
        train_speakers(cuts, folder, model, settings)
        return
    recordings = read_recordings(cuts)
    augmenter = Augmenter(settings.augmentation, recordings)
    batches = SpeakerBatches(recordings, settings.batches, augmenter, settings.seed)
    task = SpeakerTask(model, len(batches.classes), settings.task, seed=settings.seed)
    fit(
        task, BothShares(batches), folder, TrainerSettings(accumulate=2, log_steps=1, workers=0),
        steps=settings.task.steps, gradient_clip=settings.task.gradient_clip,
    )  # fmt: skip


if __name__ == "__main__":
    main()
