"""Fine-tuning of a model that diarizes on one's own recordings, with figures on held-out ones."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyannote.core import Annotation
from torch import Tensor

from wavlm_meeting.audio.folders import is_recording
from wavlm_meeting.checkpoints.bundle import Bundle
from wavlm_meeting.checkpoints.card import Material
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.config import parse_settings
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.settings import DiarizationSettings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.formats.rttm import read_rttm
from wavlm_meeting.training.diarization_recordings import (
    Conversation,
    conversation_of,
    ready,
    write_conversations,
)
from wavlm_meeting.training.diarization_training import (
    DiarizationTrainingSettings,
    train_diarization,
    write_pipeline,
)
from wavlm_meeting.training.diarization_tuning import (
    Figures,
    Grid,
    diarized,
    hear,
    score,
    tune,
)
from wavlm_meeting.training.progress import Report

LEAST = 6
"""Recordings that it takes: two to train on, three to choose on, one held out."""
CHOOSING = 0.35
"""Share of the recordings that are not held out on which thresholds are chosen."""
SLACK_S = 1.0
"""How far a reference may go beyond the end of its recording."""
SHARES = (1.0, 0.5)
"""How far the weights go from what they were to what they learned; 0, not at all, is tried too."""
STEPS = (-0.15, -0.1, -0.05, 0.0, 0.05, 0.1, 0.15)
"""How far from the model's own the thresholds of the clustering are that are tried."""
FACTORS = (0.4, 0.6, 0.8, 1.0, 1.25, 1.6, 2.5)
"""Where VBx clusters: shares of what a speaker costs, instead of them."""
ONSETS = (-0.2, -0.1, 0.0, 0.1, 0.2)
"""How far from the model's own the onsets are that are tried."""
NOTE = "finetune.json"
"""Says what a folder is the fine-tuning of."""

Weights = dict[str, Tensor]


@dataclass(frozen=True)
class Parts:
    """The recordings by what they are for; nothing is in two parts."""

    train: list[Conversation]
    dev: list[Conversation]
    """Thresholds are chosen on them."""
    held_out: list[Conversation]
    """Figures are those of them alone."""


@dataclass(frozen=True)
class FineTuned:
    """What came of it."""

    model: Path
    """Folder of the model, for every command."""
    parts: Parts
    figures: Mapping[str, Figures]
    """On the held-out recordings: "before", "thresholds alone" and "after"."""
    learned: float
    """Share of the way from the old weights to those at the end of the training; 0 if on the
    recordings for choosing nothing was better than the old ones."""


def finetune_diarization(
    audio: Path,
    rttm: Path,
    out: Path,
    model: str = "tiny",
    steps: int = 300,
    held_out: float = 0.2,
    seed: int = 1,
    report: Report | None = None,
) -> FineTuned:
    """Train a model on recordings with references, and compare it with what it was.

    Args:
        audio: Folder of recordings.
        rttm: Folder with `<name>.rttm` for each.
        out: Folder for the model, checkpoints and figures; a stopped run goes on there.
        model: Name of an embedded model, a folder, or an id on the Hugging Face hub.
        steps: Updates of the weights.
        held_out: Share of the recordings that the figures are of, and nothing else.
        seed: Seed of the split and of all that is drawn.
        report: Told how far the training is.

    Raises:
        SettingsError: Recordings and references do not belong together or are too few, or `out`
            holds another fine-tuning.
        AudioError: A recording cannot be read.
        CheckpointError: The model cannot be loaded.
        FormatError: A reference is no RTTM.
    """
    base = load_model(model)
    pairs = pair_recordings(audio, rttm)
    settings = settings_of(steps, seed)
    options = {"model": _sha256(base), "held_out": held_out, "settings": settings.model_dump()}
    _note(out, pairs, options)
    parts = split(_conversations(pairs, out), held_out, seed)
    for name, own in (("train", parts.train), ("dev", parts.dev), ("held_out", parts.held_out)):
        write_conversations(own, out / "prepared" / f"{name}.jsonl.gz")
    pipeline = load_pipeline(model, "cpu")
    figures = {"before": figures_of(pipeline, parts.held_out)}
    old = _weights(pipeline)
    cuts = out / "prepared/train.jsonl.gz"
    train_diarization(pipeline, out / "training", settings, cuts=cuts, report=report)
    new = _weights(pipeline)
    tried: list[_Tuned] = []
    for share in (0.0, *SHARES):
        _move(pipeline, old, new, share)
        tried.append(_tuned(pipeline, share, parts.dev))
    best = min(tried, key=lambda each: each.der)
    for name, chosen in (("thresholds alone", tried[0]), ("after", best)):
        _move(pipeline, old, new, chosen.share)
        pipeline.settings = chosen.settings
        figures[name] = figures_of(pipeline, parts.held_out)
    write_pipeline(out / "model", pipeline, _about(base, figures, len(parts.train)))
    _write_figures(out / "results.json", figures, best.share)
    return FineTuned(out / "model", parts, figures, best.share)


