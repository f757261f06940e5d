"""Stage 3: choose how to cluster on dev, report on test, write the bundle with its card."""

import logging
from itertools import product
from pathlib import Path

import torch

from wavlm_meeting.checkpoints.bundle import write_bundle
from wavlm_meeting.checkpoints.card import Card, Material, Training
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.evaluate import equal_error_rate, meetings, score, simulated
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.recipes.tiny.train import build_task

log = logging.getLogger(__name__)

DATA = (
    Material("LibriSpeech (excerpts)", "CC-BY-4.0", "speech"),
    Material("Mozilla Common Voice 6.1 (about 100 clips of each of 59 languages)", "CC0-1.0", "speech"),
    Material("Speech Commands 0.02 (test set)", "CC-BY-4.0", "speech and noise"),
    Material("Arabic Speech Commands", "CC-BY-4.0", "speech and noise"),
    Material("Picovoice speech-to-intent benchmark", "Apache-2.0", "speech"),
    Material("Free Spoken Digit Dataset", "CC-BY-SA-4.0", "speech"),
    Material("ESC-10", "CC-BY-3.0", "noise"),
    Material("librosa example recordings", "CC-BY-3.0", "music"),
)
TEACHERS = (
    Material("silero-vad", "MIT", "where speech is in the training utterances"),
    Material("Resemblyzer", "Apache-2.0", "speaker embeddings that the model's are drawn to"),
)
"""What the shipped model has seen; whoever trains on other data changes these lines."""


def export(corpus: Path, work: Path, settings: TinySettings, target: Path) -> Card:
    """Choose on dev, report on dev and test, and write the bundle to `target`."""
    pipeline = trained_pipeline(work, settings)
    pipeline.settings = choose(pipeline, work, settings)
    figures = report(pipeline, corpus, work, settings)
    card = Card(
        name="tiny",
        version="0.1",
        licence="Apache-2.0",
        description=(
            "A small WavLM with heads for diarization, trained from scratch on 8 hours of open "
            "speech: a first model, for trying things out and as a baseline."
        ),
        encoder=settings.encoder,
        heads={"diarization": pipeline.settings.model_dump()},
        training=Training(data=DATA, teachers=TEACHERS, recipe="recipes/tiny"),
        figures=figures,
    )
    state = {
        "encoder": pipeline.encoder.state_dict(),
        "diarization": pipeline.heads.state_dict(),
    }
    return write_bundle(target, state, card, storage="float16")


def trained_pipeline(work: Path, settings: TinySettings) -> DiarizationPipeline:
    """Return the last checkpoint, as float16 storage will round it, ready to run."""
    checkpoint = torch.load(work / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    task = build_task(settings, len(checkpoint["voices"]))
    task.load_state_dict(checkpoint)
    for parameter in task.parameters():
        parameter.data = parameter.data.half().float()
    return DiarizationPipeline(task.encoder, task.heads, settings.diarization, "tiny", "")


def choose(
    pipeline: DiarizationPipeline, work: Path, settings: TinySettings
) -> DiarizationSettings:
    """Return the clustering settings with the lowest DER on the dev conversations."""
    recordings = simulated(work, "dev", settings.evaluation)
    heard = [pipeline.listen(recording.waveform) for recording in recordings]
    best, chosen = float("inf"), pipeline.settings
    for threshold, least_s, least_speaker_s, onset, gap_s in product(*GRID.values()):
        pipeline.settings = settings.diarization.model_copy(
            update=dict(zip(GRID, (threshold, least_s, least_speaker_s, onset, gap_s), strict=True))
        )
        der = score(pipeline, recordings, heard).total.der
        if der < best:
            best, chosen = der, pipeline.settings
            log.info("choose: DER %.2f %% with %s", 100 * der, chosen)
    return chosen
