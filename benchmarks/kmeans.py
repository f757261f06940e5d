"""K-means for pseudo-labels: ours beside scikit-learn's, on the same frames in the same run.

    python benchmarks/kmeans.py SPEECH [--frames 1000000] [--clusters 500] [--rounds 1]

SPEECH is a folder of recordings; their MFCC with derivatives (39 numbers) are clustered, and
repeated with noise of a tenth of their spread where there are too few. Both sides get the settings
that HuBERT's labels were made with: mini-batches of 10,000, 100 passes at most, 20 starts. Each
stops by its own rule: scikit-learn after 100 steps without a gain, as HuBERT had it, ours by our
default. scikit-learn multiplies with OpenBLAS: OPENBLAS_CORETYPE and the like must not be set.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans

from wavlm_meeting.audio import read_audio
from wavlm_meeting.pretraining.kmeans import KMeansSettings, assign, fit_kmeans
from wavlm_meeting.pretraining.mfcc import mfcc_features


def frames_of(folder: Path, count: int) -> torch.Tensor:
    """Return MFCC of the recordings below a folder, repeated with noise up to `count` rows."""
    features, parts, rows = mfcc_features(320), [], 0
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() in {".wav", ".flac", ".opus", ".ogg"} and rows < count:
            parts.append(features(torch.from_numpy(read_audio(path))))
            rows += len(parts[-1])
    found = torch.cat(parts)[:count]
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(len(found), (count - len(found),), generator=generator)
    noise = 0.1 * found.std(dim=0) * torch.randn(len(index), found.shape[1], generator=generator)
    print(f"{len(found)} frames of speech, {len(index)} repeated with noise")
    return torch.cat([found, found[index] + noise])


def ours(frames: torch.Tensor, clusters: int, seed: int) -> torch.Tensor:
    """Return our centres; what is timed includes labels and inertia of all frames."""
    return fit_kmeans(frames, KMeansSettings(clusters=clusters, seed=seed)).centres


def theirs(frames: torch.Tensor, clusters: int, seed: int) -> torch.Tensor:
    """Return scikit-learn's centres, without labels."""
    found = MiniBatchKMeans(
        clusters,
        init="k-means++",
        max_iter=100,
        batch_size=10_000,
        tol=0.0,
        max_no_improvement=100,
        n_init=20,
        reassignment_ratio=0.0,
        compute_labels=False,
        random_state=seed,
    ).fit(frames.numpy())
    return torch.from_numpy(found.cluster_centers_.astype(np.float32))


def main() -> None:
    """Cluster with both, in turn, and print seconds and inertia."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", type=Path)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    frames = frames_of(options.speech, options.frames)
    for seed in range(options.rounds):
        seconds, inertia = [], []
        for name, find in (("ours", ours), ("scikit-learn", theirs)):
            started = time.perf_counter()
            centres = find(frames, options.clusters, seed)
            seconds.append(time.perf_counter() - started)
            inertia.append(float(assign(frames, centres)[1].double().mean()))
            print(f"{name}: {seconds[-1]:.1f} s, inertia {inertia[-1]:.4f}")
        print(
            f"ours in 1/{seconds[1] / seconds[0]:.2f} of the time, "
            f"inertia {inertia[0] / inertia[1]:.4f} of theirs"
        )


if __name__ == "__main__":
    main()
