"""The prepared corpus in memory: utterances, noises and the teacher's embeddings."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.audio.simulate import Utterance
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.tiny.channels import CODECS, CODED, is_coded


@dataclass(frozen=True)
class Collection:
    """One split of the prepared corpus."""

    samples: NDArray[np.int16]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    teacher: NDArray[np.float32]
    """(utterances, 256) of unit length around their mean; zeros where there was too little speech.

    Resemblyzer's embeddings have no negative entries: their mean alone has a cosine of 0.7 to all
    of them, and a student that is drawn to them as they are learns the mean and stops."""
    voices: dict[str, list[Utterance]]
    """Utterances by speaker; every unlabelled utterance counts as a speaker of its own."""
    sources: dict[str, list[str]]
    """Speakers by the collection that they come from."""
    noises: list[tuple[int, int]]
    """(index, samples) of the backgrounds."""
    meetings: list[list[Utterance]]
    """The real recordings of conversations: each speaker's turns, all in the same samples."""
    labelled: list[str]
    """Speakers with at least two utterances, in a fixed order: the classes of training."""
    coded_samples: NDArray[np.int16] | None = None
    """The same samples after a codec, laid out alike, if there are any."""
    coded: NDArray[np.bool_] | None = None
    """(utterances,) which of them have such a copy."""

    def audio(self, index: int, *, coded: bool = False) -> NDArray[np.int16]:
        """Return the samples of an utterance or noise, or of its copy that went through a codec."""
        samples = self.coded_samples if coded and self.coded_samples is not None else self.samples
        return samples[self.starts[index] : self.starts[index] + self.lengths[index]]

    def heard(self, index: int) -> NDArray[np.float32]:
        """Return the samples of an utterance or noise from -1 to 1."""
        return self.audio(index).astype(np.float32) / np.float32(32768)


def load_collection(work: Path, split: str, *, copies: bool = True) -> Collection:
    """Load the `train`, `dev` or `test` part of what `prepare` wrote.

    Without `copies` there is no speech at other speeds than it was recorded at. Raises
    SettingsError if the stage `prepare` has not run.
    """
    if not (work / "utterances.npz").exists():
        raise SettingsError(f"{work}: nothing prepared there; run the stage 'prepare' first.")
    with np.load(work / "utterances.npz") as file:
        table = dict(file)  # the file itself reads a column anew for every entry
    span_ends = np.cumsum(table["span_count"])
    voices: dict[str, list[Utterance]] = {}
    sources: dict[str, list[str]] = {}
    noises = []
    meetings: dict[int, list[Utterance]] = {}
    wanted = table["split"] == split
    if not copies:
        wanted &= as_recorded(table["path"], table["kind"])
    chosen = np.flatnonzero(wanted)
    for index in chosen.tolist():
        if table["kind"][index] == "noise":
            noises.append((index, int(table["length"][index])))
        if not table["span_count"][index]:
            continue
        spans = table["spans"][span_ends[index] - table["span_count"][index] : span_ends[index]]
        speaker = str(table["speaker"][index]) or f"utterance {index}"
        speech = tuple((int(start), int(end)) for start, end in spans)
        utterance = Utterance(index, speaker, speech)
        if table["kind"][index] == "meeting":
            meetings.setdefault(int(table["start"][index]), []).append(utterance)
        elif table["kind"][index] == "speech":
            if speaker not in voices:
                sources.setdefault(str(table["source"][index]), []).append(speaker)
            voices.setdefault(speaker, []).append(utterance)
    coded = is_coded(work)
    return Collection(
        coded_samples=np.load(work / CODED, mmap_mode="r") if coded else None,
        coded=np.load(work / CODECS)["codec"] != "" if coded else None,
        samples=np.load(work / "samples.npy", mmap_mode="r"),
        starts=table["start"],
        lengths=table["length"],
        teacher=_centred(table["teacher"], chosen),
        voices=voices,
        sources=sources,
        noises=noises,
        meetings=list(meetings.values()),
        labelled=sorted(name for name, said in voices.items() if len(said) > 1),
    )


def as_recorded(paths: NDArray[np.str_], kinds: NDArray[np.str_]) -> NDArray[np.bool_]:
    """Tell which rows of the table are no copies of speech at other speeds, which come later."""
    first = np.zeros(len(paths), np.bool_)
    first[np.unique(paths, return_index=True)[1]] = True
    return first | (kinds != "speech")


def draw_speakers(
    rng: np.random.Generator,
    collection: Collection,
    count: int,
    one_source: float,
    source_weights: dict[str, float],
) -> list[str]:
    """Draw `count` different speakers, with probability `one_source` all from one source.

    A source's microphones give its speakers away: conversations within one source leave only the
    voice to tell them apart.
    """
    names = [name for name in collection.sources if len(collection.sources[name]) >= count]
    weights = np.array([source_weights.get(name, 0.0) for name in names])
    if not weights.sum():
        weights = np.ones(len(names))
    if rng.random() < one_source:
        source = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        return _choose(rng, collection.sources[source], count)
    drawn: dict[str, None] = {}
    while len(drawn) < count:
        source = names[int(rng.choice(len(names), p=weights / weights.sum()))]
        drawn[_choose(rng, collection.sources[source], 1)[0]] = None
    return list(drawn)


def _centred(teacher: NDArray[np.float32], chosen: NDArray[np.int64]) -> NDArray[np.float32]:
    """Subtract the mean over the chosen utterances and return to unit length."""
    known: NDArray[np.bool_] = np.asarray(teacher.any(axis=1))
    if not known[chosen].any():
        return teacher
    mean = teacher[chosen][known[chosen]].mean(axis=0)
    centred = np.where(known[:, None], teacher - mean, 0.0)
    length = np.linalg.norm(centred, axis=1, keepdims=True)
    return (centred / np.maximum(length, 1e-8)).astype(np.float32)


def _choose(rng: np.random.Generator, names: list[str], count: int) -> list[str]:
    return [names[i] for i in rng.choice(len(names), count, replace=False)]
