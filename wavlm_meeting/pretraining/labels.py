"""Pseudo-labels: features of frames -> clusters -> one label a frame, beside the shards.

N samples, T frames, C channels, K clusters, U units, L layers.
"""

import json
import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.pretraining.kmeans import KMeans, KMeansSettings, assign, fit_kmeans
from wavlm_meeting.wavlm.model import WavLM

FrameFeatures = Callable[[Tensor], Tensor]
"""From samples (N,) at 16 kHz to (T, C)."""
LAYER_RESTARTS = 3
"""Starts for each layer when layers are compared."""


@dataclass(frozen=True)
class LabelQuality:
    """How well labels tell units apart; all from 0 to 1 (HuBERT, arXiv 2106.07447, section V-A)."""

    unit_purity: float
    """Share of frames whose unit is the most frequent one of their label."""
    label_purity: float
    """Share of frames whose label is the most frequent one of their unit."""
    information: float
    """Mutual information of label and unit, as a share of the unit's entropy (PNMI)."""


def layer_features(encoder: WavLM, layer: int) -> FrameFeatures:
    """Return a function that gives an encoder's hidden state after `layer` layers; 0 is the input.

    Raises SettingsError for a layer that the encoder does not have.
    """
    if not 0 <= layer <= encoder.config.layers:
        raise SettingsError(
            f"layer is {layer}: the encoder has layers 0 to {encoder.config.layers}."
        )
    device = encoder.mask_embedding.device

    @torch.inference_mode()
    def features(samples: Tensor) -> Tensor:
        return encoder(samples[None].to(device)).hidden_states[layer][0].float()

    return features


def sample_frames(
    waveforms: Iterable[Tensor], features: FrameFeatures, most: int, seed: int = 0
) -> Tensor:
    """Return at most `most` frames (M, C), every frame of `waveforms` (N,) as likely as any other.

    Reservoir sampling (Vitter, TOMS 1985, algorithm R, a recording at a time): memory does not grow
    with the corpus.
    """
    rng = np.random.default_rng(seed)
    kept: Tensor | None = None
    seen = 0
    for samples in waveforms:
        frames = features(samples).cpu()
        if kept is None:
            kept = frames.new_empty((most, frames.shape[1]))
        room = min(max(most - seen, 0), len(frames))
        kept[seen : seen + room] = frames[:room]
        later = np.arange(seen + room, seen + len(frames))
        place = rng.integers(0, later + 1) if len(later) else later
        # Where a slot is drawn twice, numpy keeps the last, as one frame after the other would.
        kept.numpy()[place[place < most]] = frames.numpy()[np.flatnonzero(place < most) + room]
        seen += len(frames)
    if kept is None:
        raise SettingsError("no audio to take frames from.")
    return kept[: min(seen, most)]


def label_frames(
    waveforms: Iterable[tuple[str, Tensor]], features: FrameFeatures, centres: Tensor
) -> Iterator[tuple[str, NDArray[np.uint16]]]:
    """Give each recording's labels (T,), the nearest of `centres` (K, C) for each frame."""
    for name, samples in waveforms:
        frames = features(samples)
        labels = assign(frames, centres.to(frames.device))[0]
        yield name, labels.cpu().numpy().astype(np.uint16)


def write_clusters(path: Path, found: KMeans, source: str) -> None:
    """Write clusters with their use and what they are clusters of, at once or not at all."""
    notes = {"inertia": repr(found.inertia), "source": source}
    with atomic_write(path) as temporary:
        save_file({"centres": found.centres, "use": found.use}, temporary, notes)


def read_clusters(path: Path) -> tuple[KMeans, str]:
    """Read clusters and what they are clusters of; raises SettingsError if they are not there."""
    if not path.is_file():
        raise SettingsError(f"{path}: no clusters; make them with `wavlm-meeting label`.")
    with safe_open(path, "pt") as file:
        notes = file.metadata()
        centres, use = file.get_tensor("centres"), file.get_tensor("use")
    return KMeans(centres, float(json.loads(notes["inertia"])), use), notes["source"]


