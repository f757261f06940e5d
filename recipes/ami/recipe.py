"""Diarization of meetings: AMI's headset mix and a distant microphone, from folders to a table."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from wavlm_meeting.files import sha256_of
from wavlm_meeting.recipes.ami.prepare import SETUP, folder_of, prepare
from wavlm_meeting.recipes.ami.settings import AmiSettings
from wavlm_meeting.recipes.ami.table import table
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
    """Run the stages, or those from a to b of `stages` = "a..b", on the corpus below `data`.

    `report` is told how far a training is. Raises SettingsError for a stage that is none, and where
    a part of the corpus is missing.
    """
    chosen = recipe_settings(Path(__file__).parent, settings or "base_plus", AmiSettings)
    recipe = DiarizationRecipe(
        out,
        chosen,
        _origin(data, chosen),
        partial(prepare, data, settings=chosen),
        chosen.microphones,
        table,
        report,
    )
    run_stages(recipe.stages(), out, stages)


def _origin(data: Path, settings: AmiSettings) -> Mapping[str, Any]:
    """Return what manifests depend on: the folder, its lists, and the choice."""
    setup = folder_of(data, SETUP)
    lists = {
        path.name: sha256_of(path) for path in sorted((setup / "lists").glob("*.meetings.txt"))
    }
    chosen = {"microphones": settings.microphones, "speech": settings.simulates()}
    return {"data": str(data.resolve()), "lists": lists, **chosen}
