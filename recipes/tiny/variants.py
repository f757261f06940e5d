"""Stage `variants`: models that differ in one choice, trained beside each other, in one table.

Ablations and a curve of sizes are the same thing: settings, changes to them by name, and as many
models. Each is trained and its clustering chosen as the recipe does, then all are measured.
"""

import logging
from collections.abc import Sequence
from pathlib import Path

from wavlm_meeting.checkpoints.card import note_figures
from wavlm_meeting.checkpoints.folders import CARD
from wavlm_meeting.config import merged, parse_settings
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import size_of
from wavlm_meeting.recipes.tiny.evidence import (
    SIZE,
    SPEED,
    long_recording,
    measure,
    real_time_factor,
    side_by_side,
)
from wavlm_meeting.recipes.tiny.export import export
from wavlm_meeting.recipes.tiny.pretrain import PRETRAINED, pretrain, pretrained
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.recipes.tiny.train import train

BUNDLE = "bundle"
"""In a variant's folder."""

log = logging.getLogger(__name__)


def variants(
    corpus: Path,
    work: Path,
    folder: Path,
    settings: TinySettings,
    only: Sequence[str] = (),
    workers: int = 0,
) -> str:
    """Train what `settings.variants` names and return a table of them as Markdown.

    Args:
        corpus: Folder with the meetings and lists of trials; what it lacks has no row.
        work: Folder in which `prepare` has run.
        folder: Where each variant has a folder; one whose bundle is there is left as it is.
        settings: What all have in common, and the changes.
        only: Train and measure these alone, all if empty: others may be trained elsewhere.
        workers: Processes that measure quality, one a core if 0; speed is measured after them.

    Raises:
        SettingsError: There are no variants, or not these, or a change is none that can be made.
    """
    chosen = {name: varied(settings, name) for name in only or settings.variants}
    if not chosen:
        raise SettingsError("no variants: add a table [variants.NAME] to the settings.")
    for name, own in chosen.items():
        if not (folder / name / BUNDLE / CARD).is_file():
            log.info("variants: %s", name)
            _train(corpus, work, folder, settings, own, folder / name)
    bundles = [folder / name / BUNDLE for name in chosen]
    figures = measure(corpus, work, settings.evaluation, bundles, workers)
    recording = long_recording(work, settings.evaluation)
    for bundle, own_figures in zip(bundles, figures, strict=True):
        own_figures[SPEED] = real_time_factor(load_pipeline(str(bundle), "cpu"), recording)
        own_figures[SIZE] = round(size_of(bundle) / 1e6, 2)
        note_figures(bundle, own_figures)
    return side_by_side(dict(zip(chosen, figures, strict=True)))


def varied(settings: TinySettings, name: str) -> TinySettings:
    """Return the settings with the changes of a variant; raises SettingsError."""
    if name not in settings.variants:
        known = ", ".join(settings.variants) or "none"
        raise SettingsError(f"no variant '{name}': there are {known}.")
    below = settings.model_dump(exclude={"variants"})
    values = merged(below, settings.variants[name])
    own = parse_settings(values, TinySettings, f"variants.{name}")
    card = own.card.model_copy(update={"name": f"{own.card.name}-{name}"})
    return own.model_copy(update={"card": card})


def _train(
    corpus: Path, work: Path, folder: Path, settings: TinySettings, own: TinySettings, place: Path
) -> None:
    """Pretrain, train and choose one variant; what several have in common is pretrained once."""
    start = None
    if own.pretraining is not None:
        chain, common = _chain(folder / PRETRAINED, settings, own, place / PRETRAINED)
        pretrain(work, chain, own, common)
        start = pretrained(chain.parent)
    train(work, place, own, start)
    export(corpus, work, place, own, place / BUNDLE, brief=True)


def _chain(
    shared: Path, settings: TinySettings, own: TinySettings, alone: Path
) -> tuple[Path, Path | None]:
    """Return the folder of a variant's second model, and of what comes before it."""
    if settings.pretraining is None or own.pretraining is None or own.encoder != settings.encoder:
        return alone, None
    if own.pretraining == settings.pretraining:
        return shared, None
    if own.pretraining.model_copy(update={"second": settings.pretraining.second}) == (
        settings.pretraining
    ):
        return alone, shared
    return alone, None
