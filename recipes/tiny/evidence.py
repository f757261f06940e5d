"""Stage `evidence`: a bundle beside its teachers and the bar in one table, kept in its card.

The first table has a row for each figure; a second one, the same figures of quality of further
bundles, trained without a part of the recipe.
"""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import NamedTuple

import torch

from wavlm_meeting.audio.simulate import Samples
from wavlm_meeting.checkpoints.card import note_figures, read_card
from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import size_of
from wavlm_meeting.recipes.results import table_head, table_row
from wavlm_meeting.recipes.tiny.evaluate import embedder, score, simulated
from wavlm_meeting.recipes.tiny.figures import (
    BY_BACKEND,
    MEETINGS,
    SIMULATED,
    Figures,
    backend_figures,
    meeting_figures,
    percent,
    trial_figures,
)
from wavlm_meeting.recipes.tiny.settings import EvaluationSettings, TinySettings
from wavlm_meeting.recipes.workers import map_of
from wavlm_meeting.units import SAMPLE_RATE

TEACHERS = "teachers.json"
"""In the work folder: what the stage `baseline` measured, by the names of the rows."""
SPEED, SIZE = "real-time factor, two cores", "size, MB"
LISTS = ("trials_test", "trials_test_hard", "trials_test_cv")
THREADS, REPEATS, LONGER = 2, 3, 5
"""Of the real-time factor: it is the median of so many runs with so many threads on a recording so
many times as long as a simulated conversation, ten minutes with the shipped settings."""


class Row(NamedTuple):
    """What a figure is, or None for what nobody measured or set."""

    teachers: float | None = None
    """Of silero-vad and Resemblyzer, measured on another machine; the stage `baseline` measures
    them here, which goes before."""
    bar: float | None = None
    """What is to be reached."""


ROWS = {
    "EER %, trials_test": Row(5.53, 4.0),
    "EER %, trials_test_hard": Row(7.85, 7.0),
    "EER %, trials_test_cv": Row(12.5, 8.0),
    BY_BACKEND.format("trials_test"): Row(bar=4.0),
    BY_BACKEND.format("trials_test_hard"): Row(bar=7.0),
    BY_BACKEND.format("trials_test_cv"): Row(bar=8.0),
    SIMULATED.format("test"): Row(32.64, 12.0),
    MEETINGS.format("", 0.0): Row(40.5, 30.0),
    MEETINGS.format(", not trained on", 0.0): Row(),
    SPEED: Row(bar=0.02),
    SIZE: Row(19.0, 12.0),
}
"""The rows of the table, by the names that the card gives its figures."""


class Job(NamedTuple):
    """One kind of figures of one bundle."""

    bundle: Path
    kind: str


def evidence(
    corpus: Path,
    work: Path,
    settings: TinySettings,
    bundle: str | Path | None,
    ablations: str = "",
    workers: int = 0,
) -> str:
    """Measure a bundle, note the figures in its card and return the tables as Markdown.

    Args:
        corpus: Folder with the meetings and lists of trials; what it lacks has no row.
        work: Folder in which `prepare` has run, and `baseline` if it did.
        settings: Those of the recipe; `evaluation` says what is simulated.
        bundle: A bundle's folder, or the name of an embedded one.
        ablations: Further bundles, NAME=BUNDLE with commas between.
        workers: Processes that measure quality, one a core if 0; speed is measured after them.

    Raises:
        SettingsError: No bundle is given, `ablations` cannot be read, or nothing is prepared.
        CheckpointError: There is no such bundle.
    """
    if bundle is None:
        raise SettingsError("evidence needs a bundle: give --start.")
    folder = resolve(str(bundle))
    others = {name: resolve(path) for name, path in parse_ablations(ablations).items()}
    own, *further = measure(corpus, work, settings.evaluation, [folder, *others.values()], workers)
    recording = long_recording(work, settings.evaluation)
    own[SPEED] = real_time_factor(load_pipeline(str(folder), "cpu"), recording)
    own[SIZE] = round(size_of(folder) / 1e6, 2)
    found = dict(zip(others, further, strict=True))
    teachers = teachers_figures(work)
    noted = {f"teachers: {name}": teachers[name] for name in own if name in teachers}
    for other, figures in found.items():
        noted |= {f"{other}: {name}": figure for name, figure in figures.items()}
    note_figures(folder, own | noted)
    card = read_card(folder)
    return tables(f"{card.name} {card.version}", own, teachers, found)


