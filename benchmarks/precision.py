"""Number formats of a model: file size, speed, memory and DER, stored and computed in each.

    python benchmarks/precision.py AUDIO [--model tiny] [--minutes 10] [--rounds 3]
                                   [--corpus CORPUS] [--work WORK]

AUDIO is repeated to the wanted length and diarized on the CPU as a user does it: a process from
start to written RTTM, one row after the other in each round, of which the fastest counts. Threads
are those of PyTorch's choice, or OMP_NUM_THREADS. DER, without a collar, is that of the simulated
test conversations, with `--work` (what `python -m wavlm_meeting.recipes.tiny --stages prepare`
made), and that of the real meetings of dev and test, with `--corpus`. Parameters that were stored
in 16 bits gain nothing from being stored in 32 again. Needs the extra `train` for either DER.
"""

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import torch
from long_audio import repeat, run

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.checkpoints.bundle import Bundle, write_bundle
from wavlm_meeting.checkpoints.card import Storage
from wavlm_meeting.checkpoints.folders import WEIGHTS
from wavlm_meeting.checkpoints.loading import load_model
from wavlm_meeting.checkpoints.precision import Precision
from wavlm_meeting.diarization.load import load_pipeline

HEADING = (
    f"{'stored':9} {'computed':9} {'MB':>6} {'seconds':>8} {'x real time':>12} {'memory':>9}"
    f" {'DER % simulated':>16} {'DER % meetings':>15}"
)


@dataclass
class Row:
    """A way to store and to compute, and what was measured of it."""

    storage: Storage
    precision: Precision
    folder: Path
    seconds: float = float("inf")
    memory: float = 0.0

    def time(self, path: Path) -> None:
        """Run the command on a file once more."""
        command = [str(Path(sys.executable).with_name("wavlm-meeting")), "diarize", str(path)]
        command += ["--model", str(self.folder), "--device", "cpu", "--quiet"]
        command += ["--precision", self.precision, "--out", str(path.parent)]
        start = time.perf_counter()
        _, memory = run(command)
        self.seconds = min(self.seconds, time.perf_counter() - start)
        self.memory = max(self.memory, memory)

    def show(self, audio_s: float, ders: list[str]) -> None:
        """Print the row, at once."""
        size = (self.folder / WEIGHTS).stat().st_size / 1e6
        figures = f"{size:6.2f} {self.seconds:8.1f} {audio_s / self.seconds:12.1f}"
        memory = f"{self.memory:6.2f} GB"
        print(
            f"{self.storage:9} {self.precision:9} {figures} {memory} {ders[0]:>16} {ders[1]:>15}",
            flush=True,
        )


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("audio", type=Path)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--work", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        rows = stored(load_model(options.model), Path(name))
        path = repeat(read_audio(options.audio), 60 * options.minutes, Path(name))
        for _ in range(options.rounds):
            for row in rows:
                row.time(path)
        print(f"{torch.get_num_threads()} threads, {options.minutes:g} minutes of audio")
        print(HEADING)
        sets = recordings(options.corpus, options.work)
        for row in rows:
            row.show(60 * options.minutes, ders(row, sets))


def stored(model: Bundle, folder: Path) -> list[Row]:
    """Write a model in each storage; return these, then its own storage in each precision."""
    own = model.card.weights.storage if model.card.weights else "float32"
    rows = []
    for storage in get_args(Storage):
        write_bundle(folder / storage, model.state, model.card, storage)
        rows.append(Row(storage, "float32", folder / storage))
    precisions = [precision for precision in get_args(Precision) if precision != "float32"]
    return rows + [Row(own, precision, folder / own) for precision in precisions]


def recordings(corpus: Path | None, work: Path | None) -> list:
    """Return what there is to score, simulated and real, each with the corpus of its UEM files."""
    if corpus is None and work is None:
        return [None, None]
    from wavlm_meeting.config import read_toml
    from wavlm_meeting.recipes.tiny import evaluate
    from wavlm_meeting.recipes.tiny.__main__ import SHIPPED
    from wavlm_meeting.recipes.tiny.settings import TinySettings

    settings = read_toml(SHIPPED, TinySettings).evaluation
    return [
        work and (evaluate.simulated(work, "test", settings), None),
        corpus and (evaluate.meetings(corpus, ("dev", "test")), corpus),
    ]


def ders(row: Row, sets: list) -> list[str]:
    """Return the DER over each set in per cent, or nothing where there is none."""
    found = []
    pipeline = load_pipeline(str(row.folder), "cpu", row.precision)
    for part in sets:
        if part is None:
            found.append("")
            continue
        from wavlm_meeting.recipes.tiny.evaluate import score

        known, corpus = part
        heard = [pipeline.listen(recording.waveform) for recording in known]
        found.append(f"{100 * score(pipeline, known, heard, corpus).total.der:.2f}")
    return found


if __name__ == "__main__":
    main()