def settings_of(steps: int, seed: int) -> DiarizationTrainingSettings:
    """Return the settings of a fine-tuning."""
    own = DiarizationTrainingSettings(seed=seed)
    task = own.task.model_dump() | {"steps": steps}
    return parse_settings(own.model_dump() | {"task": task}, DiarizationTrainingSettings, "steps")


def pair_recordings(audio: Path, rttm: Path) -> dict[str, tuple[Path, Annotation]]:
    """Return each recording of a folder with its reference, by name.

    Raises SettingsError where a partner is missing, two recordings have one name, a reference names
    other recordings, or there are too few; FormatError for a file that is no RTTM.
    """
    for folder in (audio, rttm):
        if not folder.is_dir():
            raise SettingsError(f"{folder}: no such folder; check the path.")
    recordings: dict[str, Path] = {}
    for path in sorted(filter(is_recording, audio.iterdir())):
        if path.stem in recordings:
            raise SettingsError(
                f"{path} and {recordings[path.stem].name} have one name; rename or remove one."
            )
        recordings[path.stem] = path
    references = {path.stem: path for path in sorted(rttm.glob("*.rttm"))}
    alone = {
        f"no <name>.rttm in {rttm} for": sorted(recordings.keys() - references.keys()),
        f"no recording in {audio} for": sorted(references.keys() - recordings.keys()),
    }
    problems = [f"{what} {_listed(names)}" for what, names in alone.items() if names]
    if problems:
        raise SettingsError(f"{'; '.join(problems)}: add what is missing, or remove the rest.")
    if len(recordings) < LEAST:
        raise SettingsError(
            f"{audio}: {len(recordings)} recordings; it takes {LEAST}, and ten are a good start."
        )
    return {name: (path, _reference(references[name])) for name, path in recordings.items()}


def split(recordings: Sequence[Conversation], held_out: float, seed: int) -> Parts:
    """Split recordings at random, each into one part."""
    order = np.random.default_rng(seed).permutation(len(recordings))
    drawn = [recordings[number] for number in order]
    tested = min(max(1, round(held_out * len(drawn))), len(drawn) - 5)
    chosen_on = min(max(3, round(CHOOSING * (len(drawn) - tested))), len(drawn) - tested - 2)
    dev, held = drawn[tested : tested + chosen_on], drawn[:tested]
    return Parts(drawn[tested + chosen_on :], dev, held)


def figures_of(pipeline: DiarizationPipeline, recordings: Sequence[Conversation]) -> Figures:
    """Diarize recordings and score the results."""
    found = diarized(pipeline, recordings, hear(pipeline, recordings))
    return score(recordings, found)


@dataclass(frozen=True)
class _Tuned:
    """Weights between the old and the new ones, with the thresholds that suit them."""

    share: float
    settings: DiarizationSettings
    der: float


def _tuned(pipeline: DiarizationPipeline, share: float, dev: Sequence[Conversation]) -> _Tuned:
    """Choose thresholds for weights so far on the way (Wortsman et al., CVPR 2022)."""
    own = pipeline.settings
    errors = tune(pipeline, dev, hear(pipeline, dev), (grid_around(own),))
    found = _Tuned(share, pipeline.settings, float(errors.mean()))
    pipeline.settings = own
    return found


def grid_around(own: DiarizationSettings) -> Grid:
    """Return what is tried around what a model decides by: its own, too."""
    onsets = {"onset": _within([own.onset + step for step in ONSETS], 0.05, 0.95)}
    if own.clustering.method == "vbx":
        costs = [own.clustering.vbx.speaker_factor * factor for factor in FACTORS]
        return {"vbx.speaker_factor": _within(costs, 1e-3, 1e3), **onsets}
    thresholds = [own.clustering.threshold + step for step in STEPS]
    return {"threshold": _within(thresholds, 0.05, 1.9), **onsets}


def _within(values: Sequence[float], low: float, high: float) -> tuple[float, ...]:
    return tuple(round(min(max(value, low), high), 4) for value in values)


