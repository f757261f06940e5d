"""The recordings that encoders are probed on: chosen, cut and rendered once for all encoders.

N samples, R recordings, U units of 10 ms.
"""

import csv
import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, PositiveInt

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.audio.simulate import (
    ConversationPlan,
    ConversationSettings,
    Samples,
    Utterance,
    render,
)
from wavlm_meeting.config import Settings
from wavlm_meeting.errors import FormatError, SettingsError
from wavlm_meeting.files import atomic_write, sha256_of
from wavlm_meeting.formats.trials import read_trials
from wavlm_meeting.recipes.tiny.collection import Collection
from wavlm_meeting.recipes.tiny.conversations import draw_set
from wavlm_meeting.recipes.tiny.prepare import Row, read_manifest
from wavlm_meeting.recipes.tiny.settings import EvaluationSettings
from wavlm_meeting.recipes.tiny.teachers import find_speech
from wavlm_meeting.scoring.verification import check_both_kinds
from wavlm_meeting.units import SAMPLE_RATE

MadeSet = tuple[list[NDArray[np.int16]], NDArray[np.generic]]
"""Recordings and labels of a set."""

log = logging.getLogger(__name__)

MANIFEST = "manifest.csv"
SPLITS = ("train", "dev", "test")
UNIT = SAMPLE_RATE // 100
"""Samples that one entry of a conversation's labels stands for: 10 ms."""
SPEAKER_CHOICES = {"speaker_utterances", "speaker_s", "trials", "trial_s"}
"""Settings that conversations do not depend on: with other ones they stay as they are."""
WORDS_SOURCE = "speech_commands"
"""Source in the manifest whose recordings hold one word a second."""


class ProbeDataSettings(Settings):
    """Which recordings encoders are probed on, and how much of each."""

    seed: int = 1
    """Seed of all choices."""
    speaker_utterances: int = Field(6, ge=2)
    """Utterances of a training speaker, at most; speakers with a single one are left out."""
    speaker_s: float = Field(4.0, gt=0)
    """Length that training utterances are cut to."""
    trials: tuple[str, ...] = Field(
        (
            "trials_test.txt",
            "trials_test_hard.txt",
            "trials_test_cv.txt",
            "trials_dev.txt",
            "trials_dev_cv.txt",
        ),
        min_length=1,
    )
    """Trial lists in the corpus folder, each line `<1 or 0> <path> <path>`."""
    trial_s: float = Field(6.0, gt=0)
    """Length that the recordings of trials are cut to."""
    speakers: tuple[Annotated[int, Field(ge=2)], ...] = Field((2, 3, 4), min_length=1)
    """Numbers of speakers of the conversations."""
    conversations: tuple[PositiveInt, PositiveInt, PositiveInt] = (12, 4, 12)
    """Conversations of each number of speakers, between those of train (trained on), of dev (for
    thresholds) and of test (reported)."""
    conversation_s: float = Field(30.0, gt=0)
    """Length of a conversation."""
    conversation_utterances: int = Field(4, ge=1)
    """Utterances of a speaker, at most, that conversations are put together from."""
    overlap: tuple[float, float] = (0.1, 0.3)
    """Bounds of the share of overlapped speech; conversations outside are drawn again."""
    one_source: float = Field(0.5, ge=0, le=1)
    """Probability that all speakers of a conversation come from one source."""
    conversation: ConversationSettings = ConversationSettings()
    """How turns, rooms and noise are drawn."""


@dataclass(frozen=True)
class ProbeSet:
    """Recordings with what is to be found in them."""

    samples: NDArray[np.int16]
    """All recordings, one after the other."""
    lengths: NDArray[np.int64]
    """(R,): samples of each."""
    labels: NDArray[Any]
    """Speakers (R,) of `speakers_train`, paths (R,) of `speakers_trials`, words of all recordings
    in their order (one a second), how many speak (R, U) in the conversations."""

    def recordings(self) -> list[NDArray[np.int16]]:
        """Return the samples (N,) of each recording."""
        return np.split(self.samples, np.cumsum(self.lengths)[:-1])


