"""Whether two recordings hold one voice: of a pair, or of a list of them.

K trials.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.checkpoints.catalog import resolve
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.formats.trials import Scores, Trials
from wavlm_meeting.verification.backend import (
    Backend,
    BackendSettings,
    Described,
    backend_of,
    load_backend,
    probability,
    raw_scores,
)
from wavlm_meeting.verification.load import load_speaker_model
from wavlm_meeting.verification.model import SpeakerModel
from wavlm_meeting.verification.recordings import Progress, embed_recordings


@dataclass(frozen=True)
class Verification:
    """How alike the voices of two recordings are."""

    cosine: float
    """Of the two embeddings: 1 where they are the same."""
    llr: float | None
    """How many times likelier these recordings are of one speaker than of two, as a natural
    logarithm; None without a calibration, as what follows."""
    probability: float | None
    """Of one speaker, given the prior."""
    same_speaker: bool | None
    """Whether one speaker is more probable than two."""


def verify(
    first: str | Path,
    second: str | Path,
    model: str = "tiny",
    backend: str | Path | None = None,
    prior: float = 0.5,
    device: str = "auto",
    channel: int | None = None,
) -> Verification:
    """Say whether two recordings are of one speaker.

    Args:
        first: A file that soundfile or PyAV reads.
        second: Another one.
        model: Name of an embedded model, a folder, or an id on the Hugging Face hub.
        backend: File with the calibration; None takes the one that lies beside the model, if any.
        prior: How probable one speaker was before listening.
        device: auto, cpu or cuda.
        channel: Channel of the files to listen to, from 1 on; None mixes all of them.

    Raises:
        AudioError: A recording cannot be read, is silent or has less than 0.5 s of speech.
        CheckpointError: The model or the backend cannot be loaded, or do not belong together.
        DeviceError: The device is not there.
        SettingsError: The prior is not between 0 and 1.
    """
    if not 0.0 < prior < 1.0:
        raise SettingsError(f"a prior of {prior:g} is none; give one between 0 and 1, such as 0.5.")
    loaded, scoring = load_scoring(model, backend, device)
    both = scoring.describe(embed_recordings(loaded, [first, second], channel))
    pair = np.array([[0, 1]])
    cosine = float(scoring.cosine(both, both, pair)[0])
    if scoring.calibration is None:
        return Verification(cosine, None, None, None)
    llr = float(scoring.log_likelihood_ratio(both, both, pair)[0])
    found = probability(llr, prior)
    return Verification(cosine, llr, found, found > 0.5)


def score_trials(
    trials: Trials,
    root: str | Path,
    model: str = "tiny",
    backend: str | Path | None = None,
    device: str = "auto",
    channel: int | None = None,
    progress: Progress | None = None,
) -> Scores:
    """Score a list of trials whose names are paths below `root`, embedding each file once.

    Scores are log-likelihood ratios with a calibration, else s-norm with a cohort, else cosines.
    Too little speech is a warning here, since a list is scored whole. Other parameters and errors
    are those of `verify`.
    """
    loaded, scoring = load_scoring(model, backend, device)
    files = [Path(root) / name for name in trials.names]
    voices = scoring.describe(
        embed_recordings(loaded, files, channel, enough=False, progress=progress)
    )
    return Scores(best_scores(scoring, voices, voices, trials.pairs), trials.pairs, trials.names)


def load_scoring(
    model: str, backend: str | Path | None = None, device: str = "auto"
) -> tuple[SpeakerModel, Backend]:
    """Load a model and how its embeddings are scored; parameters and errors as `verify`."""
    path = backend_of(resolve(model)) if backend is None else backend
    loaded = load_speaker_model(model, device)
    if path is None:
        return loaded, Backend(loaded.sha256, BackendSettings().top)
    return loaded, load_backend(path, loaded.sha256)


def best_scores(
    backend: Backend, enrol: Described, test: Described, pairs: NDArray[np.integer]
) -> NDArray[np.float64]:
    """Return the best score that a backend has for pairs (K, 2), (K,)."""
    if backend.calibration is not None:
        return backend.log_likelihood_ratio(enrol, test, pairs)
    return raw_scores(backend, enrol, test, pairs)
