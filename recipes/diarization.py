"""The stages that recipes for diarization share: prepare, pretrain, train, tune, test."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.checkpoints.formats import weights_file
from wavlm_meeting.checkpoints.loading import load_encoder
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.result import Diarization
from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.files import sha256_of
from wavlm_meeting.recipes.card_settings import ABOUT, CARD
from wavlm_meeting.recipes.diarization_settings import DiarizationRecipeSettings
from wavlm_meeting.recipes.finding import SUFFIXES, find_folder
from wavlm_meeting.recipes.manifests import write_manifest
from wavlm_meeting.recipes.reading import Found, ready_recordings
from wavlm_meeting.recipes.results import write_table
from wavlm_meeting.recipes.sounds import ROOMS, find_sounds, sound_files
from wavlm_meeting.recipes.stages import Stage, training_values
from wavlm_meeting.recipes.workers import map_of
from wavlm_meeting.training.diarization_recordings import (
    Conversation,
    Said,
    read_conversations,
    ready,
    write_conversations,
)
from wavlm_meeting.training.diarization_training import (
    DiarizationTrainingSettings,
    load_trained,
    new_pipeline,
    train_diarization,
    write_pipeline,
)
from wavlm_meeting.training.diarization_tuning import diarized, hear, tune
from wavlm_meeting.training.progress import Report
from wavlm_meeting.training.sources import files_below
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.speech import FRAME, speech_of

Results: TypeAlias = Mapping[str, tuple[Sequence[Conversation], Sequence[Diarization]]]
"""Recordings and what was found in them, by the name of the test set."""

SPEECH = ("speech", "LibriSpeech/train-clean-100", "LibriSpeech/train-clean-360")
"""Folders with a folder for each speaker, which conversations are simulated from."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Prepared:
    """The folder of manifests."""

    folder: Path

    @property
    def train(self) -> Path:
        """What is trained on."""
        return self.folder / "train.jsonl.gz"

    @property
    def dev(self) -> Path:
        """What thresholds are chosen on."""
        return self.folder / "dev.jsonl.gz"

    @property
    def speech(self) -> Path | None:
        """Recordings of one speaker each, if there are any."""
        return self._if_there("speech")

    @property
    def noise(self) -> Path | None:
        """Noise and music, if there are any."""
        return self._if_there("noise")

    @property
    def rooms(self) -> Path | None:
        """Impulse responses, if there are any."""
        return self._if_there(ROOMS)

    def test(self, name: str) -> Path:
        """Return the manifest of a test set."""
        return self.folder / f"test-{name}.jsonl.gz"

    def _if_there(self, name: str) -> Path | None:
        path = self.folder / f"{name}.jsonl.gz"
        return path if path.is_file() else None


@dataclass(frozen=True)
class DiarizationRecipe:
    """One run of a recipe in the folder `out`."""

    out: Path
    settings: DiarizationRecipeSettings
    origin: Mapping[str, Any]
    """What the manifests depend on."""
    prepare: Callable[[Prepared], None]
    """Writes them."""
    tests: tuple[str, ...]
    """Names of the test sets."""
    table: Callable[[Results], str]
    """Words the results."""
    report: Report | None = None

    @property
    def prepared(self) -> Prepared:
        """Manifests."""
        return Prepared(self.out / "prepared")

    @property
    def model(self) -> Path:
        """The finished model."""
        return self.out / "model"

    @property
    def results(self) -> Path:
        """What was found in the test sets, and the table."""
        return self.out / "results"

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        settings, prepared = self.settings, self.prepared
        begins = settings.model_dump(include={"encoder", "start", "diarization"})
        if settings.start:
            begins["weights"] = sha256_of(weights_file(resolve(settings.start)))
        stages = [
            Stage("prepare", partial(self.prepare, prepared), self.origin, (prepared.folder,))
        ]
        for name, training in self._trainings().items():
            values = training_values(training)
            run = partial(self._train, name, training)
            folder = self.out / name
            stages.append(Stage(name, run, {**begins, **values}, (folder,), everywhere=True))
        tuning = settings.model_dump(include={*CARD, "tuning"})
        return [
            *stages,
            Stage("tune", self._tune, tuning, (self.model,)),
            Stage("test", self._test, {}, (self.results,)),
        ]

    def _trainings(self) -> dict[str, DiarizationTrainingSettings]:
        first = self.settings.pretrain
        return {**({} if first is None else {"pretrain": first}), "train": self.settings.train}

    def _untrained(self) -> DiarizationPipeline:
        """Return what the first training begins with, the same each time."""
        settings = self.settings
        if settings.start:
            return load_pipeline(settings.start, "cpu")
        seed = next(iter(self._trainings().values())).seed
        encoder = load_encoder(settings.encoder)
        return new_pipeline(encoder, settings.diarization, seed, settings.name)

    def _train(self, name: str, training: DiarizationTrainingSettings) -> None:
        prepared = self.prepared
        train_diarization(
            self._untrained(),
            self.out / name,
            training,
            cuts=prepared.train if training.batches.simulated < 1 else None,
            speech=prepared.speech if training.batches.simulated else None,
            noise=prepared.noise,
            rooms=prepared.rooms,
            start=self.out / "pretrain" if name == "train" and self.settings.pretrain else None,
            report=self.report,
        )

    def _tune(self) -> None:
        """Choose thresholds and write the model."""
        settings = self.settings
        pipeline = self._untrained()
        load_trained(self.out / "train", pipeline)
        on_device(pipeline)
        dev = read_conversations(self.prepared.dev)
        heard = hear(pipeline, dev, self.report)
        errors = tune(pipeline, dev, heard, settings.tuning.grids, settings.tuning.collar)
        log.info("tune: DER %.2f %% on %d recordings", 100 * errors.mean(), len(dev))
        about = settings.model_dump(include={*ABOUT})
        training = {"training": settings.training_data.model_dump()}
        write_pipeline(self.model, pipeline, about | training, settings.storage)

    def _test(self) -> None:
        """Diarize the test sets, and write what was found and the table."""
        pipeline = load_pipeline(str(self.model))
        found: dict[str, tuple[list[Conversation], list[Diarization]]] = {}
        for name in self.tests:
            recordings = read_conversations(self.prepared.test(name))
            heard = hear(pipeline, recordings, self.report)
            found[name] = recordings, diarized(pipeline, recordings, heard)
            folder = self.results / name
            folder.mkdir(parents=True, exist_ok=True)
            for each in found[name][1]:
                each.write_rttm(folder / f"{each.uri}.rttm")
        write_table(self.results / "results.md", self.table(found))


