"""Stage 3 and after: choose on dev, report on test."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

import torch
from pyannote.core import Annotation
from torch import Tensor

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.audio.simulate import Samples
from wavlm_meeting.diarization.heard import Heard
from wavlm_meeting.diarization.model import DiarizationHeads
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.formats.rttm import read_rttm
from wavlm_meeting.formats.trials import read_trials
from wavlm_meeting.formats.uem import read_uem
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.conversations import draw_set, rendered
from wavlm_meeting.recipes.tiny.settings import EvaluationSettings
from wavlm_meeting.scoring.diarization import DiarizationScore, score_diarization
from wavlm_meeting.scoring.verification import equal_error_rate
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.normalisation import cosines


@dataclass(frozen=True)
class Recording:
    """Something to diarize, with its reference."""

    name: str
    waveform: Samples
    reference: Annotation


def simulated(work: Path, split: str, settings: EvaluationSettings) -> list[Recording]:
    """Return the simulated conversations of a split."""
    collection = load_collection(work, split)
    plans = draw_set(collection, settings)
    return [Recording(*item) for item in rendered(collection, plans)]


def solos(work: Path, split: str, settings: EvaluationSettings) -> list[Recording]:
    """Return simulated recordings of one speaker each, every one cut from a single utterance.

    Utterances of one speaker can be weeks and microphones apart, which no recording is.
    """
    collection = load_collection(work, split)
    longest = {
        name: [max(said, key=lambda utterance: collection.lengths[utterance.index])]
        for name, said in collection.voices.items()
    }
    alone = {"speakers": (1,), "conversations": settings.solos, "length_s": settings.short_s}
    drawn = settings.model_copy(update={**alone, "overlap": (0.0, 1.0)})
    collection = replace(collection, voices=longest)
    return [Recording(*item) for item in rendered(collection, draw_set(collection, drawn))]


def calls(work: Path, split: str, settings: EvaluationSettings) -> list[Recording]:
    """Return short simulated conversations whose speakers share place and channel."""
    channel = {"one_channel": 1.0, "telephone": 0.3}
    short = {
        "speakers": (2, 3),
        "conversations": settings.calls,
        "length_s": settings.short_s,
        "overlap": (0.0, 0.3),
        "one_source": 0.8,
        "conversation": settings.conversation.model_copy(update=channel),
    }
    return simulated(work, split, settings.model_copy(update=short))


def meetings(corpus: Path, splits: Sequence[str] = ("train", "dev", "test")) -> list[Recording]:
    """Return the real meetings of these splits; those of train are trained on."""
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        split = {row["path"]: row["split"] for row in csv.DictReader(file)}
    found = []
    for path in sorted((corpus / "meetings").glob("*.flac")):
        if split[path.relative_to(corpus).as_posix()] not in splits:
            continue
        reference = read_rttm(path.with_suffix(".rttm"))
        annotation = next(iter(reference.values()), Annotation(uri=path.stem))
        found.append(Recording(path.stem, read_audio(path), annotation))
    return found


def score(
    pipeline: DiarizationPipeline,
    recordings: list[Recording],
    heard: list[Heard],
    corpus: Path | None = None,
    *,
    collar: float = 0.0,
    count_given: bool = False,
) -> DiarizationScore:
    """Put together what was heard and score it; the rest as in `score_found`."""
    found = []
    for recording, local in zip(recordings, heard, strict=True):
        count = len(recording.reference.labels()) if count_given else None
        diarization = pipeline.assemble(recording.name, local, count or 1, count)
        found.append(diarization.to_annotation())
    return score_found(recordings, found, corpus, collar=collar)


def score_found(
    recordings: list[Recording],
    found: list[Annotation],
    corpus: Path | None = None,
    *,
    collar: float = 0.0,
) -> DiarizationScore:
    """Score what was found in `recordings`; with `corpus`, over the stretches of its UEM files."""
    reference = {recording.name: recording.reference for recording in recordings}
    hypothesis = dict(zip(reference, found, strict=True))
    uem = {}
    if corpus is not None:
        for name in reference:
            uem[name] = next(iter(read_uem(corpus / "meetings" / f"{name}.uem").values()))
    return score_diarization(reference, hypothesis, uem or None, collar)


@torch.inference_mode()
def embed(pipeline: DiarizationPipeline, waveform: Samples) -> Tensor:
    """Return the embedding (D,) of a recording of one voice: the mean over its windows."""
    window = int(pipeline.settings.window_s * SAMPLE_RATE)
    vectors = []
    for start in range(0, max(1, len(waveform) - SAMPLE_RATE), window):
        piece = torch.from_numpy(waveform[start : start + window])[None]
        hidden_states = pipeline.encoder(piece).hidden_states
        mask = torch.ones(1, 1, hidden_states[0].shape[1])
        heads = cast("DiarizationHeads", pipeline.heads)
        vectors.append(heads.embedding(hidden_states, mask)[0, 0])
    return torch.nn.functional.normalize(torch.stack(vectors).mean(dim=0), dim=0)


def trials_error(pipeline: DiarizationPipeline, corpus: Path, name: str) -> float:
    """Return the equal error rate of a trial list, scored by the cosine of embeddings."""
    trials = read_trials(corpus / name)
    vectors = [embed(pipeline, read_audio(corpus / path)) for path in trials.names]
    units = torch.stack(vectors).numpy()
    return equal_error_rate(trials.targets, cosines(units, units, trials.pairs))