class UnitCounts:
    """How often each label falls on each unit; counts of recordings and shards add up."""

    def __init__(self, clusters: int) -> None:
        self._by_unit: dict[int, NDArray[np.int64]] = defaultdict(
            lambda: np.zeros(clusters, np.int64)
        )

    def add(self, labels: NDArray[np.integer], units: NDArray[np.integer]) -> None:
        """Count labels (T,) and units (T,) of the same frames; units below 0 are unknown."""
        for unit in np.unique(units[units >= 0]).tolist():
            own = self._by_unit[unit]
            own += np.bincount(labels[units == unit], minlength=len(own))

    def matrix(self) -> NDArray[np.int64] | None:
        """Return frames of each label and unit that was met (K, U); None if none was."""
        return np.stack(list(self._by_unit.values()), axis=1) if self._by_unit else None


def label_quality(counts: NDArray[np.int64]) -> LabelQuality:
    """Say how well labels tell units from frames counted by label and unit, (K, U)."""
    together = counts / counts.sum()
    by_label, by_unit = together.sum(axis=1), together.sum(axis=0)
    expected = by_label[:, None] * by_unit
    known = together > 0
    information = float((together[known] * np.log(together[known] / expected[known])).sum())
    entropy = _entropy(by_unit)
    return LabelQuality(
        unit_purity=float(together.max(axis=1).sum()),
        label_purity=float(together.max(axis=0).sum()),
        information=information / entropy if entropy > 0 else 1.0,
    )


def use_perplexity(use: NDArray[np.int64]) -> float:
    """Return the number of clusters that, used evenly, are as hard to guess as these, (K,)."""
    return math.exp(_entropy(use / use.sum()))


def best_layer(
    encoder: WavLM, speech: Iterable[tuple[Tensor, Tensor]], clusters: int, seed: int = 0
) -> tuple[int, tuple[float, ...]]:
    """Return the layer whose clusters know most about units, and the PNMI of layers 0 to L.

    `speech` gives samples (N,) and the unit of each frame (T,), from 0, below 0 where none is
    known. The hidden states of all frames with a unit are kept at once: give minutes, not hours.
    Raises SettingsError if units do not match the frames, or fewer frames than clusters have one.
    """
    states: list[Tensor] = []
    kept: list[Tensor] = []
    for samples, units in speech:
        every = _all_layers(encoder, samples)  # (L + 1, T, C)
        if len(units) != every.shape[1]:
            raise SettingsError(
                f"{len(units)} units for {every.shape[1]} frames: give one for each frame."
            )
        states.append(every[:, units >= 0])
        kept.append(units[units >= 0])
    if not kept:
        raise SettingsError("no speech with units to compare layers on.")
    known = torch.cat(kept).numpy()
    settings = KMeansSettings(clusters=clusters, restarts=LAYER_RESTARTS, seed=seed)
    layers = torch.cat(states, dim=1)  # (L + 1, T, C)
    shares = tuple(_information(frames, known, settings) for frames in layers)
    return int(np.argmax(shares)), shares


@torch.inference_mode()
def _all_layers(encoder: WavLM, samples: Tensor) -> Tensor:
    states = encoder(samples[None].to(encoder.mask_embedding.device)).hidden_states
    return torch.cat(states).float().cpu()


def _information(frames: Tensor, units: NDArray[np.integer], settings: KMeansSettings) -> float:
    """Cluster frames (T, C) and return the PNMI of their labels with their units (T,)."""
    labels = assign(frames, fit_kmeans(frames, settings).centres)[0].numpy()
    counts = np.zeros((settings.clusters, int(units.max()) + 1), np.int64)
    np.add.at(counts, (labels, units), 1)
    return label_quality(counts).information


def _entropy(shares: NDArray[np.float64]) -> float:
    """Return the entropy of shares that sum to 1, in nats."""
    some = shares[shares > 0]
    return float(-(some * np.log(some)).sum())
