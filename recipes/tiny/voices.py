"""Stage after `export`: a head for verification in a bundle, taught by Resemblyzer.

The embedding head of diarization tells the voices of one conversation apart, and learns from one
vector for a whole utterance. This one is asked about every second and a half, in every channel,
as the teacher is, so that it learns what the teacher does and not what it said once.
"""

import logging
from pathlib import Path

import torch

from wavlm_meeting.checkpoints.bundle import Bundle, write_bundle
from wavlm_meeting.checkpoints.card import note_figures
from wavlm_meeting.checkpoints.folders import CARD
from wavlm_meeting.checkpoints.heads import SPEAKER
from wavlm_meeting.checkpoints.loading import build_encoder, load_model
from wavlm_meeting.checkpoints.trainings import load_parts, steps_done
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.evaluate import embedder
from wavlm_meeting.recipes.tiny.figures import voice_figures
from wavlm_meeting.recipes.tiny.settings import TinySettings, VoiceSettings
from wavlm_meeting.recipes.tiny.train import averaging
from wavlm_meeting.recipes.tiny.voice_data import VoiceBatches
from wavlm_meeting.recipes.tiny.voice_task import VoiceTask
from wavlm_meeting.recipes.tiny.voice_teacher import find_directions
from wavlm_meeting.training.seeds import StepSeeds
from wavlm_meeting.training.trainer import fit
from wavlm_meeting.verification.model import SpeakerModel, build_speaker_model

log = logging.getLogger(__name__)


def voices(corpus: Path, work: Path, folder: Path, settings: TinySettings, bundle: Path) -> None:
    """Train a head in `folder`, or go on from its last checkpoint, and write it into `bundle`.

    Encoder and other heads stay as they are, and so do figures that are not of verification; a
    backend beside them goes, as it is of the voices before. Raises SettingsError where settings
    have no such head, `bundle` is no folder of one, or nothing is prepared.
    """
    chosen = settings.voices
    if chosen is None:
        raise SettingsError("voices: these settings have no table [voices].")
    if not (bundle / CARD).is_file():
        raise SettingsError(f"voices: {bundle} is no folder of a bundle, which gets the head.")
    model = load_model(str(bundle))
    listening = new_model(model, chosen)
    batches = VoiceBatches(
        load_collection(work, "train"),
        settings.data,
        chosen,
        model.card.encoder,
        find_directions(work, chosen.head.size),
        first=steps_done(folder),
    )
    fit(
        VoiceTask(listening, chosen),
        batches,
        folder,
        chosen.trainer,
        steps=chosen.steps,
        gradient_clip=chosen.gradient_clip,
        callbacks=[StepSeeds(chosen.seed, 1), *averaging(chosen.average)],
    )
    load_parts(folder, {"head": listening.pooling})
    log.info("voices: %d updates", steps_done(folder))
    storage = model.card.weights.storage if model.card.weights else settings.card.storage
    heads = {**model.card.heads, SPEAKER: chosen.head.model_dump()}
    card = model.card.model_copy(update={"heads": heads})
    state = {**model.state, SPEAKER: listening.pooling.state_dict()}
    write_bundle(bundle, state, card, storage)
    found = voice_figures(embedder(bundle), corpus, work, settings.evaluation)
    note_figures(bundle, found)
    for name, figure in found.items():
        log.info("voices: %s: %s", name, figure)


def new_model(bundle: Bundle, settings: VoiceSettings) -> SpeakerModel:
    """Return a new head, seeded, on the encoder; raises SettingsError for one on filterbanks."""
    torch.manual_seed(settings.seed)
    return build_speaker_model(build_encoder(bundle), settings.head)
