"""The chain: speech -> MFCC labels -> HuBERT -> units -> WavLM -> bundle."""

import csv
import logging
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from wavlm_meeting.audio.folders import recordings_below
from wavlm_meeting.checkpoints.bundle import ENCODER, write_bundle
from wavlm_meeting.checkpoints.card import Card
from wavlm_meeting.checkpoints.microsoft import PRETRAINING
from wavlm_meeting.pretraining.kmeans import fit_kmeans
from wavlm_meeting.pretraining.labels import (
    FrameFeatures,
    label_frames,
    layer_features,
    read_clusters,
    sample_frames,
    write_clusters,
)
from wavlm_meeting.pretraining.mfcc import mfcc_features
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.pretraining.task import PretrainingTask
from wavlm_meeting.recipes.stages import Stage, run_stages
from wavlm_meeting.recipes.tiny_pretrain.settings import LabelSettings, TinyPretrainSettings
from wavlm_meeting.training.data import SpeechBatches
from wavlm_meeting.training.shards import (
    folder_cuts,
    read_index,
    read_shards,
    write_field,
    write_shards,
)
from wavlm_meeting.training.trainer import fit, last_checkpoint, steps_done

SHARD_CUTS = 500
MFCC, UNITS = "mfcc", "units"

log = logging.getLogger(__name__)


def run_chain(data: Path, out: Path, settings: TinyPretrainSettings, stages: str = "") -> None:
    """Run the stages (`shards`, `mfcc`, `first`, `units`, `second`, `export`) or those of `stages`.

    Raises AudioError if there is no speech below `data`, SettingsError for a stage that is none.
    """
    shards = out / "shards"
    second = settings.second
    run_stages(
        [
            Stage(
                "shards",
                lambda: _shards(data, shards),
                {"data": str(data.resolve())},
                (shards,),
            ),
            Stage(
                "mfcc",
                lambda: _label(
                    shards, MFCC, mfcc_features(settings.first.encoder.hop), settings.mfcc
                ),
                settings.mfcc.model_dump() | {"hop": settings.first.encoder.hop},
            ),
            Stage(
                "first",
                lambda: _train(shards, MFCC, out / "first", settings.first, settings),
                settings.first.model_dump() | {"batches": settings.batches.model_dump()},
                (out / "first",),
            ),
            Stage(
                "units",
                lambda: _label(shards, UNITS, _units(out, settings), settings.units),
                settings.units.model_dump(),
            ),
            Stage(
                "second",
                lambda: _train(shards, UNITS, out / "second", second, settings),
                second.model_dump() | {"batches": settings.batches.model_dump()},
                (out / "second",),
            ),
            Stage(
                "export",
                lambda: _export(out, settings),
                settings.model_dump(include={"name", "licence", "training"}),
            ),
        ],
        out,
        stages,
    )


def speech_files(data: Path) -> list[Path]:
    """Return the files to pretrain on: the train split of a `manifest.csv`, or all in the folder.

    Raises AudioError if there is no recording in the folder.
    """
    if not (data / "manifest.csv").is_file():
        return recordings_below(data)
    with (data / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return sorted(
            data / row["path"]
            for row in csv.DictReader(file)
            if row["split"] == "train" and row["path"].startswith("speech/")
        )


def _shards(data: Path, shards: Path) -> None:
    index = write_shards(folder_cuts(speech_files(data), data), shards, SHARD_CUTS)
    skipped = sum(len(shard.skipped) for shard in index)
    hours = sum(shard.seconds for shard in index) / 3600
    log.info("shards: %.2f hours, %d files or pieces left out", hours, skipped)


def _label(shards: Path, field: str, features: FrameFeatures, settings: LabelSettings) -> None:
    """Find clusters and write a label for each frame, shard by shard."""
    frames = sample_frames(_waveforms(shards), features, settings.frames, settings.kmeans.seed)
    found = fit_kmeans(frames, settings.kmeans)
    write_clusters(shards / f"{field}.safetensors", found, field)
    log.info(
        "%s: inertia %.4g, %d of %d clusters in use",
        field, found.inertia, int((found.use > 0).sum()), len(found.use),
    )  # fmt: skip
    for shard in read_index(shards):
        if shard.cuts:
            waveforms = _named_waveforms(shards, shard.number)
            write_field(
                shards, field, shard.number, label_frames(waveforms, features, found.centres)
            )


def _units(out: Path, settings: TinyPretrainSettings) -> FrameFeatures:
    """Return the features of the first model's layer, loaded when they are asked for first."""
    task = _trained(out / "first", settings.first, _classes(out / "shards", MFCC))
    return layer_features(task.model.encoder.eval(), settings.units.layer)


def _train(
    shards: Path,
    field: str,
    folder: Path,
    settings: PretrainingSettings,
    whole: TinyPretrainSettings,
) -> None:
    task = PretrainingTask(settings, (_classes(shards, field),), folder)
    batches = SpeechBatches(
        shards, (field,), settings.encoder, whole.batches, settings.seed, steps_done(folder)
    )
    fit(
        task,
        batches,
        folder,
        steps=settings.optimizer.steps,
        gradient_clip=settings.optimizer.gradient_clip,
    )


def _export(out: Path, settings: TinyPretrainSettings) -> None:
    classes = _classes(out / "shards", UNITS)
    task = _trained(out / "second", settings.second, classes)
    card = Card(
        name=settings.name,
        version="1",
        licence=settings.licence,
        description="A WavLM pretrained by the recipe tiny_pretrain.",
        encoder=settings.second.encoder,
        heads={PRETRAINING: {"classes": classes, "size": settings.second.objective.size}},
        training=settings.training,
    )
    model = task.model
    state = {ENCODER: model.encoder.state_dict(), PRETRAINING: model.head.state_dict()}
    write_bundle(out / "bundle", state, card)


def _trained(folder: Path, settings: PretrainingSettings, classes: int) -> PretrainingTask:
    """Return the finished task of a training."""
    task = PretrainingTask(settings, (classes,), folder)
    state = torch.load(last_checkpoint(folder), weights_only=True)["state_dict"]
    task.load_state_dict(state)
    return task


def _classes(shards: Path, field: str) -> int:
    return len(read_clusters(shards / f"{field}.safetensors")[0].centres)


def _named_waveforms(shards: Path, number: int) -> Iterator[tuple[str, Tensor]]:
    for cut in read_shards(shards, numbers=[number]):
        yield cut.id, torch.from_numpy(cut.load_audio()[0])


def _waveforms(shards: Path) -> Iterator[Tensor]:
    for cut in read_shards(shards):
        yield torch.from_numpy(cut.load_audio()[0])
