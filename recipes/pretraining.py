"""The chain from speech to a model: shards -> labels -> HuBERT -> units -> WavLM -> bundle.

The recipes give it their speech and settings. Started by torchrun, all processes go through it
together: shards, labels and training are shared out, the rest is done by the first one.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from wavlm_meeting.checkpoints.bundle import write_bundle
from wavlm_meeting.checkpoints.loading import load_encoder
from wavlm_meeting.checkpoints.trainings import read_training
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.pretraining.labels import FrameFeatures, best_layer, layer_features
from wavlm_meeting.pretraining.mfcc import mfcc_features
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.recipes.pretraining_settings import ChainSettings, LabelSettings
from wavlm_meeting.recipes.stages import Stage, training_values
from wavlm_meeting.training.labelling import frame_units, make_labels
from wavlm_meeting.training.pretrain import pretrain
from wavlm_meeting.training.processes import processes, wait_for_all
from wavlm_meeting.training.progress import Report
from wavlm_meeting.training.shards import read_index, read_shards, write_shards
from wavlm_meeting.training.sources import Source
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

MFCC, UNITS = "mfcc", "units"
ALIGNED_CUTS = 200
"""Cuts with known words that layers are compared on."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Speech:
    """What a chain begins with."""

    cuts: Callable[[], Iterable[Source]]
    """Gives all speech, in the same order each time."""
    origin: Mapping[str, Any]
    """Plain values that differ where the speech does."""
    noise: Callable[[], Iterable[Source]] | None = None
    """Gives all noise, if any is mixed in."""


@dataclass(frozen=True)
class Chain:
    """One run of the chain in the folder `out`."""

    speech: Speech
    out: Path
    settings: ChainSettings
    report: Report | None = None

    def stages(self) -> list[Stage]:
        """Return the stages in their order; those that a setting makes needless are left out."""
        settings, first = self.settings, self.settings.first
        stages = [
            Stage(
                "shards",
                self._write_speech,
                {"origin": dict(self.speech.origin), "cuts": settings.shard_cuts},
                (self.shards,),
                everywhere=True,
            )
        ]
        if self.speech.noise is not None:
            stages.append(
                Stage("noise", self._write_noise, {}, (self.noise_shards,), everywhere=True)
            )
        if first is not None:
            stages += [
                self._label_stage(MFCC, self._mfcc, settings.mfcc),
                self._train_stage("first", MFCC, first),
            ]
        return [
            *stages,
            self._label_stage(UNITS, self._units, settings.units),
            self._train_stage("second", UNITS, settings.second),
            Stage(
                "export",
                self._export,
                settings.model_dump(include={"name", "licence", "training"}),
                (self.out / "bundle",),
            ),
        ]

    @property
    def shards(self) -> Path:
        """Where the speech lies."""
        return self.out / "shards"

    @property
    def noise_shards(self) -> Path:
        """Where the noise lies."""
        return self.out / "noise"

    def train(self, field: str, folder: Path, settings: PretrainingSettings) -> None:
        """Pretrain in `folder` on one of the label sets."""
        noise = self.noise_shards if self.speech.noise is not None else None
        pretrain(self.shards, (field,), folder, settings, noise, self.report)

    def _label_stage(
        self, field: str, features: Callable[[], FrameFeatures], settings: LabelSettings
    ) -> Stage:
        return Stage(
            field,
            lambda: self._label(field, features, settings),
            settings.model_dump(),
            (self.shards / f"{field}.*",),
            everywhere=True,
        )

    def _train_stage(self, name: str, field: str, settings: PretrainingSettings) -> Stage:
        folder = self.out / name
        values = training_values(settings)
        return Stage(
            name, lambda: self.train(field, folder, settings), values, (folder,), everywhere=True
        )

    def _write_speech(self) -> None:
        self._write(self.speech.cuts(), self.shards)

    def _write_noise(self) -> None:
        if self.speech.noise is not None:
            self._write(self.speech.noise(), self.noise_shards)

    def _write(self, cuts: Iterable[Source], target: Path) -> None:
        write_shards(cuts, target, self.settings.shard_cuts, processes())
        wait_for_all()
        if processes()[0] == 0:
            index = read_index(target)
            skipped = sum(len(shard.skipped) for shard in index)
            hours = sum(shard.seconds for shard in index) / 3600
            log.info("%s: %.2f hours, %d files or pieces left out", target.name, hours, skipped)

    def _label(
        self, field: str, features: Callable[[], FrameFeatures], settings: LabelSettings
    ) -> None:
        """Label all speech; say how labels are used, and what they know of words with times."""
        hop = self._config().hop
        report = make_labels(self.shards, field, features(), settings.frames, settings.kmeans, hop)
        if report is None:
            return
        log.info(
            "%s: %d frames, %d of %d clusters in use, perplexity %.0f",
            field, report.frames, report.used, report.clusters, report.perplexity,
        )  # fmt: skip
        if report.quality is not None:
            log.info(
                "%s: of %d frames with one of %d words: word purity %.3f, cluster purity %.3f, "
                "share of the words' information %.3f",
                field, report.aligned_frames, report.units, report.quality.unit_purity,
                report.quality.label_purity, report.quality.information,
            )  # fmt: skip

    def _mfcc(self) -> FrameFeatures:
        return mfcc_features(self._config().hop)

    def _units(self) -> FrameFeatures:
        settings, first = self.settings.units, self.settings.first
        if settings.encoder is None and first is None:
            raise SettingsError("units come from first or from units.encoder: give one of them.")
        encoder = load_encoder(settings.encoder or self.out / "first", resolve_device("auto"))
        layer = settings.layer
        if layer is None:
            layer = self._best_layer(encoder)
        return layer_features(encoder, layer)

    def _best_layer(self, encoder: WavLM) -> int:
        """Have the first process choose the layer, once: all must label with the same one."""
        path = self.shards / f"{UNITS}.layer"
        if processes()[0] == 0 and not path.is_file():
            with atomic_write(path) as temporary:
                temporary.write_text(f"{self._choose_layer(encoder)}\n", encoding="utf-8")
        wait_for_all()
        return int(path.read_text(encoding="utf-8"))

    def _choose_layer(self, encoder: WavLM) -> int:
        """Return the layer whose clusters know most about words, else the middle one."""
        aligned = list(islice(self._aligned(encoder.config), ALIGNED_CUTS))
        if not aligned:
            return (encoder.config.layers + 1) // 2
        kmeans = self.settings.units.kmeans
        best, known = best_layer(encoder, aligned, kmeans.clusters, kmeans.seed)
        shares = ", ".join(f"{share:.3f}" for share in known)
        log.info("units: layer %d; share of the words' information by layer: %s", best, shares)
        return best

    def _aligned(self, config: WavLMConfig) -> Iterator[tuple[Tensor, Tensor]]:
        """Give waveforms (N,) with the number of each frame's word (T,), -1 where there is none."""
        words: dict[str, int] = {}
        for cut in read_shards(self.shards):
            frames = config.frame_count(cut.num_samples)
            units = frame_units(cut, "word", config.hop, frames)
            if units is None:
                continue
            numbers = [-1 if word is None else words.setdefault(word, len(words)) for word in units]
            yield torch.from_numpy(cut.load_audio()[0]), torch.tensor(numbers)

    def _config(self) -> WavLMConfig:
        return self.settings.second.encoder

    def _export(self) -> None:
        settings, model = self.settings, read_training(self.out / "second")
        about = settings.model_dump(include={"name", "licence"}) | {"training": settings.training}
        write_bundle(self.out / "bundle", model.state, model.card.model_copy(update=about))
