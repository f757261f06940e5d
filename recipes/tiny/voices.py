"""Stage after `export`: a head for verification in a bundle, taught by Resemblyzer.

The embedding head of diarization tells the voices of one conversation apart, and learns from one
vector for a whole utterance. This one is on filterbanks, where an hour of voices and places that
nobody has recorded costs seconds, and is asked about each of them, so that it learns what the
teacher does and not what it said of a few thousand recordings.
"""

import logging
from pathlib import Path

import torch
from torch import Tensor

from wavlm_meeting.checkpoints.bundle import write_bundle
from wavlm_meeting.checkpoints.card import note_figures
from wavlm_meeting.checkpoints.folders import CARD
from wavlm_meeting.checkpoints.heads import SPEAKER
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.checkpoints.trainings import load_parts, steps_done
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.heads.speaker import SpeakerHead
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.evaluate import embed, embedder
from wavlm_meeting.recipes.tiny.figures import voice_figures
from wavlm_meeting.recipes.tiny.settings import TinySettings, VoiceSettings
from wavlm_meeting.recipes.tiny.train import averaging
from wavlm_meeting.recipes.tiny.voice_data import VoiceBatches
from wavlm_meeting.recipes.tiny.voice_task import VoiceTask
from wavlm_meeting.recipes.tiny.voice_teacher import find_directions, main_directions
from wavlm_meeting.training.seeds import StepSeeds
from wavlm_meeting.training.trainer import fit
from wavlm_meeting.verification.load import BESIDE
from wavlm_meeting.verification.model import build_speaker_model

log = logging.getLogger(__name__)


def voices(corpus: Path, work: Path, folder: Path, settings: TinySettings, bundle: Path) -> None:
    """Train a head in `folder`, or go on from its last checkpoint, and write it into `bundle`.

    Encoder and other heads stay as they are, and so do figures that are not of verification; those
    that are go, and so does a backend beside them, as they are of the voices before. Raises
    SettingsError where settings have no such head, `bundle` is no folder of one, or nothing is
    prepared.
    """
    chosen = settings.voices
    if chosen is None:
        raise SettingsError("voices: these settings have no table [voices].")
    if not (bundle / CARD).is_file():
        raise SettingsError(f"voices: {bundle} is no folder of a bundle, which gets the head.")
    head = new_head(chosen)
    if steps_done(folder) < chosen.steps:
        _train(work, folder, settings, chosen, head)
    load_parts(folder, {"head": head})
    log.info("voices: %d updates", steps_done(folder))
    model = load_model(str(bundle))
    storage = model.card.weights.storage if model.card.weights else settings.card.storage
    heads = {**model.card.heads, SPEAKER: chosen.head.model_dump(exclude_none=True)}
    kept = {name: each for name, each in model.card.figures.items() if not name.startswith("EER")}
    card = model.card.model_copy(update={"heads": heads, "figures": kept})
    part = {**head.state_dict(), **beside(work, bundle, chosen)}
    write_bundle(bundle, {**model.state, SPEAKER: part}, card, storage)
    found = voice_figures(embedder(bundle), corpus, work, settings.evaluation)
    note_figures(bundle, found)
    for name, figure in found.items():
        log.info("voices: %s: %s", name, figure)


def _train(
    work: Path, folder: Path, settings: TinySettings, chosen: VoiceSettings, head: SpeakerHead
) -> None:
    """Train `head`, from the last checkpoint on if there is one."""
    batches = VoiceBatches(
        load_collection(work, "train", copies=False),
        settings.data.sources,
        chosen,
        find_directions(work, chosen.head.size),
        first=steps_done(folder),
    )
    fit(
        VoiceTask(head, chosen),
        batches,
        folder,
        chosen.trainer,
        steps=chosen.steps,
        gradient_clip=chosen.gradient_clip,
        callbacks=[StepSeeds(chosen.seed, 1), *averaging(chosen.average)],
    )


def new_head(settings: VoiceSettings) -> SpeakerHead:
    """Return a new head, seeded; raises SettingsError for one that is not on filterbanks."""
    torch.manual_seed(settings.seed)
    head = build_speaker_model(None, settings.head).pooling
    if not isinstance(head, SpeakerHead):
        raise SettingsError("voices: 'attentive' is for an encoder's states; leave it out.")
    return head


def beside(work: Path, bundle: Path, settings: VoiceSettings) -> dict[str, Tensor]:
    """Return the map that centres and shortens diarization's voices, if they are to be beside.

    It is of the longest utterance of each voice of training.
    """
    if settings.head.beside is None:
        return {}
    collection = load_collection(work, "train", copies=False)
    longest = [
        max(said, key=lambda utterance: collection.lengths[utterance.index]).index
        for said in collection.voices.values()
    ]
    units = embed(load_pipeline(str(bundle), "cpu"), [collection.heard(index) for index in longest])
    mean, basis = main_directions(units, settings.head.beside.size)
    found = {"weight": basis.T, "bias": -mean @ basis}
    return {f"{BESIDE}{name}": torch.from_numpy(array.copy()) for name, array in found.items()}
