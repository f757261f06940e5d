"""Stages `train`, `large-margin` and `export`: the trainings one after the other, and a model."""

from pathlib import Path

import torch

from wavlm_meeting.checkpoints.loading import load_encoder
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.voxceleb.prepare import Prepared
from wavlm_meeting.recipes.voxceleb.settings import FBANK, VoxCelebSettings, is_taught
from wavlm_meeting.training.progress import Report
from wavlm_meeting.training.speaker_training import load_trained, train_speakers
from wavlm_meeting.verification.load import load_speaker_model, write_speaker_model
from wavlm_meeting.verification.model import SpeakerModel, build_speaker_model


def train(
    name: str, prepared: Prepared, out: Path, settings: VoxCelebSettings, report: Report | None
) -> None:
    """Run one of the trainings in a folder of its name; it goes on after a stop."""
    trainings = settings.trainings()
    names = list(trainings)
    before = names[: names.index(name)]
    train_speakers(
        prepared.train,
        out / name,
        new_model(settings),
        trainings[name],
        noise=prepared.sounds,
        rooms=prepared.rooms,
        teacher=prepared.teacher if is_taught(trainings[name]) else None,
        start=out / before[-1] if before else None,
        report=report,
    )


def new_model(settings: VoxCelebSettings) -> SpeakerModel:
    """Return the model that is trained: one to go on with, or an encoder with a new network.

    A new network is the same each time, drawn by the seed of the first training. Raises
    SettingsError for a model that no training can write.
    """
    if settings.start:
        model = load_speaker_model(settings.start)
        if model.config is None or model.config.beside is not None:
            raise SettingsError(
                f"start: '{settings.start}' is of a kind that no training here goes on with; name "
                "an encoder with a head of this recipe, or 'mini'."
            )
        return model
    encoder = None if settings.encoder == FBANK else load_encoder(settings.encoder)
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(next(iter(settings.trainings().values())).seed)
        return build_speaker_model(encoder, settings.model)


def export(out: Path, target: Path, settings: VoxCelebSettings) -> None:
    """Write the model, as the last training left it, as a folder that every command takes."""
    model = new_model(settings)
    load_trained(out / list(settings.trainings())[-1], model)
    if settings.kept:
        keep_share(model, load_speaker_model(settings.start), settings.kept)
    about = {
        "name": settings.name,
        "version": settings.version,
        "licence": settings.licence,
        "description": settings.description,
        "training": settings.training_data,
    }
    write_speaker_model(target, model, about, settings.storage)


def keep_share(model: SpeakerModel, before: SpeakerModel, share: float) -> None:
    """Bring all weights of `model` nearer to those of `before`, by this share of the way."""
    old = before.state_dict()
    for name, weight in model.state_dict().items():
        if weight.is_floating_point():
            weight.lerp_(old[name], share)
