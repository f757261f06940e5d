"""Whose voice it is, of those in a register, or nobody's there.

M recordings, V voices, D embedding size.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.verification.backend import Backend, Voices
from wavlm_meeting.verification.model import SpeakerModel
from wavlm_meeting.verification.normalisation import unit_length
from wavlm_meeting.verification.recordings import Failed, Progress, embed_recordings
from wavlm_meeting.verification.verify import load_scoring
from wavlm_meeting.verification.voices import Register, Voice


@dataclass(frozen=True)
class Identity:
    """Whose voice a recording holds."""

    name: str | None
    """Who it is; None for somebody unknown."""
    nearest: str
    """Who of the register is most alike."""
    score: float
    """How much: a log-likelihood ratio, or the cosine where a threshold of cosines was given."""
    threshold: float
    """Score from which on it is that voice."""


class Identifier:
    """Compares recordings with the voices that one model has heard."""

    def __init__(
        self,
        model: SpeakerModel,
        backend: Backend,
        voices: Sequence[Voice],
        false_accepts: float = 0.01,
        threshold: float | None = None,
    ) -> None:
        """Take the voices to compare with, each with takes of this model alone.

        `false_accepts` is how often a stranger may be taken for any of the voices: of V voices,
        each gets a V-th of it. `threshold` is a cosine to use instead. Raises SettingsError without
        voices, and where neither a calibration nor a threshold says how alike is alike enough.
        """
        if not voices:
            raise SettingsError("no voices to compare with; enroll some first.")
        if threshold is None and backend.calibration is None:
            raise SettingsError(
                f"{model.name}: has no calibration, so nothing says how alike two recordings of "
                "one voice are; give --threshold COSINE, or --backend FILE of a recipe."
            )
        self.model, self.backend = model, backend
        self.names = [voice.name for voice in voices]
        self.cosine = threshold is not None
        self._enrolled = backend.describe(_joined(voices))
        if threshold is None:
            threshold = backend.threshold(false_accepts / len(voices))
        self.threshold = threshold

    def scores(self, voices: Voices) -> NDArray[np.float64]:
        """Return how alike each of M recordings is to each voice, (M, V)."""
        tested = self.backend.describe(voices)
        shape = (len(self.names), len(voices.speech_s))
        pairs = np.indices(shape).reshape(2, -1).T
        score = self.backend.cosine if self.cosine else self.backend.log_likelihood_ratio
        return score(self._enrolled, tested, pairs).reshape(shape).T

    def identify(self, voices: Voices) -> list[Identity]:
        """Say of each recording whose voice it is, whatever the others are."""
        scores = self.scores(voices)
        nearest = scores.argmax(axis=1)
        return [
            Identity(
                self.names[best] if row[best] >= self.threshold else None,
                self.names[best],
                float(row[best]),
                self.threshold,
            )
            for row, best in zip(scores, nearest.tolist(), strict=True)
        ]

    def assign(self, voices: Voices) -> list[str | None]:
        """Say of M different people who each of them is: nobody is two of them.

        Of all ways to give names to those that are alike enough, this is the one with the highest
        scores together.
        """
        gains = (self.scores(voices) - self.threshold).clip(min=0.0)
        found: list[str | None] = [None] * len(gains)
        for row, column in zip(*linear_sum_assignment(gains, maximize=True), strict=True):
            if gains[row, column] > 0:
                found[row] = self.names[column]
        return found


def load_identifier(
    model: str = "tiny",
    register: str | Path | None = None,
    backend: str | Path | None = None,
    false_accepts: float = 0.01,
    threshold: float | None = None,
    device: str = "auto",
) -> Identifier:
    """Load a model and the voices that it has heard; parameters and errors as `identify`."""
    if not 0.0 < false_accepts < 1.0:
        raise SettingsError(
            f"a false-accept rate of {false_accepts:g} is none; give one between 0 and 1, such as "
            "0.01."
        )
    with Register(register) as opened:
        everybody = opened.voices()
        if not everybody:
            raise SettingsError(
                f"{opened.path}: no voices yet; add some with 'wavlm-meeting enroll NAME FILE'."
            )
        loaded, scoring = load_scoring(model, backend, device)
        voices = opened.voices(loaded.sha256)
        if not voices:
            heard = {take.model for voice in everybody for take in voice.takes}
            others = ", ".join(sorted(f"{each.name} ({each.sha256[:12]})" for each in heard))
            raise SettingsError(
                f"{opened.path}: its voices were enrolled with {others}, not with {loaded.name} "
                f"({loaded.sha256[:12]}), and scores of different models do not compare; name that "
                "model with --model, or enroll again with this one."
            )
    return Identifier(loaded, scoring, voices, false_accepts, threshold)


def identify(
    files: Sequence[str | Path],
    model: str = "tiny",
    register: str | Path | None = None,
    backend: str | Path | None = None,
    false_accepts: float = 0.01,
    threshold: float | None = None,
    device: str = "auto",
    channel: int | None = None,
    *,
    failed: Failed | None = None,
    progress: Progress | None = None,
) -> list[Identity]:
    """Say of each recording whose voice of the register it holds, if anybody's.

    Args:
        files: Recordings of one person each.
        model: Name of an embedded model, a folder, or an id on the Hugging Face hub.
        register: The register of voices; None is the user's own.
        backend: File with the calibration; None takes the one that lies beside the model, if any.
        false_accepts: How often a stranger may be taken for anybody in the register.
        threshold: Cosine from which on two voices are one, in place of a calibrated score.
        device: auto, cpu or cuda.
        channel: Channel of the files to listen to, from 1 on; None mixes all of them.
        failed: As for `embed_recordings`.
        progress: As for `embed_recordings`.

    Raises:
        AudioError: A recording cannot be read, is silent or has less than 0.5 s of speech.
        CheckpointError: The model or the backend cannot be loaded, or do not belong together.
        DeviceError: The device is not there.
        FormatError: The register is damaged, or none.
        SettingsError: There is no register, no voice of this model in it, or no calibration.
    """
    identifier = load_identifier(model, register, backend, false_accepts, threshold, device)
    voices = embed_recordings(identifier.model, files, channel, failed=failed, progress=progress)
    return identifier.identify(voices)


def _joined(voices: Sequence[Voice]) -> Voices:
    """Make one embedding of each voice's takes: their mean direction, and their mean length."""
    embeddings, speech_s = [], []
    for voice in voices:
        units, norms = unit_length(np.stack([take.embedding for take in voice.takes]))
        mean, _ = unit_length(units.mean(axis=0, keepdims=True))
        embeddings.append(mean[0] * np.float32(norms.mean()))
        speech_s.append(sum(take.speech_s for take in voice.takes))
    return Voices(np.stack(embeddings), np.array(speech_s))
