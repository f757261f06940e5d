"""K-means on the hardware that is there: all cores, or a GPU.

Sculley's mini-batch k-means (WWW 2010) after a greedy k-means++ start (Arthur and Vassilvitskii,
SODA 2007, section 6), as HuBERT makes its labels with scikit-learn. Distances are one matrix
product; only those of a few thousand frames at a time are ever stored.

N frames, C channels, K clusters, P frames of a sample or batch, J candidates.
"""

import math
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import SettingsError

CHUNK = 4096
"""Frames whose distances to all centres are held at once: 8 MB at 500 clusters."""


class KMeansSettings(Settings):
    """How clusters are found; defaults are those of HuBERT's labels."""

    clusters: int = Field(500, ge=1)
    """Number of clusters."""
    batch: int = Field(10_000, ge=1)
    """Frames of a step."""
    passes: int = Field(100, ge=1)
    """Passes over the frames at most."""
    restarts: int = Field(20, ge=1)
    """Starts that are tried; the one with the least inertia on a sample is taken."""
    patience: int = Field(100, ge=1)
    """Steps without a lower smoothed inertia after which it stops."""
    seed: int = 0
    """Seed of everything random."""


@dataclass(frozen=True)
class KMeans:
    """Clusters that were found."""

    centres: Tensor
    """(K, C) float32."""
    inertia: float
    """Mean squared distance of a frame to its centre, over all frames."""
    use: Tensor
    """(K,) frames of each cluster."""


def fit_kmeans(
    frames: Tensor, settings: KMeansSettings, device: str | torch.device = "cpu"
) -> KMeans:
    """Find clusters of `frames` (N, C), which may lie memory-mapped on the host.

    Raises SettingsError if there are fewer frames than clusters, or one is not finite.
    """
    if len(frames) < settings.clusters:
        raise SettingsError(
            f"{len(frames)} frames are fewer than {settings.clusters} clusters: give more audio, "
            "or ask for fewer clusters."
        )
    generator = torch.Generator().manual_seed(settings.seed)
    sample_size = min(len(frames), max(3 * settings.batch, 3 * settings.clusters))
    held_out = _take(frames, sample_size, generator, device)
    if not held_out.isfinite().all():
        raise SettingsError("the frames hold NaN or infinity: repair the features first.")
    starts = (
        plus_plus(_take(frames, sample_size, generator, device), settings.clusters, generator)
        for _ in range(settings.restarts)
    )
    centres = min(starts, key=lambda start: float(assign(held_out, start)[1].sum()))
    centres = _descend(frames, centres, settings, generator)
    use = torch.zeros(settings.clusters, dtype=torch.long)
    total = 0.0
    for piece in frames.split(1 << 20):
        labels, distances = assign(piece.to(device, torch.float32), centres)
        use += torch.bincount(labels, minlength=settings.clusters).cpu()
        total += float(distances.double().sum())
    return KMeans(centres.cpu(), total / len(frames), use)


def assign(frames: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest of `centres` (K, C) and the squared distance to it, each (N,)."""
    half = 0.5 * centres.square().sum(dim=1)
    labels = torch.empty(len(frames), dtype=torch.long, device=frames.device)
    best = torch.empty(len(frames), device=frames.device)
    transposed = centres.T.contiguous()
    for start in range(0, len(frames), CHUNK):
        piece = frames[start : start + CHUNK]
        # ||x - c||^2 = ||x||^2 - 2 (x c - ||c||^2 / 2): the largest x c - ||c||^2 / 2 is nearest.
        nearest, index = torch.addmm(half, piece, transposed, beta=-1).max(dim=1)
        labels[start : start + CHUNK] = index
        best[start : start + CHUNK] = piece.square().sum(dim=1) - 2 * nearest
    return labels, best.clamp_(min=0)


def plus_plus(frames: Tensor, clusters: int, generator: torch.Generator) -> Tensor:
    """Choose `clusters` of `frames` (P, C) as centres, far from one another.

    Each is drawn with probability proportional to the squared distance from those before it; of a
    few candidates the one is taken that lowers the inertia most.
    """
    candidates = 2 + int(math.log(clusters))
    squares = frames.square().sum(dim=1)
    first = int(torch.randint(len(frames), (), generator=generator))
    chosen = [first]
    distance = (frames - frames[first]).square().sum(dim=1)  # (P,) to the nearest centre
    for _ in range(1, clusters):
        cumulated = distance.double().cumsum(dim=0)
        drawn = torch.rand(candidates, generator=generator, dtype=torch.double)
        drawn = drawn.to(frames.device) * cumulated[-1]
        picked = torch.searchsorted(cumulated, drawn).clamp(max=len(frames) - 1)  # (J,)
        new = torch.addmm(squares, frames[picked], frames.T, alpha=-2)
        new = (new + squares[picked, None]).clamp_(min=0)  # (J, P)
        new = torch.minimum(new, distance)
        best = int(new.sum(dim=1).argmin())
        distance = new[best]
        chosen.append(int(picked[best]))
    return frames[chosen].clone()


def _descend(
    frames: Tensor, centres: Tensor, settings: KMeansSettings, generator: torch.Generator
) -> Tensor:
    """Move centres to the running means of the frames that are nearest to them."""
    centres = centres.clone()
    seen = torch.zeros(len(centres), device=centres.device)
    steps = max(1, settings.passes * len(frames) // settings.batch)
    smoothing = min(1.0, 2.0 * settings.batch / (len(frames) + 1))
    smooth, lowest, waited = None, math.inf, 0
    for _ in range(steps):
        batch = _take(frames, min(settings.batch, len(frames)), generator, centres.device)
        labels, distances = assign(batch, centres)
        count = torch.bincount(labels, minlength=len(centres)).float()
        sums = torch.zeros_like(centres).index_add_(0, labels, batch)
        seen += count
        centres += torch.where(
            count[:, None] > 0, (sums - count[:, None] * centres) / seen.clamp(min=1)[:, None], 0.0
        )
        inertia = float(distances.mean())
        smooth = inertia if smooth is None else smooth + smoothing * (inertia - smooth)
        waited = 0 if smooth < lowest else waited + 1
        lowest = min(lowest, smooth)
        if waited >= settings.patience:
            break
    return centres


def _take(
    frames: Tensor, count: int, generator: torch.Generator, device: str | torch.device
) -> Tensor:
    """Return `count` random frames (P, C), all of them if there are no more.

    Fewer are drawn with replacement, so that a step costs what it uses.
    """
    if count >= len(frames):
        return frames.to(device, torch.float32)
    index = torch.randint(len(frames), (count,), generator=generator)
    return frames[index].to(device, torch.float32)
