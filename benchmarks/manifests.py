"""Memory and time against the size of a manifest: shards read lazily beside the manifest whole.

    python benchmarks/manifests.py [--cuts 10000 100000 1000000]

Writes shards that hold metadata alone, 1000 cuts each as `wavlm-meeting manifest` writes them, and
draws the batches of one pass from them with the sampler and the settings of pretraining, each
size in a process of its own. "whole" loads all cuts first, as far as that stays below 4 GB by the
growth of the sizes before. Memory is the process's peak; the row of 0 cuts is Python with its
imports alone; time is the processor's, for one pass.
"""

import argparse
import gzip
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SHARD_CUTS = 1000
LIMIT_MB = 4096
SMALL = 1_000_000
"""Cuts that are loaded whole without a smaller size to judge their growth by."""


def write_metadata(folder: Path, cuts: int) -> None:
    """Write shards of cuts that are 2 to 15.6 s long, without their audio."""
    folder.mkdir()
    rng = random.Random(0)
    for number in range(-(-cuts // SHARD_CUTS)):
        ids = range(number * SHARD_CUTS, min(cuts, (number + 1) * SHARD_CUTS))
        lines = (json.dumps(cut_of(number, round(rng.uniform(2, 15.6), 2))) for number in ids)
        path = folder / f"cuts.{number:06d}.jsonl.gz"
        path.write_bytes(gzip.compress("".join(f"{line}\n" for line in lines).encode(), 1))


def cut_of(number: int, seconds: float) -> dict[str, object]:
    """Return a cut as Lhotse writes it into a shard."""
    name = f"large/{number % 7439}/some_book_0812_librivox_64kb_mp3/{number:08d}_64kb.flac-0001"
    recording = {
        "id": name,
        "sources": [{"type": "shar", "channels": [0], "source": ""}],
        "sampling_rate": 16000,
        "num_samples": round(seconds * 16000),
        "duration": seconds,
        "channel_ids": [0],
    }
    return {
        "id": name,
        "start": 0,
        "duration": seconds,
        "channel": 0,
        "supervisions": [],
        "recording": recording,
        "type": "MonoCut",
    }


def draw(folder: Path, *, whole: bool) -> dict[str, float]:
    """Draw all batches of one pass and return what that took."""
    import numpy as np
    from lhotse import CutSet
    from lhotse.dataset import DynamicBucketingSampler

    from wavlm_meeting.training.data import BatchSettings

    started = time.process_time()
    batches, settings = 0, BatchSettings()
    paths = [str(path) for path in sorted(folder.glob("cuts.*"))]
    if paths:
        cuts = CutSet.from_shar(fields={"cuts": paths})
        edges = np.linspace(settings.shortest_s, settings.longest_s, settings.buckets + 1)[1:-1]
        sampler = DynamicBucketingSampler(
            cuts.to_eager() if whole else cuts,
            max_duration=settings.seconds,
            duration_bins=edges.tolist(),
            buffer_size=settings.buffer,
            shuffle=True,
            seed=0,
            rank=0,
            world_size=1,
        )
        batches = sum(1 for _ in sampler)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": time.process_time() - started, "peak_mb": peak, "batches": batches}


def measured(folder: Path, *, whole: bool) -> dict[str, float]:
    """Call `draw` in a process of its own."""
    words = [sys.executable, __file__, "--draw", str(folder), *(["--whole"] if whole else [])]
    answer = subprocess.run(words, check=True, capture_output=True, text=True)
    return json.loads(answer.stdout.splitlines()[-1])


def main() -> None:
    """Measure every size and print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cuts", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--draw", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--whole", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.draw:
        print(json.dumps(draw(options.draw, whole=options.whole)))
        return
    print("      cuts  how    batches   peak MB     CPU s", flush=True)
    growth = 0.0  # MB for each cut of the manifest that is held whole
    base = 0.0
    for cuts in [0, *sorted(options.cuts)]:
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "shards"
            write_metadata(folder, cuts)
            ways = {"lazy": False}
            known = growth > 0 or cuts <= SMALL
            if cuts and known and base + growth * cuts <= LIMIT_MB:
                ways["whole"] = True
            for name, whole in ways.items():
                found = measured(folder, whole=whole)
                print(
                    f"{cuts:10d}  {name:5s} {found['batches']:9.0f} {found['peak_mb']:9.0f}"
                    f" {found['seconds']:9.1f}",
                    flush=True,
                )
                base = base or found["peak_mb"]
                growth = (found["peak_mb"] - base) / cuts if whole else growth


if __name__ == "__main__":
    main()
