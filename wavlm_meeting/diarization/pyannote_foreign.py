"""Pipelines of pyannote.audio behind our call: what `diarize --model pyannote/...` runs.

A bridge: needs the extra `pyannote`. Files of pyannote pipelines are pickles, and pyannote.audio
runs what is in them: name only those that you trust.

C chunks, T frames of a chunk, S local speakers, F frames of the recording, K speakers.
"""

import contextlib
import io
import re
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from numpy.typing import NDArray
from pyannote.audio import Pipeline
from pyannote.core import Annotation, SlidingWindowFeature

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.diarization.matching import decided_frames, whose
from wavlm_meeting.diarization.pipeline import Progress, Source, mono_samples, speaker_bounds
from wavlm_meeting.diarization.result import Diarization, Turn
from wavlm_meeting.errors import (
    AudioWarning,
    CheckpointError,
    SettingsError,
    SpeakerCountWarning,
)
from wavlm_meeting.units import SAMPLE_RATE

UNSAID = 1.0
"""Confidence of the turns of a pipeline that shows nothing of how it came to them."""
STEPS = ("segmentation", "embeddings")
"""The steps of a pyannote pipeline that take time, in order."""


class PyannotePipeline:
    """A pipeline of pyannote.audio that is called as a `DiarizationPipeline` is.

    The confidence of a turn is the share of the votes for its speaker: every chunk that a frame
    lies in has one. It is not calibrated.
    """

    def __init__(self, pipeline: Pipeline, name: str) -> None:
        self.pipeline, self.name = pipeline, name

    def __call__(
        self,
        source: Source,
        *,
        channel: int | None = None,
        num_speakers: int | None = None,
        min_speakers: int | None = None,
        max_speakers: int | None = None,
        clustering: str | None = None,
        exclusive: bool = False,
        min_turn_s: float | None = None,
        min_gap_s: float | None = None,
        faint_db: float | None = None,
        progress: Progress | None = None,
        journal: Path | None = None,  # noqa: ARG002 - it keeps none: it begins each recording anew
    ) -> Diarization:
        """Diarize a recording; parameters and errors are those of `DiarizationPipeline`.

        `clustering` and `faint_db` have to be None: a pipeline of pyannote.audio has its own ways.
        """
        for option, value in (("clustering", clustering), ("faint_db", faint_db)):
            if value is not None:
                raise SettingsError(
                    f"{option}: {self.name} has a method of its own; leave it out, or take a model "
                    "of wavlm-meeting."
                )
        least, most = speaker_bounds(num_speakers, min_speakers, max_speakers)
        uri = Path(source).stem if isinstance(source, str | Path) else "waveform"
        samples = _samples(source, channel)
        duration_s = len(samples) / SAMPLE_RATE
        hook = _Hook(duration_s, progress)
        file = {"waveform": torch.from_numpy(samples)[None], "sample_rate": SAMPLE_RATE, "uri": uri}
        bounds = {"num_speakers": most if least == most else None, "min_speakers": least}
        asked = {**bounds, "max_speakers": most}
        known: dict[str, Any] = {name: each for name, each in asked.items() if each is not None}
        try:
            output = self.pipeline(file, hook=hook, **known)
        except ValueError as error:
            raise SettingsError(f"{self.name}: {' '.join(str(error).split())}") from None
        annotation = getattr(output, "speaker_diarization", output)  # pyannote.audio 4, 3
        annotation = _smooth(annotation, min_turn_s or 0.0, min_gap_s or 0.0)
        found = _diarization_of(annotation, uri, duration_s, self.name)
        if not found.turns:
            warnings.warn(f"{uri}: no speech found.", AudioWarning, stacklevel=2)
        elif len(found.speakers) < least:
            message = f"{uri}: {least} speakers were asked for, {len(found.speakers)} were found."
            warnings.warn(message, SpeakerCountWarning, stacklevel=2)
        if hook.chunks is not None:
            found = with_votes(found, hook.chunks)
        return found.exclusive() if exclusive else found


class _Hook:
    """Listens to a pipeline at work: how far it is, and what its chunks say."""

    def __init__(self, duration_s: float, progress: Progress | None) -> None:
        self.duration_s, self.progress = duration_s, progress
        self.chunks: SlidingWindowFeature | None = None

    def __call__(
        self,
        step: str,
        artifact: object,
        *,
        file: object = None,  # noqa: ARG002 - pyannote.audio passes it by name
        completed: int | None = None,
        total: int | None = None,
    ) -> None:
        """Take what pyannote.audio tells of a step."""
        whole = isinstance(artifact, SlidingWindowFeature) and artifact.data.ndim == len("CTS")
        if step == "segmentation" and whole:
            self.chunks = artifact
        if self.progress is not None and step in STEPS and completed is not None and total:
            share = (STEPS.index(step) + min(1.0, completed / total)) / len(STEPS)
            self.progress(share * self.duration_s, self.duration_s)


