"""K-means for pseudo-labels: ours beside scikit-learn's, on the same frames in the same run.

    python benchmarks/kmeans.py SPEECH [--frames 1000000] [--clusters 500]

SPEECH is a folder of recordings; their MFCC with derivatives (39 numbers) are clustered, and
repeated with noise of a tenth of their spread where there are too few. Both sides get the settings
that HuBERT's labels were made with: mini-batches of 10,000, 100 passes at most, 20 starts, 100
steps of patience.
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


def main() -> None:
    """Cluster with both and print seconds and inertia."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("speech", type=Path)
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--clusters", type=int, default=500)
    options = parser.parse_args()
    frames = frames_of(options.speech, options.frames)
    started = time.perf_counter()
    ours = fit_kmeans(frames, KMeansSettings(clusters=options.clusters))
    own_s = time.perf_counter() - started
    print(f"ours: {own_s:.1f} s, inertia {ours.inertia:.4f} (labels of all frames included)")
    started = time.perf_counter()
    theirs = MiniBatchKMeans(
        options.clusters,
        init="k-means++",
        max_iter=100,
        batch_size=10_000,
        tol=0.0,
        max_no_improvement=100,
        n_init=20,
        reassignment_ratio=0.0,
        compute_labels=False,
        random_state=0,
    ).fit(frames.numpy())
    their_s = time.perf_counter() - started
    centres = torch.from_numpy(theirs.cluster_centers_.astype(np.float32))
    inertia = float(assign(frames, centres)[1].double().mean())
    print(f"scikit-learn: {their_s:.1f} s, inertia {inertia:.4f}")
    print(f"ours in 1/{their_s / own_s:.2f} of the time, inertia {ours.inertia / inertia:.4f}")


if __name__ == "__main__":
    main()