def _weights(pipeline: DiarizationPipeline) -> Weights:
    """Copy all weights."""
    parts = {"encoder": pipeline.encoder, "heads": pipeline.heads}
    return {
        f"{part}.{name}": weight.detach().clone()
        for part, module in parts.items()
        for name, weight in module.state_dict().items()
    }


@torch.no_grad()
def _move(pipeline: DiarizationPipeline, old: Weights, new: Weights, share: float) -> None:
    """Set weights that lie so far on the way from the old to the new ones."""
    for part, module in (("encoder", pipeline.encoder), ("heads", pipeline.heads)):
        for name, weight in module.state_dict().items():
            before, after = old[f"{part}.{name}"], new[f"{part}.{name}"]
            between = before.is_floating_point() and 0 < share < 1
            weight.copy_(before.lerp(after, share) if between else after if share else before)


def _reference(path: Path) -> Annotation:
    """Read the reference of the recording that the file is named after."""
    found = read_rttm(path)
    if others := sorted(found.keys() - {path.stem}):
        raise SettingsError(
            f"{path}: names {_listed(others)}, and the recording is called {path.stem}; give both "
            "the same name, with a file for each recording."
        )
    return found.get(path.stem, Annotation(uri=path.stem))


def _conversations(pairs: Mapping[str, tuple[Path, Annotation]], out: Path) -> list[Conversation]:
    """Make the recordings ready; raises SettingsError for a reference that is longer than one."""
    found = []
    for name, (path, reference) in pairs.items():
        own = ready(path, out / "audio" / f"{name}.flac")
        each = conversation_of(name, own.resolve(), reference)
        end_s = reference.get_timeline().extent().end if reference else 0.0
        if end_s > each.duration_s + SLACK_S:
            raise SettingsError(
                f"{path}: ends at {each.duration_s:.1f} s, and its reference at {end_s:.1f} s; are "
                "they of the same recording?"
            )
        found.append(each)
    if not any(each.said for each in found):
        raise SettingsError("the references hold no turn at all; there is nothing to learn.")
    return found


def _note(
    out: Path, pairs: Mapping[str, tuple[Path, Annotation]], options: Mapping[str, Any]
) -> None:
    """Say what the folder is for; raises SettingsError if it is for something else."""
    turns = {
        name: [str(path.resolve()), path.stat().st_size, reference.to_rttm()]
        for name, (path, reference) in pairs.items()
    }
    wanted = json.loads(json.dumps({"recordings": turns, "options": options}))
    note = out / NOTE
    if note.is_file():
        if json.loads(note.read_text(encoding="utf-8")) != wanted:
            raise SettingsError(
                f"{out}: holds a fine-tuning of other recordings or with other options; name "
                "another folder, or remove it."
            )
        return
    out.mkdir(parents=True, exist_ok=True)
    with atomic_write(note) as temporary:
        temporary.write_text(json.dumps(wanted, indent=1) + "\n", encoding="utf-8")


def _sha256(base: Bundle) -> str:
    return base.card.weights.sha256 if base.card.weights else ""


def _about(base: Bundle, figures: Mapping[str, Figures], trained_on: int) -> dict[str, Any]:
    """Return what the card says."""
    card = base.card
    own = Material(name=f"{trained_on} recordings of one's own", licence="unknown", use="training")
    data = (*card.training.data, own)
    teacher = Material(name=card.name, licence=card.licence, use="weights to begin with")
    return {
        "name": f"{card.name}-tuned",
        "version": card.version,
        "licence": card.licence,
        "description": f"{card.name}, fine-tuned on recordings of one's own.",
        "training": {
            "data": [each.model_dump() for each in data],
            "teachers": [each.model_dump() for each in (*card.training.teachers, teacher)],
            "recipe": "wavlm-meeting finetune diarization",
        },
        "figures": {
            f"DER %, held-out recordings, {name}, collar {collar:g} s": round(100 * counts.der, 2)
            for name, found in figures.items()
            for collar, counts in found.counts.items()
        },
    }


def _write_figures(path: Path, figures: Mapping[str, Figures], learned: float) -> None:
    values = {name: found.values() for name, found in figures.items()}
    with atomic_write(path) as temporary:
        text = json.dumps({"learned": learned, "figures": values}, indent=2)
        temporary.write_text(text + "\n", encoding="utf-8")


def _listed(names: Sequence[str]) -> str:
    """List names, the first of them where there are many."""
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + rest
