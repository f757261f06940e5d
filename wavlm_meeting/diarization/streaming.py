"""Who spoke when while it is being said: the same model on a stream of samples.

N samples, W windows that are not final yet, T frames of a window, S local speakers, K groups of
voices, F frames from the first of those windows on.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment
from pydantic import Field

from wavlm_meeting.audio.windows import Window
from wavlm_meeting.config import Settings
from wavlm_meeting.diarization.faintness import Loudness, without_faint
from wavlm_meeting.diarization.heard import LocalSpeakers
from wavlm_meeting.diarization.online_clustering import NOBODY, Groups, VoiceMemory, Voices
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.reconstruction import (
    most_active,
    overlap_add,
    runs_of,
    smooth,
    speaker_activity,
)
from wavlm_meeting.diarization.result import Diarization, Turn
from wavlm_meeting.diarization.turns import FrameTimes
from wavlm_meeting.errors import AudioError, SettingsError
from wavlm_meeting.units import SAMPLE_RATE

LATENCIES_S = (0.5, 10.0)
"""The shortest and the longest latency there can be."""

Bools = NDArray[np.bool_]


class StreamingSettings(Settings):
    """How a stream is followed, beside what a bundle says of its recordings."""

    steps: int = Field(2, ge=2)
    """Windows that there are at least within the latency; never fewer than offline."""
    memory: int = Field(400, ge=2)
    """Voices that are remembered, those of a speaker merged as more come."""
    newcomer_s: float = Field(3.0, ge=0)
    """Speech that a new speaker's embeddings must rest on, that of overlapping windows added."""


@dataclass
class RecentWindow:
    """A window that has frames which are not final yet."""

    first: int
    """Its first frame's place in the stream."""
    activity: NDArray[np.float32]
    """(T, S) probability that each local speaker is active."""
    slots: NDArray[np.int64]
    """Its local speakers with any speech."""
    voices: Voices
    """Their voices."""
    founds: bool
    """Whether its voices found groups: windows that offline would have too."""


