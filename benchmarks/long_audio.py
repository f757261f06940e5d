"""What `diarization.py` and `separation.py` share: commands timed on audio of any length.

Every run is a process of its own, so that its peak memory is its own.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile

from wavlm_meeting.units import SAMPLE_RATE

TEN_MINUTES_S = 600.0
HEADING = f"{'':34} {'audio':>8} {'seconds':>8} {'x real time':>12} {'peak memory':>12}"


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


def time_ours(path: Path, device: str, *words: object) -> Row:
    """Time `wavlm-meeting WORDS`, which works on the file at `path`, from start to end."""
    command = Path(sys.executable).with_name("wavlm-meeting")
    start = time.perf_counter()
    _, memory = run([str(word) for word in (command, *words, "--quiet", "--device", device)])
    seconds = time.perf_counter() - start
    row = Row(f"ours, {device}", soundfile.info(path).duration, seconds, memory)
    row.show()
    return row


def time_peer(name: str, code: str, path: Path, ours: Sequence[Row], *words: object) -> None:
    """Time a peer, as its code prints it, on the file at `path`, and compare our best with it."""
    seconds, memory = run([sys.executable, "-c", code, str(path), *map(str, words)])
    row = Row(f"{name} (network)", soundfile.info(path).duration, seconds, memory)
    row.show()
    best = max(each.speed for each in ours)
    print(f"ours is {best / row.speed:.1f} times as fast")


def show_growth(rows: Sequence[Row]) -> None:
    """Print by how much memory grows from ten minutes to the longest audio."""
    first = next((row for row in rows if row.audio_s >= TEN_MINUTES_S), rows[-1])
    growth = 1000 * (rows[-1].memory - first.memory)
    print(f"from {first.audio_s:.0f} s to {rows[-1].audio_s:.0f} s, {growth:.0f} MB more")


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
