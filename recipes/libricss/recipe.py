"""Continuous speech separation, from folders to a table."""

import logging
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pyannote.core import Annotation

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.checkpoints.bundle import ENCODER, Bundle
from wavlm_meeting.checkpoints.card import Training, note_figures
from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.checkpoints.formats import weights_file
from wavlm_meeting.checkpoints.loading import build_encoder, load_model
from wavlm_meeting.checkpoints.trainings import steps_done
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.files import sha256_of
from wavlm_meeting.recipes.card_settings import ABOUT, CARD
from wavlm_meeting.recipes.libricss.evaluation import (
    CENTRE,
    Diarizer,
    Words,
    WordTable,
    evaluate_words,
)
from wavlm_meeting.recipes.libricss.prepare import Manifests, libricss_of, prepare
from wavlm_meeting.recipes.libricss.recognisers import open_recogniser
from wavlm_meeting.recipes.libricss.rooms import RoomSettings, simulate_pool
from wavlm_meeting.recipes.libricss.settings import LibriCssSettings
from wavlm_meeting.recipes.libricss.simulated import Figures, Material, measure
from wavlm_meeting.recipes.libricss.table import card_figures, simulated_table, word_table
from wavlm_meeting.recipes.libricss.taken_over import take_over
from wavlm_meeting.recipes.libricss.tracks import separate_sessions
from wavlm_meeting.recipes.pretraining_settings import recipe_settings
from wavlm_meeting.recipes.results import write_json, write_table
from wavlm_meeting.recipes.stages import Stage, run_stages
from wavlm_meeting.recipes.workers import map_of
from wavlm_meeting.separation.load import PART, add_separation, load_separator
from wavlm_meeting.separation.model import SeparationHead
from wavlm_meeting.training.progress import Report
from wavlm_meeting.training.recordings import read_recordings
from wavlm_meeting.training.separation_training import load_trained, new_head, train_separation
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.backend import load_backend, save_backend
from wavlm_meeting.wavlm.model import WavLM

PIECES, PIECES_AT_ONCE = 480, 8
"""Of the training speech, that a head from another encoder is fitted on."""
TEST_PLACES = 8
"""Places of talkers in the rooms of tests, as many as LibriCSS has talkers in a session."""

log = logging.getLogger(__name__)


def run(
    data: Path,
    out: Path,
    settings: str | None = None,
    stages: str = "",
    report: Report | None = None,
) -> None:
    """Run the stages, or those from a to b of `stages` = "a..b", on the corpora below `data`.

    `report` is told how far a training is. Raises SettingsError for a stage that is none, and where
    a part of the corpora is missing.
    """
    chosen = recipe_settings(Path(__file__).parent, settings or "base_plus", LibriCssSettings)
    run_stages(LibriCssRecipe(data, out, chosen, report).stages(), out, stages)


