"""Stage between `prepare` and `train`, which does without it: training speech through codecs.

Writes into the work folder, beside what `prepare` wrote:

- `coded.npy`: int16 with the layout of `samples.npy`, as long, so that `start` and `length` of
  `utterances.npz` hold for either and a reader takes an utterance from the one or the other. Speech
  and meetings of the train split, at all their speeds, went through a codec each and kept their
  place in time to within a millisecond, so that speech is where `spans` say. All else, noise and
  the other splits, is as in `samples.npy`.
- `coded.npz`: by the rows of `utterances.npz`, `codec` (str, "" where nothing was done) and
  `bit_rate` (int64, bits per second, 0 there); then `start` and `length`, copies that tell whether
  `prepare` has run anew since.

N samples.
"""

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes.workers import map_of
from wavlm_meeting.training.codecs import CodecName, through_codec

SAMPLES = "samples.npy"
TABLE = "utterances.npz"
CODED = "coded.npy"
CODECS = "coded.npz"

RATES: dict[CodecName, tuple[int, ...]] = {
    "opus": (8000, 12_000, 16_000, 24_000),
    "mp3": (16_000, 24_000, 32_000, 48_000, 64_000),
    "g711": (64_000,),
    "g722": (64_000,),
}
"""Codecs and their bit rates, all of a codec's as likely."""
SHARES: dict[CodecName, float] = {"opus": 0.2, "mp3": 0.2, "g711": 0.3, "g722": 0.3}
"""How likely each codec is. The corpus has been through Opus, and much of it through MP3, before;
and these two take ten times as long as the others."""
DELAY = {"g722": 22}
"""Samples by which a codec is late, measured by cross-correlation; the others are not."""
SEED = 20_260_301
BATCH = 64
"""Recordings that a process codes at once."""

Shorts = NDArray[np.int16]

log = logging.getLogger(__name__)


class Job(NamedTuple):
    """One stretch of `samples.npy` and how it is coded."""

    start: int
    length: int
    codec: CodecName
    bit_rate: int


def channels(work: Path, workers: int = 0) -> None:
    """Run the stage in so many processes, one a core if 0; a finished one is left as it is.

    Raises SettingsError if the stage `prepare` has not run.
    """
    if not (work / TABLE).exists():
        raise SettingsError(f"{work}: nothing prepared there; run the stage 'prepare' first.")
    with np.load(work / TABLE) as table:
        start, length = table["start"], table["length"]
        chosen = (table["split"] == "train") & np.isin(table["kind"], ("speech", "meeting"))
    if is_coded(work):
        log.info("channels: %s is there, skipped", work / CODED)
        return
    jobs = draw_jobs(start, length, chosen)
    samples = np.load(work / SAMPLES, mmap_mode="r")
    with atomic_write(work / CODED) as path:
        coded = np.lib.format.open_memmap(path, "w+", np.int16, samples.shape)
        coded[:] = samples
        for job, heard in _coded(work, list(jobs.values()), workers):
            coded[job.start : job.start + job.length] = heard
        coded.flush()
    own = [jobs.get(int(at)) if is_own else None for at, is_own in zip(start, chosen, strict=True)]
    with atomic_write(work / CODECS) as path:
        np.savez(
            path,
            codec=np.array([job.codec if job else "" for job in own]),
            bit_rate=np.array([job.bit_rate if job else 0 for job in own], np.int64),
            start=start,
            length=length,
        )


def is_coded(work: Path) -> bool:
    """Tell whether the stage has finished, for what `prepare` wrote last."""
    if not (work / CODED).exists() or not (work / CODECS).exists():
        return False
    with np.load(work / TABLE) as table, np.load(work / CODECS) as coded:
        return all(np.array_equal(table[name], coded[name]) for name in ("start", "length"))


def draw_jobs(
    start: NDArray[np.integer], length: NDArray[np.integer], chosen: NDArray[np.bool_]
) -> dict[int, Job]:
    """Draw a codec for each chosen stretch, by where it begins; rows may share one."""
    rng, names = np.random.default_rng(SEED), tuple(SHARES)
    shares = tuple(SHARES.values())
    jobs: dict[int, Job] = {}
    for row in np.flatnonzero(chosen).tolist():
        if int(start[row]) not in jobs:
            name = names[int(rng.choice(len(names), p=shares))]
            rate = RATES[name][int(rng.integers(len(RATES[name])))]
            jobs[int(start[row])] = Job(int(start[row]), int(length[row]), name, rate)
    return jobs


def coded_copy(samples: Shorts, codec: CodecName, bit_rate: int) -> Shorts:
    """Return (N,) as heard through a codec, each sample at its old place."""
    late = DELAY.get(codec, 0)
    waveform = np.zeros(len(samples) + late, np.float32)
    waveform[: len(samples)] = samples.astype(np.float32) / np.float32(32768)
    heard = through_codec(waveform, codec, bit_rate)[late:]
    return np.clip(np.round(heard * 32768), -32768, 32767).astype(np.int16)


def _coded(work: Path, jobs: list[Job], workers: int) -> Iterator[tuple[Job, Shorts]]:
    """Give each job with what is heard of it."""
    groups = [jobs[first : first + BATCH] for first in range(0, len(jobs), BATCH)]
    with map_of(workers) as run:
        done = run(partial(_code_group, work), groups)
        for number, (group, heard) in enumerate(zip(groups, done, strict=True)):
            if number % 20 == 0:
                log.info("channels: %d of %d recordings", BATCH * number, len(jobs))
            yield from zip(group, heard, strict=True)


def _code_group(work: Path, group: list[Job]) -> list[Shorts]:
    samples = np.load(work / SAMPLES, mmap_mode="r")
    return [
        coded_copy(samples[job.start : job.start + job.length], job.codec, job.bit_rate)
        for job in group
    ]
