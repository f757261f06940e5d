"""Pseudo-labels: features of frames -> clusters -> one label a frame, beside the shards.

N samples, T frames, C channels, K clusters.
"""

import json
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
from wavlm_meeting.pretraining.kmeans import KMeans, assign
from wavlm_meeting.wavlm.model import WavLM

FrameFeatures = Callable[[Tensor], Tensor]
"""From samples (N,) at 16 kHz to (T, C)."""


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
        for row, slot in zip(np.flatnonzero(place < most) + room, place[place < most], strict=True):
            kept[int(slot)] = frames[int(row)]
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
        raise SettingsError(f"{path}: no clusters; fit them first.")
    with safe_open(path, "pt") as file:
        notes = file.metadata()
        centres, use = file.get_tensor("centres"), file.get_tensor("use")
    return KMeans(centres, float(json.loads(notes["inertia"])), use), notes["source"]


def label_quality(labels: NDArray[np.integer], units: NDArray[np.integer]) -> LabelQuality:
    """Compare the labels of frames with the units (phones, words) that are heard in them.

    Both are (T,) over a whole set, numbered from 0.
    """
    together = np.zeros((int(labels.max()) + 1, int(units.max()) + 1))
    np.add.at(together, (labels, units), 1.0)
    together /= together.sum()
    by_label, by_unit = together.sum(axis=1), together.sum(axis=0)
    expected = by_label[:, None] * by_unit
    known = together > 0
    information = float((together[known] * np.log(together[known] / expected[known])).sum())
    entropy = float(-(by_unit[by_unit > 0] * np.log(by_unit[by_unit > 0])).sum())
    return LabelQuality(
        unit_purity=float(together.max(axis=1).sum()),
        label_purity=float(together.max(axis=0).sum()),
        information=information / entropy if entropy > 0 else 1.0,
    )
