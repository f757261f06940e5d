"""Stage after `export`, for verification: the backend beside a bundle, by the recipe `voxceleb`."""

import shutil
from pathlib import Path

from wavlm_meeting.checkpoints.folders import BACKEND
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes import voxceleb
from wavlm_meeting.recipes.pretraining_settings import recipe_settings
from wavlm_meeting.recipes.stages import run_stages
from wavlm_meeting.recipes.voxceleb.recipe import VoxCeleb
from wavlm_meeting.recipes.voxceleb.settings import VoxCelebSettings
from wavlm_meeting.recipes.voxceleb.small import lay_out

RECIPE = Path(voxceleb.__file__).parent


def backend(corpus: Path, work: Path, bundle: Path, name: str, workers: int = 0) -> None:
    """Fit a backend to the weights of `bundle` and put it beside them; what is done stays.

    `name` are settings of that recipe, whose `start` gives way. Raises SettingsError for a corpus
    without trial lists, and for settings that train: their backend would be of other weights.
    """
    known = recipe_settings(RECIPE, name, VoxCelebSettings)
    if known.trainings():
        raise SettingsError(f"backend: {name} trains a model; name settings without trainings.")
    tree, out = work / "voxceleb", work / "backend"
    lay_out(corpus, tree, workers)
    own = known.model_copy(update={"start": str(bundle), "baselines": False})
    run_stages(VoxCeleb(tree, out, own).stages(), out, "prepare..calibrate")
    with atomic_write(bundle / BACKEND) as path:
        shutil.copyfile(out / "model" / BACKEND, path)