class StreamingDiarization:
    """Says who speaks, `latency_s` after it was said, and never takes anything back.

    Every step, encoder and heads hear the last window. All windows that hold a frame have a say in
    who is active in it, and all voices so far in who that is, until the frame is final; then the
    name stays, whatever is learnt later. Memory and the work of a step are bounded, and results do
    not depend on how the samples were cut into blocks.
    """

    def __init__(
        self,
        pipeline: DiarizationPipeline,
        settings: StreamingSettings | None = None,
        *,
        latency_s: float = 2.0,
        max_speakers: int | None = None,
    ) -> None:
        """Begin a stream; raises SettingsError for a latency or a number that cannot be."""
        shortest, longest = LATENCIES_S
        if not shortest <= latency_s <= longest:
            raise SettingsError(f"latency {latency_s} s: give {shortest:g} to {longest:g} s.")
        if max_speakers is not None and max_speakers < 1:
            raise SettingsError(f"max_speakers is {max_speakers}: give 1 or more.")
        settings = settings or StreamingSettings()
        self.pipeline, self.latency_s = pipeline, latency_s
        own, frame = pipeline.settings, pipeline.encoder.config.hop
        self._parts = max(1, round(np.ceil(settings.steps * own.hop_s / latency_s)))
        self._step = max(1, round(own.hop_s / self._parts * SAMPLE_RATE / frame)) * frame
        self._window = max(round(own.window_s * SAMPLE_RATE / frame) * frame, self._step)
        self._gap = round(own.gap_s * SAMPLE_RATE / frame)
        self._least = round(own.turn_s * SAMPLE_RATE / frame)
        self._memory = VoiceMemory(
            own.clustering,
            most=settings.memory,
            newcomer_s=settings.newcomer_s,
            max_speakers=max_speakers,
        )
        self._samples = np.zeros(0, np.float32)  # the last window, and what came since
        self._fresh = self._heard = self._count = 0
        self._loudness = Loudness()
        self._recent: deque[RecentWindow] = deque()
        self._final = 0  # frames
        self._before: dict[int, Bools] = {}  # the last final frames of who spoke in them

    @property
    def duration_s(self) -> float:
        """Seconds that have been pushed."""
        return (self._heard + self._fresh) / SAMPLE_RATE

    @property
    def final_s(self) -> float:
        """Seconds from the beginning that are final."""
        return self._times().stretch(0, self._final)[1] if self._final else 0.0

    def push(self, samples: NDArray[np.floating]) -> list[Turn]:
        """Take the next samples (N,) at 16 kHz and return what has become final, by start.

        These are pieces of turns: somebody who speaks on goes on in the next pieces, which begin
        where the last have ended; `joined` makes turns of them. Raises AudioError for samples that
        are not mono, not floats or not finite.
        """
        pieces: list[Turn] = []
        rest = _checked(samples)
        while len(rest):
            taken, rest = np.split(rest, [self._step - self._fresh])
            self._samples = np.concatenate([self._samples, taken])[-self._window :]
            self._fresh += len(taken)
            if self._fresh == self._step:
                self._heard, self._fresh = self._heard + self._step, 0
                self._hear(self._samples)
                # What will be too old at the next step is final now.
                due = self._heard + self._step - round(self.latency_s * SAMPLE_RATE)
                pieces += self._finalise(self._frames_until(due))
        return pieces

    def finish(self) -> list[Turn]:
        """Return the rest, now that no more samples will come."""
        config = self.pipeline.encoder.config
        self._heard, self._fresh, fresh = self._heard + self._fresh, 0, self._fresh
        off_grid = -(self._heard - len(self._samples)) % config.hop
        if fresh and len(self._samples) - off_grid >= config.receptive_field:
            self._hear(self._samples[off_grid:])
        last = max((each.first + len(each.activity) for each in self._recent), default=0)
        return self._finalise(last)

    def result(self, uri: str, pieces: Iterable[Turn]) -> Diarization:
        """Return pieces of this stream as the diarization of a recording named `uri`."""
        turns = tuple(joined(pieces))
        annotation = Annotation(uri=uri)
        for track, turn in enumerate(turns):
            annotation[Segment(turn.start, turn.end), track] = turn.speaker
        return Diarization(
            uri=uri,
            duration_s=self.duration_s,
            turns=turns,
            overlaps=tuple((part.start, part.end) for part in annotation.get_overlap()),
            model=self.pipeline.name,
            model_sha256=self.pipeline.sha256,
        )

    def _hear(self, samples: NDArray[np.float32]) -> None:
        """Run the model on the samples of the last window, padded if it is not full."""
        padded = np.zeros(self._window, np.float32)
        padded[: len(samples)] = samples
        start = self._heard - len(samples)
        window = Window(start, padded, len(samples), is_last=False)
        (local,) = self.pipeline.analyse([window])
        self._loudness.add(local)
        local = without_faint(local, self._loudness.loud_db - self.pipeline.settings.faint_db)
        self._count += 1
        self._recent.append(
            _recent(local, self._count, self._count % self._parts == 0, self._frame_of(start))
        )

    def _finalise(self, end: int) -> list[Turn]:
        """Decide the frames before `end` that are not final yet."""
        if end <= self._final or not self._recent:
            return []
        newest = self._recent[-1]
        voices = [each.voices for each in self._recent]
        founding = [each.voices for each in self._recent if each.founds or each is newest]
        groups = self._memory.group(founding, voices)
        activity, decided = self._decide(groups)
        first, size = self._final - self._recent[0].first, end - self._final
        activity, decided = activity[first:], decided[:size]
        self._name(groups, decided)
        shared = decided.sum(axis=1) > 1
        times = self._times()
        runs = sorted(
            (start, stop, group)
            for group in range(len(groups.names))
            for start, stop in runs_of(decided[:, group])
        )
        found = [
            Turn(
                *times.stretch(self._final + start, self._final + stop),
                f"SPEAKER_{groups.names[group]:02d}",
                round(float(activity[start:stop, group].mean()), 3),
                round(float(shared[start:stop].mean()), 3),
            )
            for start, stop, group in runs
        ]
        self._move_on(groups, decided, end)
        return found

    def _decide(self, groups: Groups) -> tuple[NDArray[np.float32], Bools]:
        """Return activity (F, K), and decisions on all frames of it that are not final yet."""
        recent, count = self._recent, len(groups.names)
        first = [each.first - recent[0].first for each in recent]
        speakers = []
        for each, members in zip(recent, groups.members, strict=True):
            own = np.full(each.activity.shape[1], NOBODY)
            own[each.slots] = members
            speakers.append(own)
        activity = speaker_activity([each.activity for each in recent], first, speakers, count)
        expected = overlap_add([each.activity.sum(axis=1, keepdims=True) for each in recent], first)
        decided = most_active(activity, expected[:, 0], self.pipeline.settings.onset)
        context = self._gap + self._least
        silent = np.zeros(context, np.bool_)
        before = [self._before.get(name, silent) for name in groups.names]
        open_ = decided[self._final - recent[0].first :]
        both = np.concatenate([np.reshape(before, (count, context)).T, open_])
        return activity, smooth(both, self._gap, self._least)[context:]

    def _name(self, groups: Groups, decided: Bools) -> None:
        """Name the groups that are heard for the first time, in the order of their first frames."""
        new = [
            (int(decided[:, group].argmax()), group)
            for group, name in enumerate(groups.names)
            if name == NOBODY and decided[:, group].any()
        ]
        for _, group in sorted(new):
            groups.names[group] = self._memory.new_name()

    def _move_on(self, groups: Groups, decided: Bools, end: int) -> None:
        """Note what is final now, and remember the voices of windows that are so as a whole."""
        context = self._gap + self._least
        silent = np.zeros(context, np.bool_)
        past = {
            name: np.concatenate([self._before.get(name, silent), decided[:, group]])
            for group, name in enumerate(groups.names)
            if name != NOBODY
        }
        kept = {name: each[len(each) - context :] for name, each in past.items()}
        self._before = {name: each for name, each in kept.items() if each.any()}
        self._final = end
        names = np.array([*groups.names, NOBODY])  # the last for who is in no group
        for each, members in zip(self._recent, groups.members, strict=True):
            if each.first < end:
                each.voices.names = names[members]
        while self._recent and self._recent[0].first + len(self._recent[0].activity) <= end:
            window = self._recent.popleft()
            if window.founds:
                self._memory.remember(window.voices)

    def _frame_of(self, sample: int) -> int:
        return sample // self.pipeline.encoder.config.hop

    def _frames_until(self, sample: int) -> int:
        """Return how many frames stand for all that comes before a sample."""
        config = self.pipeline.encoder.config
        shift = (config.receptive_field - config.hop) // 2
        return max(0, -((shift - sample) // config.hop))

    def _times(self) -> FrameTimes:
        config = self.pipeline.encoder.config
        return FrameTimes(config.hop, config.receptive_field, self._heard + self._fresh)


def joined(pieces: Iterable[Turn]) -> list[Turn]:
    """Make turns of pieces, by start: those of a speaker that adjoin are one."""
    turns: list[Turn] = []
    last: dict[str, int] = {}
    for piece in pieces:
        place = last.get(piece.speaker)
        if place is None or turns[place].end != piece.start:
            last[piece.speaker] = len(turns)
            turns.append(piece)
            continue
        turn = turns[place]
        own, more = turn.end - turn.start, piece.end - piece.start
        confidence, overlap = (
            round((own * before + more * after) / (own + more), 3)
            for before, after in (
                (turn.confidence, piece.confidence),
                (turn.overlap, piece.overlap),
            )
        )
        turns[place] = replace(turn, end=piece.end, confidence=confidence, overlap=overlap)
    return turns


def _recent(local: LocalSpeakers, number: int, founds: bool, first: int) -> RecentWindow:
    """Keep of a window what is needed until it is final."""
    slots = np.flatnonzero(local.speech_s > 0)
    nobody = np.full(len(slots), NOBODY)
    windows = np.full(len(slots), number)
    voices = Voices(local.embeddings[slots], local.speech_s[slots], nobody, windows)
    return RecentWindow(first, local.activity, slots, voices, founds)


def _checked(samples: NDArray[np.floating]) -> NDArray[np.float32]:
    """Check a block of samples and return it as float32; raises AudioError."""
    array = np.asarray(samples)
    if array.ndim != 1 or not np.issubdtype(array.dtype, np.floating):
        raise AudioError(
            f"samples are {array.dtype} of shape {array.shape}: give mono floats (N,) at 16 kHz."
        )
    if not np.isfinite(array).all():
        raise AudioError("samples hold NaN or infinity: leave them out.")
    return array.astype(np.float32)
