"""A small WavLM from a folder of speech: labels, HuBERT, better labels, WavLM, probes."""

import logging
from pathlib import Path

from wavlm_meeting.checkpoints.loading import load_encoder
from wavlm_meeting.recipes.pretraining import Chain
from wavlm_meeting.recipes.pretraining_settings import ChainSettings, recipe_settings
from wavlm_meeting.recipes.results import write_json
from wavlm_meeting.recipes.stages import Stage, run_stages
from wavlm_meeting.recipes.tiny_pretrain.ablation import Ablation, AblationSettings
from wavlm_meeting.recipes.tiny_pretrain.probes import ProbeSettings, run_probes
from wavlm_meeting.recipes.tiny_pretrain.speech import MANIFEST, speech_below
from wavlm_meeting.training.progress import Report

log = logging.getLogger(__name__)


class TinyPretrainSettings(ChainSettings):
    """The whole recipe."""

    probes: ProbeSettings | None = None
    """Probes of the second model; they need a corpus with a manifest.csv and trial lists."""
    ablation: AblationSettings = AblationSettings()
    """Runs that show what each part of the method brings."""


def run(
    data: Path,
    out: Path,
    settings: str | None = None,
    stages: str = "",
    report: Report | None = None,
) -> None:
    """Run the stages, or those from a to b of `stages` = "a..b", on the speech in `data`.

    `report` is told how far a training is. Raises AudioError if there is no speech,
    SettingsError for a stage that is none.
    """
    chosen = recipe_settings(
        Path(__file__).parent, settings or "tiny_pretrain", TinyPretrainSettings
    )
    chain = Chain(speech_below(data), out, chosen, report)
    run_stages([*chain.stages(), *_judged(chain, data, chosen)], out, stages)


def _judged(chain: Chain, data: Path, settings: TinyPretrainSettings) -> list[Stage]:
    """Return the stages that look at the models, where the corpus has what they need."""
    probes = settings.probes
    if probes is None:
        return []
    if not (data / MANIFEST).is_file():
        log.info("%s: no %s, so no probes", data, MANIFEST)
        return []

    def probe() -> None:
        encoder = load_encoder(chain.out / "second")
        found = run_probes(encoder, data, chain.out / "probes", probes)
        write_json(chain.out / "probes.json", found.as_dict())

    ablation = Ablation(chain, data, settings.ablation, probes)
    return [Stage("probes", probe, probes.model_dump()), *ablation.stages()]
