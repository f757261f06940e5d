"""Stage 3 and after: choose on dev, report on test.

B batch, N samples, D embedding size, M recordings, K trials.
"""

import csv
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from pyannote.core import Annotation
from torch.nn import functional as F

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.audio.simulate import Placement, Samples, Utterance, draw_scene, render
from wavlm_meeting.checkpoints.card import read_card
from wavlm_meeting.checkpoints.heads import SPEAKER
from wavlm_meeting.diarization.heard import Heard
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.model import DiarizationHeads
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.formats.rttm import read_rttm
from wavlm_meeting.formats.trials import read_trials
from wavlm_meeting.formats.uem import read_uem
from wavlm_meeting.heads.speaker import WholeVoice
from wavlm_meeting.recipes.tiny.collection import load_collection
from wavlm_meeting.recipes.tiny.conversations import draw_set, rendered
from wavlm_meeting.recipes.tiny.settings import EvaluationSettings
from wavlm_meeting.scoring.diarization import DiarizationScore, ErrorCounts, score_diarization
from wavlm_meeting.scoring.verification import equal_error_rate
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.normalisation import cosines

MIXED = "several sources"
"""Stands for the source of conversations whose speakers come from more than one."""
EMBED_S = 8.0
"""Recordings of one voice are embedded in pieces of this length: of 3.2, 5, 8 and 15 s the best on
trials_dev and trials_dev_cv."""
EMBED_BATCH = 32
"""Pieces in one encoder pass."""


@dataclass(frozen=True)
class Recording:
    """Something to diarize, with its reference."""

    name: str
    waveform: Samples
    reference: Annotation
    source: str = MIXED
    """The source that all of its speakers come from, where that is known."""


def simulated(work: Path, split: str, settings: EvaluationSettings) -> list[Recording]:
    """Return the simulated conversations of a split."""
    collection = load_collection(work, split)
    plans = draw_set(collection, settings)
    source_of = {name: source for source, names in collection.sources.items() for name in names}
    sources = [{source_of[name] for name in plan.speakers} for plan in plans]
    return [
        Recording(*item, source=one.pop() if len(one) == 1 else MIXED)
        for item, one in zip(rendered(collection, plans), sources, strict=True)
    ]


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
    split = _column(corpus, "split")
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


def by_source(recordings: Iterable[Recording], scored: DiarizationScore) -> dict[str, float]:
    """Return the DER of the recordings of each source, as `score` counted them."""
    counts: dict[str, list[ErrorCounts]] = {}
    for recording in recordings:
        counts.setdefault(recording.source, []).append(scored.files[recording.name])
    return {source: reduce(add, counts[source]).der for source in sorted(counts)}


def embed(pipeline: DiarizationPipeline, waveforms: Sequence[Samples]) -> NDArray[np.float32]:
    """Return the unit embeddings (M, D) of recordings of one voice: means over their pieces."""
    window = int(EMBED_S * SAMPLE_RATE)
    pieces = [
        (row, waveform[start : start + window])
        for row, waveform in enumerate(waveforms)
        for start in range(0, max(1, len(waveform) - SAMPLE_RATE), window)
    ]
    pieces.sort(key=lambda piece: len(piece[1]))  # little padding within a batch
    total = torch.zeros(len(waveforms), pipeline.settings.embedding_size)
    for first in range(0, len(pieces), EMBED_BATCH):
        rows, batch = zip(*pieces[first : first + EMBED_BATCH], strict=True)
        total.index_add_(0, torch.tensor(rows), _embed_batch(pipeline, batch))
    units: NDArray[np.float32] = F.normalize(total, dim=1).numpy()
    return units


@torch.inference_mode()
def _embed_batch(pipeline: DiarizationPipeline, batch: Sequence[Samples]) -> torch.Tensor:
    """Embed pieces of one voice each, (B, D)."""
    device = pipeline.encoder.mask_embedding.device
    lengths = torch.tensor([len(piece) for piece in batch])
    samples = torch.zeros(len(batch), int(lengths.max()))
    for row, piece in zip(samples, batch, strict=True):
        row[: len(piece)] = torch.from_numpy(piece)
    encoded = pipeline.encoder(samples.to(device), lengths.to(device))
    heads = cast("DiarizationHeads", pipeline.heads)
    voice = WholeVoice(heads.embedding, heads.segmentation)
    return F.normalize(voice(encoded.hidden_states, encoded.frame_lengths), dim=-1).float().cpu()


Embed = Callable[[Sequence[Samples]], NDArray[np.float32]]
"""Gives the unit embeddings (M, D) of recordings of one voice each."""


def embedder(bundle: Path) -> Embed:
    """Return what gives the voices of a bundle: its head for verification, or diarization's."""
    if SPEAKER not in read_card(bundle).heads:
        return partial(embed, load_pipeline(str(bundle), "cpu"))
    model = load_speaker_model(bundle)

    def embed_all(waveforms: Sequence[Samples]) -> NDArray[np.float32]:
        found = torch.stack([model.embed(waveform) for waveform in waveforms])
        units: NDArray[np.float32] = F.normalize(found, dim=1).numpy()
        return units

    return embed_all


def elsewhere(
    waveforms: Sequence[Samples], work: Path, split: str, settings: EvaluationSettings
) -> list[Samples]:
    """Return recordings of one voice, each as heard in a scene of its own.

    Scenes are drawn as those of simulated conversations are, noise from that split.
    """
    collection = load_collection(work, split)

    def heard(waveform: Samples, number: int) -> Samples:
        rng = np.random.default_rng((settings.seed, number))
        length, samples = len(waveform), np.round(waveform * 32767).astype(np.int16)
        whole = Placement(Utterance(0, "voice", ((0, length),)), 0, length, 0)
        channel = settings.conversation, collection.noises
        scene = draw_scene(rng, length, ["voice"], [whole], *channel)
        return render(scene, lambda _: samples, collection.audio)

    return [heard(waveform, number) for number, waveform in enumerate(waveforms)]


def trials_errors(embed_all: Embed, corpus: Path, name: str) -> dict[str, float]:
    """Return the equal error rate of a trial list, scored by the cosine of embeddings.

    That of the whole list is under ""; where its recordings are of several sources, there is one
    more for each source that has trials of both kinds within it.
    """
    trials = read_trials(corpus / name)
    units = embed_all([read_audio(corpus / path) for path in trials.names])
    scores = cosines(units, units, trials.pairs)
    rates = {"": equal_error_rate(trials.targets, scores)}
    column = _column(corpus, "source")
    sources = np.array([column.get(path, "") for path in trials.names])
    first, second = sources[trials.pairs].T  # (K,) each
    for source in np.unique(sources).tolist() if len(set(sources)) > 1 else ():
        own = (first == source) & (second == source)
        if len(set(trials.targets[own])) == 2:
            rates[source] = equal_error_rate(trials.targets[own], scores[own])
    return rates


def _column(corpus: Path, name: str) -> dict[str, str]:
    """Return one column of the manifest by path."""
    with (corpus / "manifest.csv").open(encoding="utf-8", newline="") as file:
        return {row["path"]: row[name] for row in csv.DictReader(file)}