def parse_ablations(text: str) -> dict[str, str]:
    """Read NAME=BUNDLE,...; raises SettingsError for what is not that, or a name given twice."""
    found: dict[str, str] = {}
    for part in filter(None, text.split(",")):
        name, equals, bundle = part.partition("=")
        if not (name and equals and bundle) or name in found:
            raise SettingsError(f"ablation '{part}': write NAME=BUNDLE, each name once.")
        found[name] = bundle
    return found


def measure(
    corpus: Path,
    work: Path,
    settings: EvaluationSettings,
    bundles: list[Path],
    workers: int = 0,
) -> list[Figures]:
    """Return the figures of quality of each bundle that are rows of the table."""
    jobs = [Job(bundle, kind) for kind in KINDS for bundle in bundles]
    with map_of(workers) as run:
        results = list(run(partial(_measure, corpus, work, settings), jobs))
    found: dict[Path, Figures] = {bundle: {} for bundle in bundles}
    for job, figures in zip(jobs, results, strict=True):
        found[job.bundle] |= figures
    return [
        {name: found[bundle][name] for name in ROWS if name in found[bundle]} for bundle in bundles
    ]


def teachers_figures(work: Path) -> Figures:
    """Return the teachers' figures, those measured here before those that are given."""
    given: Figures = {name: row.teachers for name, row in ROWS.items() if row.teachers is not None}
    path = work / TEACHERS
    return given | (json.loads(path.read_text(encoding="utf-8")) if path.exists() else {})


def long_recording(work: Path, settings: EvaluationSettings) -> Samples:
    """Simulate a long conversation of test speakers, as few as the set has at least."""
    longer = {
        "speakers": settings.speakers[:1],
        "conversations": 1,
        "length_s": LONGER * settings.length_s,
        "overlap": (0.0, 1.0),
    }
    (recording,) = simulated(work, "test", settings.model_copy(update=longer))
    return recording.waveform


def real_time_factor(pipeline: DiarizationPipeline, waveform: Samples) -> float:
    """Return the seconds that a second of a recording takes, from samples to turns."""
    times = []
    with threads(THREADS):
        for _ in range(REPEATS):
            begin = time.perf_counter()
            pipeline(waveform)
            times.append(time.perf_counter() - begin)
    return round(median(times) * SAMPLE_RATE / len(waveform), 4)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads within the block."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def tables(title: str, own: Figures, teachers: Figures, ablations: Mapping[str, Figures]) -> str:
    """Write the figures as Markdown."""
    lines = table_head(["", "teachers", title, "to reach"])
    for name, row in ROWS.items():
        if name in own:
            cells = (_cell(each) for each in (teachers.get(name), own[name], row.bar))
            lines.append(table_row([name, *cells]))
    if ablations:
        known = {name for figures in ablations.values() for name in figures}
        beside = {name: figure for name, figure in own.items() if name in known}
        lines += ["", side_by_side({title: beside, **ablations})]
    return "\n".join(lines)


def side_by_side(found: Mapping[str, Figures]) -> str:
    """Write a row for each figure that any of them has, and a column for each of them."""
    lines = table_head(["", *found])
    for name in ROWS:
        if any(name in figures for figures in found.values()):
            lines.append(table_row([name, *(_cell(each.get(name)) for each in found.values())]))
    return "\n".join(lines)


def _cell(figure: float | str | None) -> str:
    return "" if figure is None else f"{figure:g}" if isinstance(figure, float) else figure


def _measure(corpus: Path, work: Path, settings: EvaluationSettings, job: Job) -> Figures:
    """Do a job in one thread, as there is a process for each core."""
    with threads(1):
        return KINDS[job.kind](job.bundle, corpus, work, settings)


def _simulated(bundle: Path, _corpus: Path, work: Path, settings: EvaluationSettings) -> Figures:
    pipeline = load_pipeline(str(bundle), "cpu")
    recordings = simulated(work, "test", settings)
    heard = [pipeline.listen(recording.waveform) for recording in recordings]
    der = score(pipeline, recordings, heard).total.der
    return {SIMULATED.format("test"): percent(der)}


def _trials(bundle: Path, corpus: Path, _work: Path, _settings: EvaluationSettings) -> Figures:
    cosines = trial_figures(embedder(bundle), corpus, LISTS)
    return cosines | backend_figures(bundle, corpus, LISTS)


def _meetings(bundle: Path, corpus: Path, _work: Path, _settings: EvaluationSettings) -> Figures:
    return meeting_figures(load_pipeline(str(bundle), "cpu"), corpus, (0.0,))


KINDS = {"simulated": _simulated, "trials": _trials, "meetings": _meetings}
"""Kinds of figures, the one that takes longest first."""
