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
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
import torch

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.units import SAMPLE_RATE

TEN_MINUTES_S, HOUR_S = 600.0, 3600.0

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
        print(f"{'':34} {'audio':>8} {'seconds':>8} {'x real time':>12} {'peak memory':>12}")
        rows = [report(repeat(samples, 60 * m, folder), "cpu") for m in sorted(options.minutes)]
        if torch.cuda.is_available():
            report(repeat(samples, HOUR_S, folder), "cuda")
        first = next((row for row in rows if row.audio_s >= TEN_MINUTES_S), rows[-1])
        growth = 1000 * (rows[-1].memory - first.memory)
        print(f"from {first.audio_s:.0f} s to {rows[-1].audio_s:.0f} s, {growth:.0f} MB more")
        if options.peer_minutes:
            audio_s = 60 * options.peer_minutes
            path = repeat(samples, audio_s, folder)
            seconds, memory = run([sys.executable, "-c", PEER, str(path)])
            peer = Row("pyannote 3.1 architecture (network)", audio_s, seconds, memory)
            peer.show()
            best = max(row.speed for row in rows)
            print(f"ours is {best / peer.speed:.1f} times as fast")


class Row(NamedTuple):
    """What a run took."""

    name: str
    audio_s: float
    seconds: float
    memory: float

    @property
    def speed(self) -> float:
        """Return how many seconds of audio a second does."""
        return self.audio_s / self.seconds

    def show(self) -> None:
        """Print the row, at once."""
        figures = f"{self.audio_s:7.0f}s {self.seconds:8.1f} {self.speed:12.1f}"
        print(f"{self.name:34} {figures} {self.memory:9.2f} GB", flush=True)


def repeat(samples: np.ndarray, seconds: float, folder: Path) -> Path:
    """Write `samples`, repeated to `seconds`, as a 16-bit WAV file."""
    path = folder / f"{seconds:.0f}s.wav"
    wanted = int(seconds * SAMPLE_RATE)
    with soundfile.SoundFile(path, "w", SAMPLE_RATE, 1, "PCM_16") as file:
        while file.tell() < wanted:
            file.write(samples[: wanted - file.tell()])
    return path


def report(path: Path, device: str) -> Row:
    """Time the command on a file."""
    command = Path(sys.executable).with_name("wavlm-meeting")
    words = ["diarize", path, "--quiet", "--device", device, "--out", path.parent]
    start = time.perf_counter()
    _, memory = run([str(word) for word in (command, *words)])
    seconds = time.perf_counter() - start
    row = Row(f"ours, {device}", soundfile.info(path).duration, seconds, memory)
    row.show()
    return row


def run(command: list[str]) -> tuple[float, float]:
    """Run a command and return the last number that it printed, and its peak memory in GB."""
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        printed = process.stdout.read() if process.stdout else ""
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} failed with status {process.returncode}")
    words = printed.split()
    scale = 1e9 if sys.platform == "darwin" else 1e6
    return float(words[-1]) if words else 0.0, usage.ru_maxrss / scale


if __name__ == "__main__":
    main()