def with_votes(found: Diarization, chunks: SlidingWindowFeature) -> Diarization:
    """Give each turn the mean vote for its speaker in its frames; `chunks` holds (C, T, S)."""
    scores = np.nan_to_num(np.asarray(chunks.data, np.float32))
    hop_s = chunks.sliding_window.duration / scores.shape[1]
    frames = int(np.ceil(found.duration_s / hop_s)) + 1
    decided = decided_frames(found, frames, hop_s)
    votes, cast = np.zeros(decided.shape, np.float32), np.zeros(frames, np.float32)
    for number, score in enumerate(scores):
        first = round(chunks.sliding_window[number].start / hop_s)
        within = score[: max(0, frames - first)]
        part = slice(first, first + len(within))
        cast[part] += 1
        speakers = whose(within, decided[part])
        for speaker in np.unique(speakers[speakers >= 0]):
            votes[part, speaker] += within[:, speakers == speaker].max(axis=1)
    place = {name: number for number, name in enumerate(found.speakers)}
    turns = tuple(
        replace(turn, confidence=_share(turn, votes[:, place[turn.speaker]], cast, hop_s))
        for turn in found.turns
    )
    return replace(found, turns=turns)


def _share(
    turn: Turn, votes: NDArray[np.float32], cast: NDArray[np.float32], hop_s: float
) -> float:
    first = round(turn.start / hop_s)
    part = slice(first, max(round(turn.end / hop_s), first + 1))
    share = float(votes[part].sum() / max(float(cast[part].sum()), 1.0))
    return round(min(share, 1.0), 3)


def load_pyannote(model: str | Path, device: torch.device) -> PyannotePipeline:
    """Load a pipeline of pyannote.audio.

    Args:
        model: Its id on the Hugging Face hub, a folder with its `config.yaml`, or that file.
        device: Where to compute.

    Raises:
        CheckpointError: It is not found, damaged, or not open to this user.
    """
    name = str(model)
    with _one_line(name):
        pipeline = Pipeline.from_pretrained(model)
        if pipeline is None:
            raise CheckpointError(f"{name}: no pipeline of pyannote.audio.")
        pipeline.to(device)
    return PyannotePipeline(pipeline, name)


@contextlib.contextmanager
def _one_line(name: str) -> Iterator[None]:
    """Turn what pyannote.audio prints and raises into one line that says what to do."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name}: the owner of {_repository(error, name)} asks for consent: give it on "
            f"https://hf.co/{_repository(error, name)}, then 'hf auth login'."
        ) from None
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name}: {_repository(error, name)} is not on the Hugging Face hub, or private: check "
            "the name, or 'hf auth login'."
        ) from None
    except (HfHubHTTPError, LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        raise CheckpointError(
            f"{name}: not in the local cache, and the hub cannot be reached "
            f"({type(error).__name__}); check the connection, or fetch it before going offline."
        ) from None
    except Exception as error:  # noqa: BLE001 - a pipeline's configuration can name any class
        text = " ".join(str(error).split())
        raise CheckpointError(
            f"{name}: not a pipeline that pyannote.audio can load ({type(error).__name__}: {text})."
        ) from None


def _repository(error: HfHubHTTPError, name: str) -> str:
    """Return whose model an error of the hub is about: pipelines are made of several."""
    found = re.search(r"https?://[^/\s]+/(?:api/models/)?([\w.-]+/[\w.-]+)", str(error))
    return found[1] if found else name


def _samples(source: Source, channel: int | None) -> NDArray[np.float32]:
    if isinstance(source, str | Path):
        return read_audio(source, channel=channel)
    if channel is not None:
        raise SettingsError("channel picks one of a file's channels: pass mono samples alone.")
    return mono_samples(source)


def _smooth(annotation: Annotation, min_turn_s: float, min_gap_s: float) -> Annotation:
    """Close each speaker's pauses shorter than `min_gap_s`, then drop short turns."""
    closed = annotation.support(collar=min_gap_s) if min_gap_s else annotation
    kept = Annotation(uri=annotation.uri)
    for segment, track, label in closed.itertracks(yield_label=True):
        if segment.duration >= min_turn_s:
            kept[segment, track] = label
    return kept


def _diarization_of(annotation: Annotation, uri: str, duration_s: float, name: str) -> Diarization:
    """Turn an annotation into a result whose speakers are named by their first turn."""
    tracks = sorted(
        (max(0.0, segment.start), min(segment.end, duration_s), str(label))
        for segment, _, label in annotation.itertracks(yield_label=True)
    )
    tracks = [track for track in tracks if track[1] > track[0]]
    order = list(dict.fromkeys(label for _, _, label in tracks))
    names = {label: f"SPEAKER_{number:02d}" for number, label in enumerate(order)}
    overlaps = [
        (round(max(0.0, segment.start), 3), round(min(segment.end, duration_s), 3))
        for segment in annotation.get_overlap()
        if segment.start < duration_s
    ]
    turns = (
        Turn(round(s, 3), round(e, 3), names[label], UNSAID, _covered(s, e, overlaps))
        for s, e, label in tracks
    )
    return Diarization(uri, duration_s, tuple(turns), tuple(overlaps), name, "")


def _covered(start: float, end: float, stretches: Sequence[tuple[float, float]]) -> float:
    """Return the share of a turn that lies in stretches."""
    shared = sum(max(0.0, min(end, last) - max(start, first)) for first, last in stretches)
    return round(min(shared / (end - start), 1.0), 3)
