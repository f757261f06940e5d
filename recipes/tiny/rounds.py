"""Rounds of training, each of which begins with what the one before it leaves."""

import logging
from pathlib import Path

from wavlm_meeting.checkpoints.folders import CARD
from wavlm_meeting.checkpoints.trainings import steps_done
from wavlm_meeting.config import read_toml
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.tiny.compress import compress_round, compressed
from wavlm_meeting.recipes.tiny.export import trained_pipeline, written
from wavlm_meeting.recipes.tiny.pretrain import PRETRAINED, pretrain, pretrained
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.recipes.tiny.train import train

LEFT = "left"
"""Folder of the bundle that the next round begins with, within that of a round."""

log = logging.getLogger(__name__)


def train_round(work: Path, path: Path, start: Path | None = None) -> None:
    """Train by the settings at `path`, and whatever else its weights are averaged with.

    Without a `start` the rounds before are made first; what is done is left as it is. Raises
    SettingsError where one of these is not there or they follow each other in a circle, and where
    a round that compresses has nothing to begin with.
    """
    settings = read_toml(path, TinySettings)
    start = start or _left_by_the_one_before(work, path) or pretrained(work / path.stem)
    if settings.compression is not None:
        if start is None:
            raise SettingsError(f"{path}: has nothing to compress; name a bundle with --start.")
        compress_round(work, work / path.stem, settings, settings.compression, start)
        return
    train(work, work / path.stem, settings, start)
    for name in settings.averaged_with:
        other = read_toml(path.with_name(f"{name}.toml"), TinySettings)
        train(work, work / name, other, start)


def begun_with(
    work: Path, folder: Path, settings: TinySettings, start: Path | None = None
) -> Path | None:
    """Return what a training in `folder` began with: `start`, or what the round before it left.

    Where nothing was trained that is `start` alone, and after a compression what it made.
    """
    if settings.compression is not None and (compressed(folder) / CARD).is_file():
        return compressed(folder)
    return start or (left_before(work, settings) if steps_done(folder) else None)


def left_before(work: Path, settings: TinySettings) -> Path | None:
    """Return the bundle that the round before these settings has left, if it has."""
    left = work / Path(settings.after).stem / LEFT
    return left if settings.after and (left / CARD).is_file() else None


def _left_by_the_one_before(work: Path, path: Path) -> Path | None:
    """Make what the round before leaves, if there is one, and return where it is."""
    for name in rounds_before(path):
        settings = read_toml(name, TinySettings)
        folder = work / name.stem
        if (folder / LEFT / CARD).is_file():
            continue
        pretrain(work, folder / PRETRAINED, settings)
        begun = left_before(work, settings)
        train_round(work, name, begun)
        pipeline = trained_pipeline(folder, settings, begun)
        written(folder / LEFT, pipeline, settings, {})
        log.info("train: round %s is done", name.stem)
    return left_before(work, read_toml(path, TinySettings))


def rounds_before(path: Path) -> list[Path]:
    """Return the settings of all rounds before that at `path`, the first one first.

    Raises SettingsError where one is not there, they follow each other in a circle, or one that
    makes the model smaller is not the last.
    """
    rounds = [path]
    while after := read_toml(rounds[0], TinySettings).after:
        earlier = rounds[0].parent / after
        if not earlier.is_file():
            raise SettingsError(
                f'{rounds[0]}: after = "{after}" is not there: give its path, or "" for none.'
            )
        if earlier.resolve() in {each.resolve() for each in rounds}:
            raise SettingsError(
                f'{rounds[0]}: after = "{after}" closes a circle of rounds: name none, or another.'
            )
        if read_toml(earlier, TinySettings).compression is not None:
            raise SettingsError(
                f'{rounds[0]}: after = "{after}" makes the model smaller, which nothing can '
                "follow: name the round before it."
            )
        rounds.insert(0, earlier)
    return rounds[:-1]
