"""What takes several tasks at once: names of known people on the turns of a diarization.

N samples, D embedding size.
"""

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.audio.read import open_audio, read_audio
from wavlm_meeting.diarization.load import load_pipeline
from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.diarization.result import Diarization
from wavlm_meeting.errors import AudioError, AudioWarning, SettingsError
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.backend import Backend, Voices
from wavlm_meeting.verification.identification import Identifier
from wavlm_meeting.verification.model import SpeakerModel
from wavlm_meeting.verification.speech import LEAST_S, check_speech, speech_of
from wavlm_meeting.verification.verify import load_scoring
from wavlm_meeting.verification.voices import Model, Register, Take, Voice, checked_name, now

MOST_S = 30.0
"""Seconds of a speaker alone that are listened to for a name; more tell little more."""
SECOND_S = 1.5
"""Seconds that a second voice may have in a recording of one person: diarization errs."""
SECOND_SHARE = 0.15
"""And its share of the speech."""

ONE_VOICE = 0.001
"""Share of pairs of strangers that sound as alike as what is taken for one voice after all."""

_PIECE_S = 0.3  # shorter stretches are left out: their ends are somebody else's

Stretch = tuple[float, float]
"""Start and end in seconds."""


def enroll(
    name: str,
    files: Sequence[str | Path],
    model: str = "tiny",
    register: str | Path | None = None,
    backend: str | Path | None = None,
    device: str = "auto",
    channel: int | None = None,
) -> Voice:
    """Put somebody's recordings into the register, all of them or none; return what it has now.

    Args:
        name: Who speaks; more recordings are added to a voice that is there.
        files: Recordings of this person alone.
        model: Name of an embedded model, a folder, or an id on the Hugging Face hub.
        register: The register of voices, begun if it is not there; None is the user's own.
        backend: File with the calibration, by which a second voice is told from the first; None
            takes the one that lies beside the model, if any.
        device: auto, cpu or cuda.
        channel: Channel of the files to listen to, from 1 on; None mixes all of them.

    Raises:
        AudioError: A recording cannot be read, has too little speech, or a second person's.
        CheckpointError: The model or the backend cannot be loaded, or do not belong together.
        DeviceError: The device is not there.
        FormatError: The register is damaged, or none.
        SettingsError: This is no name, or a recording is another voice's already.
    """
    name = checked_name(name)
    if not files:
        raise SettingsError(f"'{name}': no recordings; give one at least.")
    recordings = [read_audio(file, channel=channel) for file in files]
    speech_s = [
        check_speech(samples, str(file)).seconds
        for file, samples in zip(files, recordings, strict=True)
    ]
    loaded, scoring = load_scoring(model, backend, device)
    pipeline = load_pipeline(device=device)
    for file, samples in zip(files, recordings, strict=True):
        check_one_voice(samples, str(file), pipeline, loaded, scoring)
    made_by = Model(loaded.sha256, loaded.name, loaded.size)
    takes = [
        Take(Path(file).name, made_by, loaded.embed(samples).numpy(), seconds, now())
        for file, samples, seconds in zip(files, recordings, speech_s, strict=True)
    ]
    with Register(register, create=True) as opened:
        return opened.enroll(name, takes)


