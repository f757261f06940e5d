"""Stage `simulated`: what becomes of mixtures of talkers and rooms that no training has heard.

Signals can be compared here, since the parts of a mixture are known: two talkers all the time, and
conversations in which a fifth of the speech overlaps.

J tracks or talkers, C microphones, N samples, K frames of 10 ms.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment, Timeline
from scipy.ndimage import binary_dilation

from wavlm_meeting.audio.simulate import Utterance
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.recipes.libricss.sessions import (
    Condition,
    draw_placements,
    draw_session,
    scene_of,
)
from wavlm_meeting.recipes.libricss.settings import SimulatedSettings
from wavlm_meeting.scoring.diarization import ErrorCounts, score_diarization
from wavlm_meeting.scoring.separation import (
    Leakage,
    SeparationScore,
    score_separation,
)
from wavlm_meeting.separation.pipeline import SeparationPipeline
from wavlm_meeting.training.recordings import read_recordings
from wavlm_meeting.training.separation_mixtures import (
    TALKERS,
    Mixture,
    MixtureSettings,
    draw_mixture,
    place,
    render_mixture,
)
from wavlm_meeting.training.separation_rooms import RoomPool
from wavlm_meeting.training.separation_speech import read_speech
from wavlm_meeting.training.separation_training import Sounds
from wavlm_meeting.units import SAMPLE_RATE

Samples = NDArray[np.float32]

PAUSE_S = (0.1, 1.0)
"""Pauses of the conversations, as in LibriCSS."""
FRAME = SAMPLE_RATE // 100
ALONE_S = 1.0
"""Shorter stretches of one talker are not compared."""
CLEAN_DB = 30.0
"""SI-SDR from which on a sound is clean: where noise pauses, a mixture has 70 dB."""
ECHO_S = 0.3
"""So long before and after somebody talks, nobody else counts as alone."""
BETWEEN_S = 3.0
"""Silence between tracks that are diarized as one recording."""


@dataclass(frozen=True)
class Figures:
    """What was measured with one number of microphones; dB are of SI-SDR, over all talkers."""

    mixtures: int
    """Of two talkers all the time."""
    mixed_db: float
    """Of the mixtures: the mean."""
    separated_db: float
    """Of the tracks in the better order."""
    stretches: int
    """In which one talks alone, in conversations."""
    alone_mixed_db: float | None
    """Of the mixture in these, if there are any."""
    alone_separated_db: float | None
    """Of the better track."""
    leaked_db: float | None
    """Share of the energy that lies on the other track there (`scoring/separation.py`)."""
    der_mixed: float | None = None
    """Diarization error rate of conversations, if there is a diarizer."""
    der_separated: float | None = None
    """The same of their tracks."""

    @property
    def improvement_db(self) -> float:
        """Return what separation gains where two talk."""
        return self.separated_db - self.mixed_db

    @property
    def loss_db(self) -> float | None:
        """Return what it costs where one talks; below 0, it gains."""
        before, after = self.alone_mixed_db, self.alone_separated_db
        return None if before is None or after is None else before - after


@dataclass(frozen=True)
class Conversation:
    """A rendered conversation, and who says what when in it."""

    sounds: Mixture
    turns: Sequence[tuple[int, int, str]]
    """(start, end, talker) in samples."""
    talkers: Sequence[str]
    """In the order of the images."""


class Material:
    """Talkers, noise and rooms that mixtures are drawn from, the same each time."""

    def __init__(
        self, speech: Path, noise: Path, rooms: Path, decoded: Path, settings: SimulatedSettings
    ) -> None:
        """Read the manifests; raises SettingsError where there are too few talkers."""
        self.settings, self.pool = settings, RoomPool(rooms)
        self.speech, sounds = read_speech(speech, decoded), read_recordings(noise)
        self.noise = Sounds(sounds)
        self.noises = [(index, sounds.length(index)) for index in range(len(sounds))]
        self.microphones = min(self.pool.shape(room)[1] for room in range(len(self.pool)))
        if len(self.speech.voices) < TALKERS:
            raise SettingsError(f"{speech}: speech of one speaker; give more.")

    def mixtures(self) -> Iterator[Mixture]:
        """Give the mixtures of two talkers all the time."""
        settings = self.settings
        length = int(settings.mixture_s * SAMPLE_RATE)
        drawn = MixtureSettings(scene=scene_of(settings.snr_db))
        for number in range(settings.mixtures):
            rng = np.random.default_rng((settings.seed, 0, number))
            plan = draw_mixture(
                rng, self._voices(rng, TALKERS), length, drawn, self.noises, "throughout"
            )
            plan = place(rng, plan, self.pool, self.microphones)
            yield render_mixture(plan, self.speech.read, self.noise, self.pool)

    def conversations(self) -> Iterator[Conversation]:
        """Give the conversations."""
        settings = self.settings
        length = int(settings.conversation_s * SAMPLE_RATE)
        condition = Condition(settings.overlap, PAUSE_S)
        for number in range(settings.conversations):
            rng = np.random.default_rng((settings.seed, 1, number))
            voices = self._voices(rng, min(settings.talkers, len(self.speech.voices)))
            placements = draw_placements(rng, voices, condition, length)
            scene = scene_of(settings.snr_db)
            plan = draw_session(rng, placements, length, scene, self.noises, self.pool)
            sounds = render_mixture(plan, self.speech.read, self.noise, self.pool)
            yield Conversation(sounds, plan.scene.turns(), plan.scene.speakers)

    def _voices(self, rng: np.random.Generator, count: int) -> Mapping[str, list[Utterance]]:
        names = rng.choice(sorted(self.speech.voices), count, replace=False).tolist()
        return {name: self.speech.voices[name] for name in names}


def measure(
    material: Material,
    separator: SeparationPipeline,
    diarizer: DiarizationPipeline | None,
    microphones: int,
) -> Figures:
    """Separate all mixtures with the first microphones of the array, and compare."""
    both = [
        score_separation(
            each.images[:, 0], separator.separate(each.waveforms[:microphones]), each.waveforms[0]
        )
        for each in material.mixtures()
    ]
    alone: list[tuple[SeparationScore, Leakage]] = []
    errors: list[tuple[ErrorCounts, ErrorCounts]] = []
    for conversation in material.conversations():
        tracks = separator.separate(conversation.sounds.waveforms[:microphones])
        alone += score_alone(tracks, conversation)
        if diarizer is not None:
            errors.append(diarization_errors(diarizer, tracks, conversation))
    leaked = reduce(add, (leak for _, leak in alone), Leakage())
    mixed_db, separated_db = _levels(both)
    alone_mixed_db, alone_separated_db = (
        _levels([score for score, _ in alone]) if alone else (None, None)
    )
    return Figures(
        mixtures=len(both),
        mixed_db=mixed_db,
        separated_db=separated_db,
        stretches=len(alone),
        alone_mixed_db=alone_mixed_db,
        alone_separated_db=alone_separated_db,
        leaked_db=leaked.decibels if alone else None,
        der_mixed=reduce(add, [mixed for mixed, _ in errors]).der if errors else None,
        der_separated=reduce(add, [separated for _, separated in errors]).der if errors else None,
    )


def score_alone(
    tracks: Samples, conversation: Conversation
) -> Iterator[tuple[SeparationScore, Leakage]]:
    """Compare tracks (J, N) where one talks alone: the better one, and what the other holds."""
    for talker, start, end in alone_stretches(conversation):
        image, mixture = conversation.sounds.images[[talker], 0], conversation.sounds.waveforms[0]
        pieces = tracks[:, start:end]
        score = score_separation(image[:, start:end], pieces, mixture[start:end])
        energies = np.square(pieces, dtype=np.float64).sum(axis=1)
        energy = float(energies.sum())
        leaked = energy - float(energies[score.tracks[0]])
        yield score, Leakage((end - start) / SAMPLE_RATE, energy, leaked)


def _levels(scores: Sequence[SeparationScore]) -> tuple[float, float]:
    """Return the mean SI-SDR of mixtures and of tracks, each counted up to CLEAN_DB."""
    after, gain = (
        np.array([value for score in scores for value in score.figures[name]], np.float64)
        for name in ("si_sdr", "si_sdr_improvement")
    )
    before, after = np.minimum(after - gain, CLEAN_DB), np.minimum(after, CLEAN_DB)
    return float(before.mean()), float(after.mean())


def alone_stretches(conversation: Conversation) -> Iterator[tuple[int, int, int]]:
    """Give (talker, start, end) in samples of the stretches in which one talks alone."""
    length = conversation.sounds.waveforms.shape[1]
    talks = np.zeros((len(conversation.talkers), length // FRAME + 1), np.bool_)  # (J, K)
    for start, end, name in conversation.turns:
        talks[conversation.talkers.index(name), start // FRAME : -(-end // FRAME)] = True
    echo = np.ones(2 * int(ECHO_S * SAMPLE_RATE / FRAME) + 1, np.bool_)
    for talker, own in enumerate(talks):
        others = np.delete(talks, talker, axis=0).any(axis=0)
        alone = own & ~binary_dilation(others, echo)
        edges = np.flatnonzero(np.diff(np.pad(alone, 1).astype(np.int8))).reshape(-1, 2) * FRAME
        for start, end in edges.tolist():
            if end - start >= ALONE_S * SAMPLE_RATE:
                yield talker, start, min(end, length)


def diarization_errors(
    diarizer: DiarizationPipeline, tracks: Samples, conversation: Conversation
) -> tuple[ErrorCounts, ErrorCounts]:
    """Return the errors of a diarization of the mixture, and of the tracks."""
    reference = Annotation(uri="mixture")
    for number, (start, end, name) in enumerate(conversation.turns):
        reference[Segment(start / SAMPLE_RATE, end / SAMPLE_RATE), number] = name
    whole = Timeline([Segment(0, tracks.shape[1] / SAMPLE_RATE)])
    found = [
        diarizer(conversation.sounds.waveforms[0]).to_annotation(),
        diarize_tracks(diarizer, tracks),
    ]
    mixed, separated = (
        score_diarization({"mixture": reference}, {"mixture": each}, {"mixture": whole}).total
        for each in found
    )
    return mixed, separated


def diarize_tracks(diarizer: DiarizationPipeline, tracks: Samples) -> Annotation:
    """Diarize tracks (J, N) one after the other as one recording: voices are found again."""
    gap = np.zeros(int(BETWEEN_S * SAMPLE_RATE), np.float32)
    joined = np.concatenate([part for track in tracks for part in (track, gap)])
    length_s = tracks.shape[1] / SAMPLE_RATE
    found = Annotation(uri="tracks")
    for number, turn in enumerate(diarizer(joined).turns):
        before_s = (turn.start // (length_s + BETWEEN_S)) * (length_s + BETWEEN_S)
        segment = Segment(turn.start - before_s, min(turn.end - before_s, length_s))
        if segment:
            found[segment, number] = turn.speaker
    return found