@dataclass(frozen=True)
class LibriCssRecipe:
    """One run of the recipe in the folder `out`."""

    data: Path
    out: Path
    settings: LibriCssSettings
    report: Report | None = None

    @property
    def manifests(self) -> Manifests:
        """Manifests."""
        return Manifests(self.out / "prepared")

    @property
    def rooms(self) -> Path:
        """Rooms to train in."""
        return self.out / "rooms/train"

    @property
    def test_rooms(self) -> Path:
        """Rooms of simulated tests."""
        return self.out / "rooms/test"

    @property
    def decoded(self) -> Path:
        """Decoded speech, which several trainings may share."""
        return self.out / "decoded"

    @property
    def model(self) -> Path:
        """The finished model."""
        return self.out / "model"

    @property
    def tracks(self) -> Path:
        """LibriCSS, separated."""
        return self.out / "tracks"

    @property
    def results(self) -> Path:
        """Figures and tables."""
        return self.out / "results"

    def stages(self) -> list[Stage]:
        """Return the stages in their order."""
        settings = self.settings
        origin = {
            "data": str(self.data.resolve()),
            "sessions": sorted(each.name for each in libricss_of(self.data).glob("*/*")),
        }
        rooms = {
            "rooms": settings.rooms.model_dump(),
            "test": settings.simulated.model_dump(include={"rooms", "seed"}),
            "seed": settings.train.seed,
        }
        training = {
            **settings.model_dump(include={"encoder", "separation", "head"}),
            "weights": sha256_of(weights_file(resolve(settings.encoder))),
            "train": settings.train.model_dump(
                exclude={"trainer": {"checkpoint_steps", "log_steps", "workers"}}
            ),
        }
        signals = settings.model_dump(include={"simulated", "diarizer", "microphones"})
        figures = (self.results / "simulated.*",)
        spoken = settings.model_dump(include={"recogniser"})
        return [
            Stage("prepare", self._prepare, origin, (self.manifests.folder,)),
            Stage("rooms", self._rooms, rooms, (self.out / "rooms",)),
            Stage("train", self._train, training, (self.out / "train",), everywhere=True),
            Stage("model", self._write_model, settings.model_dump(include={*CARD}), (self.model,)),
            Stage("simulated", self._simulated, signals, figures),
            Stage("separate", self._separate, {}, (self.tracks,)),
            Stage("words", self._words, spoken, (self.results / "words.*",)),
        ]

    @cached_property
    def _source(self) -> Bundle:
        """The model that gets the head."""
        return load_model(self.settings.encoder)

    def _untrained(self) -> tuple[WavLM, SeparationHead]:
        """Return what the training begins with: the source's head if it has one of these sizes."""
        source, settings = self._source, self.settings
        encoder = build_encoder(source)
        head = new_head(encoder.config, settings.separation, settings.train.seed)
        before = source.state.get(PART, {})
        if _shapes(before) == _shapes(head.state_dict()):
            head.load_state_dict(before)
        return encoder, head

    def _prepare(self) -> None:
        prepare(self.data, self.manifests, self.settings.workers)

    def _rooms(self) -> None:
        """Simulate the rooms of the training and, with other seeds, those of tests."""
        settings = self.settings
        tested = {"rooms": settings.simulated.rooms, "places": TEST_PLACES}
        own = RoomSettings.model_validate({**settings.rooms.model_dump(), **tested})
        with map_of(settings.workers) as work:
            simulate_pool(self.rooms, settings.rooms, settings.train.seed, work)
            # Two seeds that are alike do not give the same rooms.
            simulate_pool(self.test_rooms, own, settings.simulated.seed + 1_000_000, work)

    def _begun(self) -> tuple[WavLM, SeparationHead]:
        """Return what the training begins with, another model's head taken over if one is named."""
        encoder, head = self._untrained()
        settings = self.settings
        if settings.head and not steps_done(self.out / "train"):
            other = load_separator(settings.head, "cpu")
            missed = take_over(head, encoder, other.head, other.encoder, self._pieces())
            log.info("train: %.0f %% of what the head read is missed", 100 * missed)
        return encoder, head

    def _pieces(self) -> Iterator[torch.Tensor]:
        """Give pieces of the training speech (B, N), as long as the head's windows."""
        said = read_recordings(self.manifests.speech)
        rng = np.random.default_rng(self.settings.train.seed)
        length = round(self.settings.separation.window_s * SAMPLE_RATE)
        for _ in range(PIECES // PIECES_AT_ONCE):
            chosen = rng.integers(len(said), size=PIECES_AT_ONCE).tolist()
            yield torch.from_numpy(np.stack([said.read(index, 0, length) for index in chosen]))

    def _train(self) -> None:
        encoder, head = self._begun()
        train_separation(
            encoder,
            head,
            self.out / "train",
            self.settings.train,
            speech=self.manifests.speech,
            noise=self.manifests.noise,
            rooms=self.rooms,
            decoded=self.decoded,
            report=self.report,
        )

    def _write_model(self) -> None:
        """Write the source's parts and the head; a tuned encoder leaves other heads behind."""
        settings, source = self.settings, self._source
        encoder, head = self._untrained()
        listens = encoder if settings.separation.features else None
        load_trained(self.out / "train", listens, head)
        about: dict[str, Any] = settings.model_dump(include={*ABOUT})
        kept = settings.train.task.frozen or listens is None
        about["training"] = settings.training_data
        if kept:
            about["training"] = both_trainings(source.card.training, settings.training_data)
        else:
            about["figures"] = {}
            card = source.card.model_copy(update={"heads": {}})
            source = Bundle(card, {ENCODER: encoder.state_dict()})
        card = add_separation(
            source, head, settings.separation, self.model, about, settings.storage
        )
        backend = resolve(settings.encoder) / BACKEND
        if kept and backend.is_file() and card.weights is not None:
            # Embeddings are what they were.
            own = replace(load_backend(backend), model_sha256=card.weights.sha256)
            save_backend(self.model / BACKEND, own)
        size = sum(parameter.numel() for parameter in head.parameters())
        log.info("model: a head of %.2f million parameters", size / 1e6)

    def _simulated(self) -> None:
        """Measure signals of simulated mixtures, and write figures and their table."""
        if not self.manifests.test_speech.is_file():
            log.info("simulated: no speech of other talkers, left out")
            return
        settings, manifests = self.settings, self.manifests
        material = Material(
            manifests.test_speech,
            manifests.test_noise,
            self.test_rooms,
            self.decoded,
            settings.simulated,
        )
        separator = load_separator(str(self.model))
        diarizer = load_pipeline(settings.diarizer) if settings.diarizer else None
        found: dict[int, Figures] = {}
        for microphones in settings.microphones:
            found[microphones] = measure(material, separator, diarizer, microphones)
        plain = {str(microphones): asdict(each) for microphones, each in found.items()}
        write_json(self.results / "simulated.json", plain)
        write_table(self.results / "simulated.md", simulated_table(found))
        note_figures(self.model, card_figures(found))

    def _separate(self) -> None:
        """Write the tracks of LibriCSS's test sessions."""
        separator = load_separator(str(self.model))
        for microphones in self.settings.microphones:
            separate_sessions(separator, self.manifests.test, self.tracks, microphones, self.report)

    def _words(self) -> None:
        """Write LibriCSS down, and the table of word errors beside the published ones."""
        settings = self.settings
        found: WordTable = {}
        if settings.recogniser:
            words = Words(
                self.manifests.test,
                self.tracks,
                open_recogniser(settings.recogniser),
                self.results / "words.jsonl",
                _turns_by(load_pipeline(settings.diarizer)) if settings.diarizer else None,
            )
            found = evaluate_words(words, settings.microphones, self.report)
        else:
            log.info("words: no recogniser in the settings, left out")
        rates = {
            way: {name: counts.rate for name, counts in by_condition.items()}
            for way, by_condition in found.items()
        }
        write_json(self.results / "words.json", rates)
        write_table(self.results / "words.md", word_table(rates))


def _shapes(state: Mapping[str, torch.Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in state.items()}


def both_trainings(before: Training, now: Training) -> Training:
    """Return what a model was made from by two recipes, one after the other."""
    recipes = dict.fromkeys((*before.recipe.split(", then "), now.recipe))
    return Training(
        data=tuple(dict.fromkeys((*before.data, *now.data))),
        teachers=tuple(dict.fromkeys((*before.teachers, *now.teachers))),
        recipe=", then ".join(name for name in recipes if name),
    )


def _turns_by(diarizer: DiarizationPipeline) -> Diarizer:
    """Return what says who speaks when at the array's centre."""

    def turns_of(path: Path) -> Annotation:
        return diarizer(read_audio(path, channel=CENTRE)).to_annotation()

    return turns_of
