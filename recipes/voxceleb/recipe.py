"""Speaker verification on VoxCeleb: WavLM and ECAPA-TDNN, from folders to calibrated scores."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.checkpoints.formats import weights_file
from wavlm_meeting.config import parse_settings
from wavlm_meeting.files import sha256_of
from wavlm_meeting.recipes.card_settings import CARD
from wavlm_meeting.recipes.finding import find_file
from wavlm_meeting.recipes.manifests import Row, read_manifest
from wavlm_meeting.recipes.pretraining_settings import recipe_settings
from wavlm_meeting.recipes.results import write_table
from wavlm_meeting.recipes.stages import Stage, run_stages, training_values
from wavlm_meeting.recipes.voxceleb.baselines import baseline_systems
from wavlm_meeting.recipes.voxceleb.fitting import calibrate, write_cohort
from wavlm_meeting.recipes.voxceleb.lists import find_lists
from wavlm_meeting.recipes.voxceleb.prepare import Prepared, prepare
from wavlm_meeting.recipes.voxceleb.settings import FBANK, VoxCelebSettings
from wavlm_meeting.recipes.voxceleb.table import table
from wavlm_meeting.recipes.voxceleb.teacher import write_teacher
from wavlm_meeting.recipes.voxceleb.train import export, train
from wavlm_meeting.recipes.voxceleb.trials import (
    Figures,
    System,
    model_systems,
    read_figures,
    try_systems,
    write_figures,
)
from wavlm_meeting.training.progress import Report

LARGE_MARGIN = "large_margin"
"""The training that is a stage of its own; those before it are one stage, `train`."""


def run(
    data: Path,
    out: Path,
    settings: str | None = None,
    stages: str = "",
    report: Report | None = None,
    encoder: str | None = None,
) -> None:
    """Run the stages, or those from a to b of `stages` = "a..b", on the corpora below `data`.

    `encoder` is used instead of that of the settings: a name, folder, file or hub id, or "fbank"
    for ECAPA-TDNN on a filterbank. `report` is told how far a training is. Raises SettingsError for
    a stage that is none, and where a part of the corpora is missing.
    """
    name = settings or (FBANK if encoder == FBANK else "large")
    chosen = recipe_settings(Path(__file__).parent, name, VoxCelebSettings)
    if encoder is not None:
        values = chosen.model_dump() | {"encoder": encoder, "start": ""}
        chosen = parse_settings(values, VoxCelebSettings, f"{name} with --encoder {encoder}")
    run_stages(VoxCeleb(data, out, chosen, report).stages(), out, stages)


@dataclass(frozen=True)
class VoxCeleb:
    """One run of the recipe in the folder `out`."""

    data: Path
    out: Path
    settings: VoxCelebSettings
    report: Report | None = None

    @property
    def prepared(self) -> Prepared:
        """Manifests."""
        return Prepared(self.out / "prepared")

    @property
    def model(self) -> Path:
        """The finished model, or that which gets a backend as it is."""
        return self.out / "model" if self.settings.trainings() else resolve(self.settings.start)

    @property
    def backend(self) -> Path:
        """Its backend."""
        return self.out / "model" / BACKEND

    @property
    def cohort(self) -> Path:
        """Mean voices of training speakers."""
        return self.out / "cohort.npy"

    @property
    def results(self) -> Path:
        """Scores, figures and pictures."""
        return self.out / "results"

    def stages(self) -> list[Stage]:
        """Return the stages in their order; those that a setting makes needless are left out."""
        settings, prepared = self.settings, self.prepared
        stages = [Stage("prepare", self._prepare, self._origin(), (prepared.folder,))]
        if settings.taught():
            heard = {"speeds": settings.taught()}
            stages.append(Stage("teacher", self._teach, heard, (prepared.teacher,)))
        first = [name for name in settings.trainings() if name != LARGE_MARGIN]
        if first:
            stages.append(self._train_stage("train", first))
        if settings.large_margin is not None:
            stages.append(self._train_stage("large-margin", [LARGE_MARGIN]))
        normalising = settings.cohort.model_dump()
        if settings.trainings():
            stages.append(Stage("export", self._export, self._about(), (self.model,)))
        else:
            normalising["model"] = sha256_of(weights_file(self.model))
        fitting = settings.model_dump(include={"calibration", "backend"})
        trying: dict[str, Any] = {"resamples": settings.resamples}
        stages += [
            Stage("cohort", self._cohort, normalising, (self.cohort,)),
            Stage("calibrate", self._calibrate, fitting, (self.backend,)),
        ]
        if settings.baselines:
            stages.append(Stage("baselines", self._baselines, trying, (self._of_baselines,)))
        return [*stages, Stage("test", self._test, trying)]

    def _train_stage(self, stage: str, names: Sequence[str]) -> Stage:
        """Return a stage of some trainings, which all processes run together."""
        settings = self.settings
        values = {name: training_values(settings.trainings()[name]) for name in names}

        def run_all() -> None:
            for name in names:
                train(name, self.prepared, self.out, settings, self.report)

        values |= settings.model_dump(include={"encoder", "model", "start"})
        folders = tuple(self.out / name for name in names)
        return Stage(stage, run_all, values, folders, everywhere=True)

    def _about(self) -> dict[str, Any]:
        """Return what the exported model depends on beside the trainings."""
        return self.settings.model_dump(include={*CARD, "kept"})

    def _origin(self) -> Mapping[str, Any]:
        """Return what manifests depend on: the folder, the choice, and the trial lists."""
        found = {name: find_file(self.data, name) for name in self.settings.data.lists.values()}
        hashes = {name: sha256_of(path) for name, path in found.items() if path is not None}
        chosen = self.settings.data.model_dump(exclude={"workers"})
        return {"data": str(self.data.resolve()), "lists": hashes, "chosen": chosen}

    def _prepare(self) -> None:
        prepare(self.data, self.out, self.prepared, self.settings.data)

    def _teach(self) -> None:
        write_teacher(self.prepared, self.settings.taught(), self.settings.data.workers)

    def _export(self) -> None:
        export(self.out, self.model, self.settings)

    def _cohort(self) -> None:
        write_cohort(self.model, self.prepared.train, self.cohort, self.settings.cohort)

    def _calibrate(self) -> None:
        own = self.settings
        names = own.calibration.lists
        chosen = {name: own.data.lists[name] for name in names}
        found = find_lists(self.data, chosen) if chosen else {}
        cuts = self.prepared.tested if names else self.prepared.held_out
        arguments = self.model, cuts, self.cohort, self.backend, own.calibration, own.backend
        calibrate(*arguments, list(found.values()))

    @property
    def _of_baselines(self) -> Path:
        return self.results / "baselines"

    def _baselines(self) -> None:
        self._try(baseline_systems(self._rows()), self._of_baselines)

    def _test(self) -> None:
        found = self._try(model_systems(self.model, self.backend, self._rows()), self.results)
        if self.settings.baselines:
            found |= read_figures(self._of_baselines)
        write_table(self.results / "results.md", table(found))

    def _rows(self) -> list[Row]:
        return list(read_manifest(self.prepared.tested))

    def _try(self, systems: Mapping[str, System], folder: Path) -> Figures:
        """Try systems on all lists; rows are in the order of the manifest."""
        lists = find_lists(self.data, self.settings.data.lists)
        found = try_systems(systems, lists, self._rows(), folder, self.settings.resamples)
        write_figures(folder, found)
        return found
