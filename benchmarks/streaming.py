"""DER of `wavlm-meeting live` against its latency, beside what the same weights give offline.

    python benchmarks/streaming.py WORK [--split test] [--conversations 30] [--model tiny]

WORK is the folder that the stage `prepare` of recipes/tiny has filled: the conversations are those
that the recipe reports on. The real-time factor is the work of a step over its length. Needs the
extra `train`.
"""

import argparse
import time
from pathlib import Path

import numpy as np
from pyannote.core import Annotation

from wavlm_meeting.config import read_toml
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.streaming import StreamingDiarization
from wavlm_meeting.recipes.tiny import evaluate
from wavlm_meeting.recipes.tiny.settings import TinySettings
from wavlm_meeting.units import SAMPLE_RATE

SETTINGS = Path(evaluate.__file__).with_name("tiny.toml")


def live(
    pipeline: DiarizationPipeline, recording: evaluate.Recording, latency_s: float
) -> Annotation:
    """Diarize a recording as a stream in blocks of 0.1 s."""
    stream = StreamingDiarization(pipeline, latency_s=latency_s)
    pieces = []
    for first in range(0, len(recording.waveform), SAMPLE_RATE // 10):
        pieces += stream.push(recording.waveform[first : first + SAMPLE_RATE // 10])
    pieces += stream.finish()
    return stream.result(recording.name, pieces).to_annotation()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="DER against latency.")
    parser.add_argument("work", type=Path)
    parser.add_argument("--split", choices=("dev", "test"), default="test")
    parser.add_argument("--conversations", type=int, default=30)
    parser.add_argument("--latencies", type=float, nargs="+", default=[0.5, 1.0, 2.0, 5.0, 10.0])
    parser.add_argument("--model", default="tiny")
    chosen = parser.parse_args()
    settings = read_toml(SETTINGS, TinySettings).evaluation
    drawn = evaluate.simulated(chosen.work, chosen.split, settings)
    recordings = drawn[:: max(1, len(drawn) // chosen.conversations)]
    seconds = sum(len(recording.waveform) for recording in recordings) / SAMPLE_RATE
    pipeline = load_pipeline(chosen.model, "cpu")
    print(f"{len(recordings)} {chosen.split} conversations, {seconds / 60:.0f} minutes")
    print("| latency s | DER % | missed | false alarm | confusion | numbers right | real time |")
    print("|---|---|---|---|---|---|---|")
    for latency_s in chosen.latencies:
        begin = time.perf_counter()
        found = [live(pipeline, recording, latency_s) for recording in recordings]
        show(f"{latency_s:g}", recordings, found, (time.perf_counter() - begin) / seconds)
    begin = time.perf_counter()
    found = [pipeline(recording.waveform).to_annotation() for recording in recordings]
    show("offline", recordings, found, (time.perf_counter() - begin) / seconds)


def show(
    name: str, recordings: list[evaluate.Recording], found: list[Annotation], share: float
) -> None:
    """Print a row."""
    total = evaluate.score_found(recordings, found).total
    parts = (total.missed_s, total.false_alarm_s, total.confusion_s)
    cells = [f"{100 * total.der:.1f}", *(f"{100 * part / total.total_s:.1f}" for part in parts)]
    right = np.sum(
        [
            len(recording.reference.labels()) == len(each.labels())
            for recording, each in zip(recordings, found, strict=True)
        ]
    )
    print(f"| {name} | {' | '.join(cells)} | {right} of {len(found)} | {share:.4f} |", flush=True)


if __name__ == "__main__":
    main()
