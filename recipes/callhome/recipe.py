"""Diarization of telephone calls: from simulated mixtures and CALLHOME to the paper's table."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from wavlm_meeting.files import sha256_of
from wavlm_meeting.recipes.callhome.prepare import TEST, lists_of, prepare, reference_of
from wavlm_meeting.recipes.callhome.settings import CallhomeSettings
from wavlm_meeting.recipes.callhome.table import table
from wavlm_meeting.recipes.diarization import DiarizationRecipe
from wavlm_meeting.recipes.pretraining_settings import recipe_settings
from wavlm_meeting.recipes.stages import run_stages
from wavlm_meeting.training.progress import Report


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
    chosen = recipe_settings(Path(__file__).parent, settings or "base", CallhomeSettings)
    recipe = DiarizationRecipe(
        out,
        chosen,
        _origin(data, chosen),
        partial(prepare, data, settings=chosen),
        (TEST,),
        table,
        report,
    )
    run_stages(recipe.stages(), out, stages)


def _origin(data: Path, settings: CallhomeSettings) -> Mapping[str, Any]:
    """Return what manifests depend on: the folder, the key, the lists, and the choice."""
    files = [reference_of(data), *lists_of(data)]
    hashes = {str(path.relative_to(data)): sha256_of(path) for path in files}
    chosen = {"dev": settings.dev, "seed": settings.seed, "speech": settings.simulates()}
    return {"data": str(data.resolve()), "files": hashes, **chosen}
