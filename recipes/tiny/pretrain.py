"""Stage `pretrain`: the chain of pretraining on the prepared speech, all of it where the model is.

MFCC -> clusters -> HuBERT's objective -> clusters of a layer -> WavLM's objective, as in
`recipes/pretraining.py`, which reads shards of any size. Here samples and labels fit on the device:
crops, mixing and masks are made there. Each part that is done is left as it is.

N samples, T frames, C channels, K clusters.
"""

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from wavlm_meeting.checkpoints.trainings import read_weights, steps_done
from wavlm_meeting.devices import resolve_device
from wavlm_meeting.files import atomic_write
from wavlm_meeting.pretraining.kmeans import KMeansSettings, assign, fit_kmeans
from wavlm_meeting.pretraining.mfcc import mfcc_features
from wavlm_meeting.pretraining.settings import PretrainingSettings
from wavlm_meeting.pretraining.task import PretrainingBatch, PretrainingTask
from wavlm_meeting.recipes.tiny.collection import Collection, load_collection
from wavlm_meeting.recipes.tiny.crops import CropBatch, CropBatches, CropReader
from wavlm_meeting.recipes.tiny.settings import ChainSettings, TinySettings
from wavlm_meeting.recipes.tiny.train import samples_on
from wavlm_meeting.training.trainer import fit
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.config import WavLMConfig
from wavlm_meeting.wavlm.model import WavLM

PRETRAINED = "pretrain"
"""Folder of the chain within that of a round."""
MFCC, UNITS = "mfcc.npz", "units.npz"
ENCODER = "model.encoder."
"""What the encoder's weights are called in the checkpoints of a pretraining."""
AT_ONCE = 64
"""Utterances that are encoded at once for their labels."""

log = logging.getLogger(__name__)


def pretrain(work: Path, folder: Path, settings: TinySettings, common: Path | None = None) -> None:
    """Run the chain that `settings` describe, if they do, in `folder`, or go on with it.

    With `common` all but the second model lies there, for chains that differ in nothing else.
    """
    if settings.pretraining is None:
        return
    collection = load_collection(work, "train")
    samples = samples_on(resolve_device("auto"), collection)
    CropChain(collection, folder, settings.encoder, settings.pretraining, samples, common).run()


def pretrained(folder: Path) -> Path | None:
    """Return the training that the round in `folder` begins with, if there is one."""
    second = folder / PRETRAINED / "second"
    return second if steps_done(second) else None


class CropTask(PretrainingTask):
    """Pretraining on crops that are read where the model is."""

    reader: CropReader

    def on_after_batch_transfer(self, batch: CropBatch, _: int) -> PretrainingBatch:
        """Read what the batch names."""
        return self.reader.read(batch)


