"""WavLM as published: Base on LibriSpeech, Base+ and Large on 94,000 hours."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from pydantic import Field

from wavlm_meeting.recipes.mix94k.corpora import corpus_cuts
from wavlm_meeting.recipes.pretraining import Chain, Speech
from wavlm_meeting.recipes.pretraining_settings import ChainSettings, recipe_settings
from wavlm_meeting.recipes.stages import run_stages
from wavlm_meeting.training.progress import Report
from wavlm_meeting.training.sources import Source


class Mix94kSettings(ChainSettings):
    """The whole recipe."""

    corpora: tuple[str, ...] = Field(min_length=1)
    """Speech, by the names of `corpora.py`; each lies in a folder of that name."""
    noise: tuple[str, ...] = ()
    """Noise, likewise."""


def run(
    data: Path,
    out: Path,
    settings: str | None = None,
    stages: str = "",
    report: Report | None = None,
) -> None:
    """Run the stages, or those from a to b of `stages` = "a..b", on the corpora below `data`.

    `report` is told how far a training is. Raises SettingsError for a stage that is none,
    and where a corpus is missing.
    """
    chosen = recipe_settings(Path(__file__).parent, settings or "base", Mix94kSettings)

    def speech() -> Iterator[Source]:
        return _all_of(chosen.corpora, data)

    def noise() -> Iterator[Source]:
        return _all_of(chosen.noise, data)

    origin = {"data": str(data.resolve()), "corpora": chosen.corpora}
    chain = Chain(Speech(speech, origin, noise if chosen.noise else None), out, chosen, report)
    run_stages(chain.stages(), out, stages)


def _all_of(names: Sequence[str], data: Path) -> Iterator[Source]:
    """Give one corpus after the other; all are looked for before the first is read."""
    corpora = [corpus_cuts(name, data / name) for name in names]
    return (source for corpus in corpora for source in corpus)