def prepare_sets(corpus: Path, work: Path, settings: ProbeDataSettings) -> None:
    """Write all sets into `work`; those that are there with the same settings stay as they are.

    A set is made again when settings, manifest or trial lists change, not when audio does.
    Raises SettingsError or FormatError for a manifest, transcript or trial list that is missing or
    wrong, AudioError for a recording that cannot be read.
    """
    if not (corpus / MANIFEST).is_file():
        raise SettingsError(f"{corpus}: no {MANIFEST} there; give the folder that holds it.")
    lists = {name: read_trials(corpus / name) for name in settings.trials}
    for name, trials in lists.items():
        check_both_kinds(trials.targets, str(corpus / name))
    tried = sorted({path for trials in lists.values() for path in trials.names})
    hashes = {name: sha256_of(corpus / name) for name in (MANIFEST, *settings.trials)}
    manifest = {MANIFEST: hashes[MANIFEST]}
    of_conversations = settings.model_dump(mode="json", exclude=SPEAKER_CHOICES)
    of_speakers = settings.model_dump(mode="json", include=SPEAKER_CHOICES | {"seed"})
    work.mkdir(parents=True, exist_ok=True)
    _make(work, "words", SPLITS, manifest, lambda: _words(corpus))
    _make(
        work,
        "conversations",
        SPLITS,
        manifest | of_conversations,
        lambda: _conversations(corpus, settings),
    )
    _make(
        work,
        "speakers",
        ("train", "trials"),
        hashes | of_speakers,
        lambda: _speakers(corpus, settings, tried),
    )


def load_set(work: Path, name: str) -> ProbeSet:
    """Return a set that `prepare_sets` wrote: `words_dev` and so on."""
    with np.load(work / f"{name}.npz") as table:
        return ProbeSet(table["samples"], table["lengths"], table["labels"])


def _make(
    work: Path,
    kind: str,
    parts: Sequence[str],
    made_from: Mapping[str, Any],
    make: Callable[[], Iterator[MadeSet]],
) -> None:
    """Make the sets of a kind, unless all lie there and were made from the same."""
    text = json.dumps(made_from, sort_keys=True)
    paths = [work / f"{kind}_{part}.npz" for part in parts]
    if all(_made_from(path) == text for path in paths):
        log.info("%s: unchanged, passed over", kind)
        return
    log.info("%s: making the recordings", kind)
    for path, (waves, labels) in zip(paths, make(), strict=True):
        if not waves:
            raise SettingsError(f"{MANIFEST} lists no recording for {path.stem}; add some.")
        with atomic_write(path) as temporary:
            np.savez(
                temporary,
                samples=np.concatenate(waves),
                lengths=np.array([len(wave) for wave in waves]),
                labels=labels,
                made_from=text,
            )


def _made_from(path: Path) -> str | None:
    if not path.is_file():
        return None
    with np.load(path) as table:
        return str(table["made_from"])


def _decode(path: Path, longest_s: float | None = None) -> NDArray[np.int16]:
    wave = read_audio(path)
    if longest_s is not None:
        wave = wave[: int(longest_s * SAMPLE_RATE)]
    return _as_int16(wave)


def _as_int16(wave: Samples) -> NDArray[np.int16]:
    return np.clip(np.round(wave * 32767), -32768, 32767).astype(np.int16)