def on_device(pipeline: DiarizationPipeline) -> None:
    """Move a pipeline to a GPU, if there is one."""
    place = resolve_device("auto")
    pipeline.encoder.to(place)
    pipeline.heads.to(place)


def prepare_material(data: Path, prepared: Prepared, *, speech: bool, workers: int) -> None:
    """Write the manifests of noise, of rooms and, if wanted, of speech.

    Raises SettingsError where speech is wanted and there is none.
    """
    decoded = prepared.folder / "decoded"
    sounds = find_sounds(data)
    kinds = {kind: folders for kind, folders in sounds.items() if kind in ("noise", "music")}
    for name, chosen in (("noise", kinds), (ROOMS, {ROOMS: sounds[ROOMS]})):
        if any(chosen.values()):
            _write_sounds(prepared.folder / f"{name}.jsonl.gz", chosen, data, decoded)
    if speech:
        _write_speech(data, prepared.folder / "speech.jsonl.gz", decoded / "speech", workers)


def _write_sounds(
    path: Path, kinds: Mapping[str, tuple[Path, ...]], data: Path, decoded: Path
) -> None:
    with write_manifest(path) as write:
        for kind, folders in kinds.items():
            # A room's response at two microphones is not their mean.
            channel = 1 if kind == ROOMS else None
            files = sound_files(kind, folders, data)
            for each in ready_recordings(files, decoded, channel):
                if isinstance(each, Found):
                    write(each, source=kind)
                else:
                    log.info("prepare: left out %s", each.reason)


def _write_speech(data: Path, path: Path, decoded: Path, workers: int) -> None:
    """Write where speech is in recordings of one speaker each."""
    folders = [folder for name in SPEECH if (folder := find_folder(data, name))]
    jobs = [
        (file.relative_to(folder), folder, decoded / folder.name)
        for folder in folders
        for file in (files_below(folder, SUFFIXES) if any(folder.iterdir()) else ())
        if len(file.relative_to(folder).parts) > 1
    ]
    if not jobs:
        raise SettingsError(
            f"{data}: no speech to simulate conversations from; put it into speech/<speaker>/, or "
            "LibriSpeech beside the corpus."
        )
    with map_of(workers) as work:
        found = [each for each in work(speech_in, jobs) if each is not None]
    write_conversations(found, path)
    people = {each.said[0].speaker for each in found}
    log.info("prepare: %d recordings of %d speakers to simulate from", len(found), len(people))


def speech_in(job: tuple[Path, Path, Path]) -> Conversation | None:
    """Find the speech in a recording of one speaker; None if there is none, or it is broken."""
    name, folder, decoded = job
    try:
        path = ready(folder / name, (decoded / name).with_suffix(".flac"))
        samples = read_audio(path)
    except AudioError:
        return None
    frames = speech_of(samples).frames
    edges = np.flatnonzero(np.diff(np.concatenate([[False], frames, [False]]).astype(np.int8)))
    spans = edges.reshape(-1, 2) * FRAME / SAMPLE_RATE
    said = tuple(Said(float(start), float(end), name.parts[0]) for start, end in spans)
    if not said:
        return None
    seconds = len(samples) / SAMPLE_RATE
    return Conversation(name.as_posix(), str(path.resolve()), 0.0, seconds, 1, said)
