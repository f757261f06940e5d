"""Pretraining from shards with labels: what the recipes and `wavlm-meeting pretrain` run."""

from collections.abc import Sequence
from pathlib import Path

import torch

from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.microsoft import PRETRAINING
from wavlm_meeting.checkpoints.trainings import read_run, steps_done, write_run
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.pretraining.estimate import Strategy, choose_strategy
from wavlm_meeting.pretraining.labels import read_clusters
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.pretraining.task import PretrainingTask
from wavlm_meeting.training.data import SpeechBatches
from wavlm_meeting.training.processes import processes
from wavlm_meeting.training.progress import Progress, Report
from wavlm_meeting.training.throughput import Throughput
from wavlm_meeting.training.trainer import fit
from wavlm_meeting.wavlm.flops import encoder_flops


def pretrain(
    shards: Path,
    fields: Sequence[str],
    folder: Path,
    settings: PretrainingSettings,
    noise: Path | None = None,
    report: Report | None = None,
) -> None:
    """Train on the label sets `fields` of `shards` in `folder`, or go on from its checkpoint.

    `noise` holds shards of noise. Raises SettingsError if labels are missing, if noise is to be
    mixed and there is none, if there are too few shards, or if `folder` holds another model;
    TrainingError for a broken batch.
    """
    if noise is None and settings.mixing.probability * settings.mixing.noise_probability > 0:
        raise SettingsError(
            "noise_probability is above 0, but there is no noise: give shards of noise, or set it "
            "to 0."
        )
    classes = classes_of(shards, fields)
    card = card_of(folder.name, settings, classes)
    if steps_done(folder):
        begun = read_run(folder)
        if (begun.encoder, begun.heads) != (card.encoder, card.heads):
            raise SettingsError(
                f"{folder}: holds the training of another model; go on with its own settings and "
                "labels, or name another folder."
            )
    task = PretrainingTask(settings, classes, folder)
    if processes()[0] == 0:
        write_run(folder, card)
    trainer, optimizer = settings.trainer, settings.optimizer
    batches = SpeechBatches(
        shards,
        tuple(fields),
        settings.encoder,
        settings.batches,
        settings.seed,
        steps_done(folder) * trainer.accumulate,
        noise,
    )

    def operations(lengths: list[int]) -> float:
        parts = (encoder_flops(settings.encoder, samples) for samples in lengths)
        return float(sum(part.training(recompute=trainer.recompute) for part in parts))

    speed = Throughput(
        operations,
        half=optimizer.bfloat16,
        every=trainer.log_steps * trainer.accumulate,
    )
    fit(
        task,
        batches,
        folder,
        trainer,
        steps=optimizer.steps,
        gradient_clip=optimizer.gradient_clip,
        strategy=_strategy(settings, classes),
        unused=settings.encoder.layer_drop > 0,
        callbacks=[speed] if report is None else [speed, Progress(report)],
    )


def _strategy(settings: PretrainingSettings, classes: Sequence[int]) -> Strategy:
    """Resolve "auto" for the GPUs that are here; without any, weights are copied."""
    if not torch.cuda.is_available():
        return "fsdp" if settings.trainer.strategy == "fsdp" else "ddp"
    memory = torch.cuda.get_device_properties(0).total_memory
    return choose_strategy(settings, classes, processes()[1], memory)


def card_of(name: str, settings: PretrainingSettings, classes: Sequence[int]) -> Card:
    """Return the card of what is pretrained; several label sets have no place in a model."""
    head = {"classes": classes[0], "size": settings.objective.size}
    return Card(
        name=name,
        version="1",
        licence="",
        description="A WavLM encoder, pretrained without labels.",
        encoder=settings.encoder,
        heads={PRETRAINING: head} if len(classes) == 1 else {},
    )


def classes_of(shards: Path, fields: Sequence[str]) -> list[int]:
    """Return how many labels each field has; raises SettingsError if its clusters are missing."""
    return [len(read_clusters(shards / f"{field}.safetensors")[0].centres) for field in fields]
