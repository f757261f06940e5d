"""K-means on the hardware that is there: all cores, or a GPU.

Sculley's mini-batch k-means (WWW 2010) after a greedy k-means++ start (Arthur and Vassilvitskii,
SODA 2007, section 6), as HuBERT makes its labels with scikit-learn. Two things differ. The running
means begin anew in rounds that double, because means that keep what was near to bad centres move
away from it ever more slowly (Newling and Fleuret, NIPS 2016). And all starts are drawn side by
side, so that a step of theirs is one matrix product. Only distances of a few hundred frames at a
time (on a GPU, some hundred thousand) are ever stored.

N frames, C channels, K clusters, P frames of a sample or batch, J candidates, S starts.
"""

import math
from dataclasses import dataclass

import torch
from pydantic import Field
from torch import Tensor

from wavlm_meeting.config import Settings
from wavlm_meeting.errors import SettingsError

CACHED = 1 << 18
"""Distances held at once on a CPU: 1 MB stays in a core's cache between product and maximum."""
HELD = 1 << 26
"""Distances held at once on a GPU: 256 MB."""
START_FRAMES = 20
"""Frames for each cluster in the sample that starts are drawn from and compared on."""
FIRST_ROUND = 10
"""Steps of the first round."""


class KMeansSettings(Settings):
    """How clusters are found; the first four defaults are those of HuBERT's labels."""

    clusters: int = Field(500, ge=1, le=65_536)
    """Number of clusters; labels are stored in 16 bits."""
    batch: int = Field(10_000, ge=1)
    """Frames of a step."""
    passes: int = Field(100, ge=1)
    """Passes over the frames at most."""
    restarts: int = Field(20, ge=1)
    """Starts that are tried; the one with the least inertia on a sample is taken."""
    tolerance: float = Field(0.005, ge=0, lt=1)
    """It stops after a round that lowers the inertia by less than this share."""
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
    size = max(settings.batch, START_FRAMES * settings.clusters)
    held_out = _take(frames, size, generator, device)
    sample = _take(frames, size, generator, device)
    starts = plus_plus(sample, settings.clusters, settings.restarts, generator)
    centres = min(starts, key=lambda start: _inertia(held_out, start))
    centres = _descend(frames, held_out, centres, settings, generator)
    use = torch.zeros(settings.clusters, dtype=torch.long)
    total = 0.0
    for piece in frames.split(1 << 20):
        labels, distances = assign(piece.to(device, torch.float32), centres)
        use += torch.bincount(labels, minlength=settings.clusters).cpu()
        total += float(distances.double().sum())
    if not math.isfinite(total):
        raise SettingsError("the frames hold NaN or infinity: repair the features first.")
    return KMeans(centres.cpu(), total / len(frames), use)


