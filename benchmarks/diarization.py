"""Speed and memory of `wavlm-meeting diarize` and of a pyannote pipeline on the same audio.

    python benchmarks/diarization.py AUDIO [--minutes 1 10 60 600] [--peer-minutes 2]

AUDIO is repeated up to each wanted length, which memory should not follow. The peer has the
architecture of pyannote's 3.1 pipeline (PyanNet and ResNet34, windows of 10 s every second) with
random weights, which change no timing of its networks; it gets a shorter piece, since its time is
linear in the length. Ours is timed as a user starts it: a process from start to written RTTM; on a
GPU, where there is one, an hour. Needs the extra `pyannote`, but for `--peer-minutes 0`.
"""

import argparse
import os
import tempfile
from pathlib import Path

import torch
from long_audio import HEADING, Row, repeat, show_growth, time_ours, time_peer

from wavlm_meeting.audio.read import read_audio

HOUR_S = 3600.0

PEER = """
import os, sys, time
os.environ["PYANNOTE_METRICS_ENABLED"] = "false"
import warnings
warnings.filterwarnings("ignore")
import numpy as np, soundfile, torch
from pyannote.audio.core.plda import PLDA
from pyannote.audio.core.task import Problem, Resolution, Specifications
from pyannote.audio.models.embedding import WeSpeakerResNet34
from pyannote.audio.models.segmentation import PyanNet
from pyannote.audio.pipelines import SpeakerDiarization

torch.manual_seed(0)
segmentation = PyanNet(sincnet={"stride": 10})
segmentation.specifications = Specifications(
    problem=Problem.MONO_LABEL_CLASSIFICATION,
    resolution=Resolution.FRAME,
    duration=10.0,
    classes=["a", "b", "c"],
    powerset_max_classes=2,
    permutation_invariant=True,
)
segmentation.build()
embedding = WeSpeakerResNet34()
embedding.specifications = Specifications(
    problem=Problem.REPRESENTATION, resolution=Resolution.CHUNK, duration=5.0, classes=["a", "b"]
)
embedding.build()
pipeline = SpeakerDiarization(
    segmentation=segmentation.eval(),
    embedding=embedding.eval(),
    plda=PLDA.__new__(PLDA),  # asked for, and never used with this clustering
    clustering="AgglomerativeClustering",
    embedding_batch_size=32,
    segmentation_batch_size=32,
)
pipeline.instantiate(
    {
        "segmentation": {"min_duration_off": 0.0},
        "clustering": {"method": "centroid", "min_cluster_size": 12, "threshold": 0.7},
    }
)
samples, rate = soundfile.read(sys.argv[1], dtype="float32")
start = time.perf_counter()
pipeline({"waveform": torch.from_numpy(samples)[None], "sample_rate": rate})
print(time.perf_counter() - start)
"""


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("audio", type=Path)
    parser.add_argument("--minutes", type=float, nargs="+", default=[1.0, 10.0, 60.0, 600.0])
    parser.add_argument("--peer-minutes", type=float, default=2.0)
    options = parser.parse_args()
    samples = read_audio(options.audio)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        print(f"{os.cpu_count()} cores; times are whole processes for ours")
        print(HEADING)
        rows = [report(repeat(samples, 60 * m, folder), "cpu") for m in sorted(options.minutes)]
        if torch.cuda.is_available():
            report(repeat(samples, HOUR_S, folder), "cuda")
        show_growth(rows)
        if options.peer_minutes:
            path = repeat(samples, 60 * options.peer_minutes, folder)
            time_peer("pyannote 3.1 architecture", PEER, path, rows)


def report(path: Path, device: str) -> Row:
    """Time the command on a file."""
    return time_ours(path, device, "diarize", path, "--out", path.parent)


if __name__ == "__main__":
    main()