class CropChain:
    """One run of the chain in `folder`, for an encoder of the recipe's sizes.

    `samples` are all samples of the collection, on the device that is trained on; `common` is the
    folder of the labels and the first model, if they are not in the same.
    """

    def __init__(
        self,
        collection: Collection,
        folder: Path,
        encoder: WavLMConfig,
        settings: ChainSettings,
        samples: Tensor,
        common: Path | None = None,
    ) -> None:
        self.collection, self.folder, self.common = collection, folder, common or folder
        self.encoder, self.settings, self.samples = encoder, settings, samples
        every = [said.index for own in collection.voices.values() for said in own]
        indices = np.array(sorted(every), np.int64)
        long_enough = collection.lengths[indices] >= settings.shortest_s * SAMPLE_RATE
        self.utterances = indices[long_enough]

    def run(self) -> Path:
        """Run the chain; return the folder of the second model's training."""
        settings = self.settings
        self.label_mfcc()
        self._train(MFCC, self.common / "first", settings.first)
        if not (self.common / UNITS).exists():
            self._label(UNITS, self._layer(), settings.units)
        self._train(UNITS, self.folder / "second", settings.second)
        return self.folder / "second"

    def label_mfcc(self) -> None:
        """Make the labels of the first model, which need no model."""
        if not (self.common / MFCC).exists():
            of_one = mfcc_features(self.encoder.hop)
            self._label(MFCC, lambda waves: [of_one(wave) for wave in waves], self.settings.mfcc)

    def _layer(self) -> Callable[[list[Tensor]], list[Tensor]]:
        """Return a function that gives the first model's states of some utterances."""
        first = self.settings.first
        model = WavLM(self._varied(first), attention="dense")
        weights = read_weights(self.common / "first")
        own = {
            name.removeprefix(ENCODER): value
            for name, value in weights.items()
            if name.startswith(ENCODER)
        }
        model.load_state_dict(own)
        model.eval().to(self.samples.device)

        @torch.inference_mode()
        def features(waves: list[Tensor]) -> list[Tensor]:
            lengths = torch.tensor([len(wave) for wave in waves], device=self.samples.device)
            padded = pad_sequence(waves, batch_first=True).to(self.samples.device)
            found = model(padded, lengths)
            states = found.hidden_states[self.settings.layer]
            counts = found.frame_lengths.tolist()
            return [own[:count].float() for own, count in zip(states, counts, strict=True)]

        return features

    def _label(
        self,
        name: str,
        features: Callable[[list[Tensor]], list[Tensor]],
        kmeans: KMeansSettings,
    ) -> None:
        """Cluster the features of all utterances; write each frame's cluster, at once or not."""
        order = np.argsort(self.collection.lengths[self.utterances], kind="stable")
        found: dict[int, Tensor] = {}
        for start in range(0, len(order), AT_ONCE):
            chosen = order[start : start + AT_ONCE]
            found.update(zip(chosen.tolist(), features(self._waves(chosen)), strict=True))
        counts = np.array([len(found[each]) for each in range(len(order))])
        frames = torch.cat([found[each] for each in range(len(order))]).float()
        generator = torch.Generator().manual_seed(kmeans.seed)
        some = torch.randperm(len(frames), generator=generator)[: self.settings.frames]
        centres = fit_kmeans(frames[some.to(frames.device)], kmeans, frames.device).centres
        labels = assign(frames, centres.to(frames.device))[0].cpu().numpy()
        log.info("pretrain: %s: %d frames, %d clusters", name, len(labels), kmeans.clusters)
        self.common.mkdir(parents=True, exist_ok=True)
        with atomic_write(self.common / name) as path:
            np.savez_compressed(
                path, labels=labels.astype(np.uint16), counts=counts, clusters=kmeans.clusters
            )

    def _waves(self, chosen: NDArray[np.int64]) -> list[Tensor]:
        return [
            torch.from_numpy(np.array(self.collection.audio(int(index)))).float() / 32768
            for index in self.utterances[chosen]
        ]

    def _train(self, labels: str, folder: Path, settings: PretrainingSettings) -> None:
        """Train one model on one set of labels, or go on."""
        chain, collection, found = self.settings, self.collection, np.load(self.common / labels)
        starts, lengths = collection.starts[self.utterances], collection.lengths[self.utterances]
        counts = found["counts"]
        table = np.stack([starts, lengths, np.cumsum(counts) - counts, counts], axis=1)
        settings = settings.model_copy(update={"encoder": self._varied(settings)})
        device = self.samples.device
        task = CropTask(settings, (int(found["clusters"]),), folder)
        task.reader = CropReader(
            self.samples,
            torch.from_numpy(found["labels"].astype(np.int32)).to(device),
            torch.from_numpy(table).to(device),
            self.encoder,
            chain.crop_s,
        )
        batches = CropBatches(
            collection,
            self.utterances,
            self.encoder,
            chain.crop_s,
            chain.crops,
            chain.noises,
            settings.seed,
            first=steps_done(folder) * settings.trainer.accumulate,
        )
        fit(
            task,
            batches,
            folder,
            settings.trainer,
            steps=settings.optimizer.steps,
            gradient_clip=settings.optimizer.gradient_clip,
        )
        log.info("pretrain: %s: %d updates", folder.name, steps_done(folder))

    def _varied(self, settings: PretrainingSettings) -> WavLMConfig:
        """Return the recipe's encoder with the position bias of a model: HuBERT has none."""
        bias = settings.encoder.position_bias
        return self.encoder.model_copy(update={"position_bias": bias})