def assign(frames: Tensor, centres: Tensor) -> tuple[Tensor, Tensor]:
    """Return the nearest of `centres` (K, C) and the squared distance to it, each (N,)."""
    half = 0.5 * centres.square().sum(dim=1)
    labels = torch.empty(len(frames), dtype=torch.long, device=frames.device)
    best = torch.empty(len(frames), device=frames.device)
    transposed = centres.T.contiguous()
    rows = max(1, (CACHED if frames.device.type == "cpu" else HELD) // len(centres))
    scores = torch.empty(min(rows, len(frames)), len(centres), device=frames.device)
    for start in range(0, len(frames), rows):
        piece = slice(start, start + rows)
        own = scores[: len(labels[piece])]
        # ||x - c||^2 = ||x||^2 - 2 (x c - ||c||^2 / 2): the largest x c - ||c||^2 / 2 is nearest.
        torch.addmm(half, frames[piece], transposed, beta=-1, out=own)
        torch.max(own, dim=1, out=(best[piece], labels[piece]))
    return labels, (frames.square().sum(dim=1) - 2 * best).clamp_(min=0)


def plus_plus(frames: Tensor, clusters: int, starts: int, generator: torch.Generator) -> Tensor:
    """Choose `clusters` of `frames` (P, C) as centres, far from one another, `starts` times.

    Each is drawn with probability proportional to the squared distance from those before it; of a
    few candidates the one is taken that lowers the inertia most. Returns (S, K, C).
    """
    candidates = 2 + int(math.log(clusters))
    squares = frames.square().sum(dim=1, keepdim=True)
    ones = torch.ones_like(squares)
    # [-2x, 1, ||x||^2] [y, ||y||^2, 1] = ||x - y||^2: a distance is one product.
    left = torch.cat([-2 * frames, ones, squares], dim=1)
    right = torch.cat([frames, squares, ones], dim=1).T.contiguous()
    every = torch.arange(starts, device=frames.device)
    chosen = torch.empty(starts, clusters, dtype=torch.long, device=frames.device)
    chosen[:, 0] = torch.randint(len(frames), (starts,), generator=generator)
    distance = (left[chosen[:, 0]] @ right).clamp_(min=0)  # (S, P) to the nearest centre
    new = distance.new_empty(starts * candidates, len(frames))
    for number in range(1, clusters):
        cumulated = distance.double().cumsum(dim=1)
        drawn = torch.rand(starts, candidates, generator=generator, dtype=torch.double)
        drawn = drawn.to(frames.device) * cumulated[:, -1:]
        picked = torch.searchsorted(cumulated, drawn).clamp_(max=len(frames) - 1)  # (S, J)
        torch.mm(left[picked.flatten()], right, out=new)
        nearer = new.view(starts, candidates, -1)  # (S, J, P)
        torch.minimum(nearer, distance[:, None], out=nearer)
        best = nearer.sum(dim=2).argmin(dim=1)
        distance = nearer[every, best].clamp_(min=0)
        chosen[:, number] = picked[every, best]
    return frames[chosen]


def _descend(
    frames: Tensor,
    held_out: Tensor,
    centres: Tensor,
    settings: KMeansSettings,
    generator: torch.Generator,
) -> Tensor:
    """Run rounds, each twice as long as the one before, until one helps little."""
    left = max(1, settings.passes * len(frames) // settings.batch)
    inertia, steps = _inertia(held_out, centres), FIRST_ROUND
    while left > 0:
        moved = _round(frames, centres, min(steps, left), settings.batch, generator)
        lower = _inertia(held_out, moved)
        if not lower < inertia:
            return centres
        if lower > (1 - settings.tolerance) * inertia:
            return moved
        centres, inertia = moved, lower
        left, steps = left - steps, 2 * steps
    return centres


def _round(
    frames: Tensor, centres: Tensor, steps: int, batch: int, generator: torch.Generator
) -> Tensor:
    """Return where centres come to that move to the running means of the frames near to them."""
    centres = centres.clone()
    seen = torch.zeros(len(centres), device=centres.device)
    for _ in range(steps):
        drawn = _take(frames, batch, generator, centres.device)
        labels = assign(drawn, centres)[0]
        count = torch.bincount(labels, minlength=len(centres)).float()
        sums = torch.zeros_like(centres).index_add_(0, labels, drawn)
        seen += count
        centres += (sums - count[:, None] * centres) / seen.clamp(min=1)[:, None]
    return centres


def _inertia(frames: Tensor, centres: Tensor) -> float:
    return float(assign(frames, centres)[1].double().mean())


def _take(
    frames: Tensor, count: int, generator: torch.Generator, device: str | torch.device
) -> Tensor:
    """Return `count` random frames (P, C), all of them if there are no more.

    Fewer are drawn with replacement, so that a step costs what it uses.
    """
    if count >= len(frames):
        return frames.to(device, torch.float32)
    index = torch.randint(len(frames), (count,), generator=generator).to(frames.device)
    return frames.index_select(0, index).to(device, torch.float32)
