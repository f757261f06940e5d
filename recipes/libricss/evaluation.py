"""Stage `words`: word error rates of LibriCSS, utterance by utterance and in whole sessions.

Utterance by utterance, as in the paper's table, on both tracks and on the recording as it is. In
whole sessions on stretches of speech of each track (ORC-WER), and, where a diarizer says who spoke
when, on the track that is loudest in each of the turns (cpWER).

J tracks, N samples.
"""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from lhotse import CutSet, MonoCut, MultiCut
from numpy.typing import NDArray
from pyannote.core import Annotation

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.files import atomic_write
from wavlm_meeting.recipes.libricss.recognisers import Recogniser
from wavlm_meeting.recipes.libricss.tracks import CONTINUOUS, UTTERANCES, folder_of, track_files
from wavlm_meeting.recipes.libricss.word_errors import (
    Segment,
    WordErrors,
    cp_errors,
    orc_errors,
    utterance_errors,
)
from wavlm_meeting.training.progress import Report
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.speech import FRAME, speech_of

LONGEST_S = 20.0
"""Stretches of speech are cut so that none is longer: what recognisers are made for."""
AROUND_S = 0.2
"""What is heard before and behind a stretch of speech."""
LEAST_S = 0.1
"""Shorter stretches hold no word."""
CENTRE = 1
"""LibriCSS's microphone in the centre, the one that results of one channel are of."""

Samples = NDArray[np.float32]
Diarizer = Callable[[Path], Annotation]
WordTable = dict[str, dict[str, WordErrors]]
"""Counts by way of evaluation, and in it by condition."""


@dataclass(frozen=True)
class Words:
    """Sessions and their tracks, ready to be written down."""

    manifest: Path
    """Sessions, with utterances and their words."""
    tracks: Path
    """Where the tracks lie."""
    recogniser: Recogniser
    journal: Path
    """Where each text is noted, so that a run goes on after a stop; lines of JSON."""
    diarizer: Diarizer | None = None
    """Says who spoke when; None: no cpWER."""


def evaluate_words(
    words: Words, microphones: Sequence[int], report: Report | None = None
) -> WordTable:
    """Count the words of all sessions."""
    write = Transcriber(words.recogniser, words.journal)
    table: defaultdict[str, defaultdict[str, WordErrors]] = defaultdict(
        lambda: defaultdict(WordErrors)
    )
    sessions = list(CutSet.from_jsonl_lazy(words.manifest))
    for number, session in enumerate(sessions, 1):
        condition = session.id.rpartition("_session")[0]
        for way, counts in _session_errors(words, write, session, microphones):
            table[way][condition] += counts
        if report is not None:
            report(number, len(sessions), {})
    return {way: dict(found) for way, found in table.items()}


class Transcriber:
    """Writes stretches of speech down, each once."""

    def __init__(self, recogniser: Recogniser, journal: Path) -> None:
        """Take what was noted before; a line that a stop has cut off is dropped."""
        self._recogniser, self._journal = recogniser, journal
        journal.parent.mkdir(parents=True, exist_ok=True)
        noted = journal.read_text(encoding="utf-8") if journal.is_file() else ""
        whole = noted[: noted.rfind("\n") + 1]
        if whole != noted:
            with atomic_write(journal) as temporary:
                temporary.write_text(whole, encoding="utf-8")
        self._texts: dict[str, str] = dict(map(json.loads, whole.splitlines()))

    def __call__(self, name: str, samples: Samples) -> str:
        """Return the words of samples (N,), which have this name; none of silence."""
        if name not in self._texts:
            text = self._recogniser(samples) if samples.any() else ""
            with self._journal.open("a", encoding="utf-8") as file:
                file.write(json.dumps([name, text]) + "\n")
            self._texts[name] = text
        return self._texts[name]


def _session_errors(
    words: Words, write: Transcriber, session: MonoCut | MultiCut, microphones: Sequence[int]
) -> Iterator[tuple[str, WordErrors]]:
    """Count one session in every way."""
    path = Path(session.recording.sources[0].source)
    heard = read_audio(path, channel=CENTRE)
    for each in session.supervisions:
        text = write(f"{each.id} as it is", _cut(heard, each.start, each.end))
        yield "utterance-wise, not separated", utterance_errors(each.text, [text])
    reference = [
        Segment(each.start, each.end, each.speaker, each.text) for each in session.supervisions
    ]
    turns = None if words.diarizer is None else words.diarizer(path)
    for count in microphones:
        about = "1 microphone" if count == 1 else f"{count} microphones"
        parts = folder_of(words.tracks, count, UTTERANCES)
        for each in session.supervisions:
            files = track_files(parts, each.id)
            texts = [write(f"{count}/{file.stem}", read_audio(file)) for file in files]
            yield f"utterance-wise, {about}", utterance_errors(each.text, texts)
        files = track_files(folder_of(words.tracks, count, CONTINUOUS), session.id)
        tracks = np.stack([read_audio(file) for file in files])  # (J, N)
        name = f"{count}/{session.id}"
        stretches = _of_tracks(tracks, write, name)
        yield f"whole sessions, ORC-WER, {about}", orc_errors(reference, stretches)
        if turns is not None:
            said = _of_turns(tracks, turns, write, name)
            yield f"whole sessions, cpWER, {about}", cp_errors(reference, said)


def _of_tracks(tracks: Samples, write: Transcriber, name: str) -> list[Segment]:
    """Write down the stretches of speech on tracks (J, N); voices are the tracks' numbers."""
    return [
        Segment(
            start, end, str(number), write(f"{name} {number} {start:.2f}", _cut(track, start, end))
        )
        for number, track in enumerate(tracks, 1)
        for start, end in stretches_of(track)
    ]


def _of_turns(tracks: Samples, turns: Annotation, write: Transcriber, name: str) -> list[Segment]:
    """Write down each turn on the track of (J, N) that is the loudest in it."""
    said = []
    for turn, _, speaker in turns.itertracks(yield_label=True):
        pieces = _cut(tracks, turn.start, turn.end)
        if pieces.shape[1] >= LEAST_S * SAMPLE_RATE:
            loudest = int(np.square(pieces).sum(axis=1).argmax())
            key = f"{name} turn {loudest + 1} {turn.start:.3f} {turn.end:.3f}"
            said.append(Segment(turn.start, turn.end, speaker, write(key, pieces[loudest])))
    return said


def stretches_of(track: Samples) -> list[tuple[float, float]]:
    """Return where a track (N,) holds speech, in seconds, each at most 20 s long.

    A little of what is around it belongs to it. Longer speech is cut into equal parts.
    """
    edges = np.flatnonzero(np.diff(speech_of(track).frames.astype(np.int8), prepend=0, append=0))
    length_s = len(track) / SAMPLE_RATE
    found: list[tuple[float, float]] = []
    for first, last in (edges.reshape(-1, 2) * FRAME / SAMPLE_RATE).tolist():
        start, end = max(first - AROUND_S, 0.0), min(last + AROUND_S, length_s)
        if found and start < found[-1][1]:  # the pause is shorter than what is around
            start = found.pop()[0]
        found.append((start, end))
    parts: list[tuple[float, float]] = []
    for start, end in found:
        bounds = np.linspace(start, end, int(np.ceil((end - start) / LONGEST_S)) + 1).tolist()
        parts += pairwise(bounds)
    return [(start, end) for start, end in parts if end - start >= LEAST_S]


def _cut(samples: Samples, start: float, end: float) -> Samples:
    """Return the samples (..., N) between two times in seconds."""
    return samples[..., round(start * SAMPLE_RATE) : round(end * SAMPLE_RATE)]
