"""What each part of the method brings: the same steps and seeds without it, seen by the probes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from pydantic import Field

from wavlm_meeting.checkpoints.loading import load_encoder
from wavlm_meeting.config import Settings, parse_settings
from wavlm_meeting.files import atomic_write
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.pretraining.task import PretrainingTask
from wavlm_meeting.recipes.pretraining import UNITS, Chain
from wavlm_meeting.recipes.results import write_json
from wavlm_meeting.recipes.stages import Stage
from wavlm_meeting.recipes.tiny_pretrain.probe_features import fbank_features
from wavlm_meeting.recipes.tiny_pretrain.probes import ProbeSettings, probe_features, run_probes
from wavlm_meeting.wavlm.model import WavLM

LOG_MEL = "log-mel"
"""The row of the probes on a filterbank instead of an encoder."""

VARIANTS: dict[str, dict[str, Any] | None] = {
    "random": None,
    "hubert": {"mixing": {"probability": 0.0}, "encoder": {"position_bias": "none"}},
    "wavlm-no-gate": {"encoder": {"position_bias": "plain"}},
    "wavlm": {},
}
"""What differs from the second model; None is not trained at all."""

COLUMNS = {
    "EER trials_test": ("eer", "trials_test"),
    "hard": ("eer", "trials_test_hard"),
    "cv": ("eer", "trials_test_cv"),
    "speech F1": ("speech", "f1"),
    "overlap F1": ("overlap", "f1"),
    "words": ("word_accuracy",),
}
"""Columns of the table and where the probes' scores hold them; all in per cent."""


class AblationSettings(Settings):
    """Which runs the ablation is made of."""

    seeds: tuple[int, ...] = Field(())
    """Seeds of each variant; none, and there is no ablation."""


@dataclass(frozen=True)
class Ablation:
    """The ablation of a chain, on a corpus that the probes know."""

    chain: Chain
    corpus: Path
    settings: AblationSettings
    probes: ProbeSettings

    def stages(self) -> list[Stage]:
        """Return a stage for each variant and seed, seed by seed, and one for the table."""
        if not self.settings.seeds:
            return []
        runs = [
            Stage(
                f"{name}-{seed}",
                lambda name=name, seed=seed: self._run(name, seed),  # type: ignore[misc]
                {"probes": self.probes.model_dump()},
            )
            for seed in self.settings.seeds
            for name in VARIANTS
        ]
        log_mel = Stage(LOG_MEL, self._log_mel, {"probes": self.probes.model_dump()})
        return [*runs, log_mel, Stage("table", self._table, {})]

    @property
    def folder(self) -> Path:
        """Where the runs and their scores lie."""
        return self.chain.out / "ablation"

    def _run(self, name: str, seed: int) -> None:
        """Train a variant and write what the probes find."""
        encoder = self._encoder(name, seed)
        scores = run_probes(encoder, self.corpus, self.chain.out / "probes", self.probes)
        write_json(self.folder / f"{name}-{seed}.json", scores.as_dict())

    def _log_mel(self) -> None:
        work = self.chain.out / "probes"
        scores = probe_features(fbank_features(), self.corpus, work, self.probes)
        write_json(self.folder / f"{LOG_MEL}.json", scores.as_dict())

    def _encoder(self, name: str, seed: int) -> WavLM:
        second = self.chain.settings.second
        changes = VARIANTS[name]
        if changes is None:
            task = PretrainingTask(second.model_copy(update={"seed": seed}), (1,))
            return task.model.encoder.eval()
        if not changes and seed == second.seed:  # the model of the chain itself
            return load_encoder(self.chain.out / "second")
        settings = changed(second, {**changes, "seed": seed})
        folder = self.folder / f"{name}-{seed}"
        self.chain.train(UNITS, folder, settings)
        return load_encoder(folder)

    def _table(self) -> None:
        names = {LOG_MEL: [LOG_MEL]}
        names |= {name: [f"{name}-{seed}" for seed in self.settings.seeds] for name in VARIANTS}
        rows = {
            row: [
                json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
                for name in own
            ]
            for row, own in names.items()
        }
        with atomic_write(self.folder / "table.md") as temporary:
            temporary.write_text(table(rows), encoding="utf-8")


def changed(settings: PretrainingSettings, changes: Mapping[str, Any]) -> PretrainingSettings:
    """Return settings with some values, by table, laid over them."""
    values = settings.model_dump()
    for key, value in changes.items():
        values[key] = {**values[key], **value} if isinstance(value, Mapping) else value
    return parse_settings(values, PretrainingSettings, "ablation")


def table(rows: Mapping[str, Sequence[Mapping[str, Any]]]) -> str:
    """Write scores as a Markdown table: mean over the seeds, and deviation where there are more."""
    lines = [f"| | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, scores in rows.items():
        cells = [_cell([_value(each, keys) for each in scores]) for keys in COLUMNS.values()]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _value(scores: Mapping[str, Any], keys: Sequence[str]) -> float:
    found: Any = scores
    for key in keys:
        found = found[key]
    return 100 * float(found)


def _cell(values: Sequence[float]) -> str:
    spread = f" ± {stdev(values):.1f}" if len(values) > 1 else ""
    return f"{mean(values):.1f}{spread}"