def _by_speaker(
    rows: Iterable[Row], split: str, most: int, seed: int
) -> Iterator[tuple[str, list[Row]]]:
    """Give each labelled speaker of a split with at most so many utterances, drawn at random."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Row]] = {}
    for row in rows:
        if row.kind == "speech" and row.split == split and row.speaker:
            found.setdefault(row.speaker, []).append(row)
    for speaker, said in sorted(found.items()):
        yield speaker, [said[i] for i in sorted(rng.permutation(len(said))[:most])]


def _speakers(corpus: Path, settings: ProbeDataSettings, tried: list[str]) -> Iterator[MadeSet]:
    chosen = [
        row
        for _, said in _by_speaker(
            read_manifest(corpus), "train", settings.speaker_utterances, settings.seed
        )
        if len(said) > 1
        for row in said
    ]
    waves = [_decode(corpus / row.path, settings.speaker_s) for row in chosen]
    yield waves, np.array([row.speaker for row in chosen])
    yield [_decode(corpus / path, settings.trial_s) for path in tried], np.array(tried)


def _words(corpus: Path) -> Iterator[MadeSet]:
    with (corpus / MANIFEST).open(encoding="utf-8", newline="") as file:
        said = {row["path"]: (row.get("transcript") or "").split() for row in csv.DictReader(file)}
    rows = [row for row in read_manifest(corpus) if row.source == WORDS_SOURCE]
    for split in SPLITS:
        paths = [row.path for row in rows if (row.kind, row.split) == ("speech", split)]
        waves = [_decode(corpus / path) for path in paths]
        for path, wave in zip(paths, waves, strict=True):
            if not said[path]:
                raise SettingsError(f"{path}: no transcript; write its words into {MANIFEST}.")
            if round(len(wave) / SAMPLE_RATE) != len(said[path]):
                raise FormatError(
                    f"{path}: {len(wave) / SAMPLE_RATE:.1f} s and {len(said[path])} words; "
                    f"{MANIFEST} must name one for each second."
                )
        yield waves, np.array([word for path in paths for word in said[path]])


def _conversations(corpus: Path, settings: ProbeDataSettings) -> Iterator[MadeSet]:
    rows = read_manifest(corpus)
    for split, count in zip(SPLITS, settings.conversations, strict=True):
        voices = _by_speaker(rows, split, settings.conversation_utterances, settings.seed)
        noises = [row for row in rows if (row.kind, row.split) == ("noise", split)]
        collection = _collection(corpus, [row for _, said in voices for row in said], noises)
        most = max(map(len, collection.sources.values()), default=0)
        if most < max(settings.speakers):
            raise SettingsError(
                f"{split}: no source has more than {most} speakers with speech, conversations need "
                f"{max(settings.speakers)}; lower `speakers`."
            )
        drawn = EvaluationSettings(
            conversations=count,
            length_s=settings.conversation_s,
            **settings.model_dump(include={"seed", "speakers", "overlap", "one_source"}),
            conversation=settings.conversation,
        )
        plans = draw_set(collection, drawn)
        waves = [render(plan, collection.audio, collection.audio) for plan in plans]
        yield [_as_int16(wave) for wave in waves], np.stack([speaker_counts(p) for p in plans])


def _collection(corpus: Path, spoken: list[Row], noises: list[Row]) -> Collection:
    """Decode utterances and backgrounds and find the speech, as the recipe `tiny` does."""
    waves = [_decode(corpus / row.path) for row in (*spoken, *noises)]
    voices: dict[str, list[Utterance]] = {}
    sources: dict[str, list[str]] = {}
    speech_of = find_speech([*waves[: len(spoken)]])  # a list of any integers
    for index, (row, spans) in enumerate(zip(spoken, speech_of, strict=True)):
        if not len(spans):
            continue
        if row.speaker not in voices:
            sources.setdefault(row.source, []).append(row.speaker)
        speech = tuple((int(start), int(end)) for start, end in spans)
        voices.setdefault(row.speaker, []).append(Utterance(index, row.speaker, speech))
    lengths = np.array([len(wave) for wave in waves])
    return Collection(
        samples=np.concatenate(waves),
        starts=np.cumsum(lengths) - lengths,
        lengths=lengths,
        teacher=np.zeros((len(waves), 256), np.float32),
        voices=voices,
        sources=sources,
        noises=[(index, len(waves[index])) for index in range(len(spoken), len(waves))],
        meetings=[],
        labelled=sorted(name for name, said in voices.items() if len(said) > 1),
    )


def speaker_counts(plan: ConversationPlan) -> NDArray[np.uint8]:
    """Return how many speakers talk in the middle of each unit of 10 ms, (U,)."""
    active = np.zeros((len(plan.speakers), plan.length), bool)
    for start, end, name in plan.turns():
        active[plan.speakers.index(name), start:end] = True
    return active[:, UNIT // 2 :: UNIT].sum(axis=0).astype(np.uint8)