def check_one_voice(
    samples: NDArray[np.float32],
    where: str,
    pipeline: DiarizationPipeline,
    model: SpeakerModel,
    backend: Backend,
) -> None:
    """Refuse samples (N,) that hold no voice, or a second one; raises AudioError.

    `where` names them. A second voice is one to which diarization gives more than 1.5 s and more
    than 15 % of the speech. Since it may take one voice for two (docs/log.md), the two are let
    through where the calibrated score takes them for one, as it would one in a thousand strangers.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AudioWarning)
        diarization = pipeline(samples)
    talk_s = dict.fromkeys(diarization.speakers, 0.0)
    for turn in diarization.turns:
        talk_s[turn.speaker] += turn.end - turn.start
    most = sorted(talk_s, key=lambda speaker: -talk_s[speaker])[:2]
    if not most:
        raise AudioError(f"{where}: no voice found; give a recording of speech.")
    if len(most) < 2 or talk_s[most[1]] <= max(SECOND_S, SECOND_SHARE * sum(talk_s.values())):
        return
    if backend.calibration is not None:
        heard, voices = _heard(diarization, most, [samples], model)
        if len(heard) == len(most):
            both = backend.describe(voices)
            llr = backend.log_likelihood_ratio(both, both, np.array([[0, 1]]))[0]
            if llr >= backend.threshold(ONE_VOICE):
                return
    raise AudioError(
        f"{where}: more than one voice, the second speaks for {talk_s[most[1]]:.1f} s; give a "
        "recording of one person, or cut the others out."
    )


def name_speakers(
    diarization: Diarization,
    source: str | Path,
    identifier: Identifier,
    channel: int | None = None,
) -> Diarization:
    """Put the names of those who are known on their turns; the others stay as they are called.

    Each speaker is compared by up to 30 s in which nobody else speaks, and each name is given once
    at most. `source` and `channel` are those of the diarization; `load_identifier` gives the
    identifier. Raises AudioError if the recording cannot be read.
    """
    with open_audio(source, channel=channel) as reader:
        heard, voices = _heard(diarization, diarization.speakers, reader.blocks(), identifier.model)
    known = dict(zip(heard, identifier.assign(voices), strict=True))
    turns = (
        replace(turn, speaker=known.get(turn.speaker) or turn.speaker) for turn in diarization.turns
    )
    return replace(diarization, turns=tuple(turns))


def _heard(
    diarization: Diarization,
    speakers: Sequence[str],
    blocks: Iterable[NDArray[np.float32]],
    model: SpeakerModel,
) -> tuple[list[str], Voices]:
    """Embed those of the speakers who are heard alone for long enough.

    `blocks` are the recording's samples, in order.
    """
    cuts = _cut(blocks, {speaker: _alone(diarization, speaker) for speaker in speakers})
    speech_s = {speaker: speech_of(samples).seconds for speaker, samples in cuts.items()}
    heard = [speaker for speaker, seconds in speech_s.items() if seconds >= LEAST_S]
    embeddings = np.zeros((len(heard), model.size), np.float32)
    for row, speaker in zip(embeddings, heard, strict=True):
        row[:] = model.embed(cuts[speaker]).numpy()
    return heard, Voices(embeddings, np.array([speech_s[speaker] for speaker in heard]))


def _alone(diarization: Diarization, speaker: str) -> list[Stretch]:
    """Return where a speaker speaks and nobody else does: the longest stretches, up to 30 s."""
    pieces: list[Stretch] = []
    others = [(turn.start, turn.end) for turn in diarization.turns if turn.speaker != speaker]
    for turn in diarization.turns:
        if turn.speaker == speaker:
            pieces += _without((turn.start, turn.end), others)
    chosen: list[Stretch] = []
    left_s = MOST_S
    for start, end in sorted(pieces, key=lambda piece: piece[0] - piece[1]):
        length_s = min(end - start, left_s)
        if length_s < _PIECE_S:
            break
        chosen.append((start, start + length_s))
        left_s -= length_s
    return sorted(chosen)


def _without(stretch: Stretch, others: Iterable[Stretch]) -> list[Stretch]:
    """Return what is left of a stretch where the others are not."""
    left = [stretch]
    for start, end in others:
        left = [
            part
            for first, last in left
            for part in ((first, min(last, start)), (max(first, end), last))
            if part[0] < part[1]
        ]
    return left


def _cut(
    blocks: Iterable[NDArray[np.float32]], wanted: dict[str, list[Stretch]]
) -> dict[str, NDArray[np.float32]]:
    """Join the stretches of each speaker who has any; only what is wanted stays in memory."""
    found: dict[str, list[NDArray[np.float32]]] = {speaker: [] for speaker in wanted}
    offset = 0
    for block in blocks:
        for speaker, stretches in wanted.items():
            for stretch in stretches:
                start, end = (round(time_s * SAMPLE_RATE) - offset for time_s in stretch)
                if end > 0 and start < len(block):
                    found[speaker].append(block[max(start, 0) : end].copy())
        offset += len(block)
    return {speaker: np.concatenate(parts) for speaker, parts in found.items() if parts}
