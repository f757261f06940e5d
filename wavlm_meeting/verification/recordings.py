"""Embeddings of many recordings, batched by length.

M recordings, B batch, N samples, D embedding size.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from wavlm_meeting.audio.read import open_audio, read_audio
from wavlm_meeting.errors import WavLMMeetingError
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.verification.backend import Voices
from wavlm_meeting.verification.model import LONGEST_S, SpeakerModel
from wavlm_meeting.verification.speech import check_speech

BATCH_S = 60.0
"""Seconds of audio that are embedded at once, with padding."""

Progress = Callable[[float, float | None], None]
"""Called with the seconds of audio done and those in all."""
Failed = Callable[[int, Exception], None]
"""Called with the place of a file in the list, and why it has no embedding."""


def embed_recordings(
    model: SpeakerModel,
    files: Sequence[str | Path],
    channel: int | None = None,
    *,
    enough: bool = True,
    failed: Failed | None = None,
    progress: Progress | None = None,
) -> Voices:
    """Embed recordings; each is read once, and memory holds one batch of them.

    Args:
        model: What embeds.
        files: The recordings.
        channel: Channel to listen to, from 1 on; None mixes all of them.
        enough: Whether silence and less than half a second of speech are errors; else they are
            warnings.
        failed: Called for each file that cannot be embedded; the result lacks it. None raises the
            first error.
        progress: Called with the seconds done and the seconds in all.

    Raises:
        AudioError: A recording cannot be read or holds too little speech, and `failed` is None.
    """
    reader = _Reader(files, channel, enough, failed)
    embeddings = np.zeros((len(files), model.size), np.float32)
    seconds, done_s = reader.seconds(), 0.0
    for batch in batches(seconds):
        read = reader.read(batch)
        if read:
            embeddings[list(read)] = embed_batch(model, list(read.values()))
        done_s += float(seconds[batch].sum())
        if progress is not None:
            progress(done_s, float(seconds.sum()))
    kept = [index for index in range(len(files)) if index not in reader.lost]
    return Voices(embeddings[kept], reader.speech_s[kept])


class _Reader:
    """Reads files by their places, and keeps count of those that are lost."""

    def __init__(
        self,
        files: Sequence[str | Path],
        channel: int | None,
        enough: bool,
        failed: Failed | None,
    ) -> None:
        self.files, self.channel, self.enough, self.failed = files, channel, enough, failed
        self.speech_s = np.zeros(len(files))
        self.lost: set[int] = set()

    def seconds(self) -> NDArray[np.float64]:
        """Return how long each file is (M,), as its header says."""
        found = np.zeros(len(self.files))
        for index, file in enumerate(self.files):
            with self._guarded(index), open_audio(file, channel=self.channel) as reader:
                # Of unknown length: taken for long, so that it is in a batch of its own.
                found[index] = BATCH_S if reader.duration_s is None else reader.duration_s
        return found

    def read(self, batch: Sequence[int]) -> dict[int, NDArray[np.float32]]:
        """Return the samples (N,) of each place, and note how much speech they hold."""
        found = {}
        for index in batch:
            if index in self.lost:
                continue
            file = self.files[index]
            with self._guarded(index):
                samples = read_audio(file, channel=self.channel)
                speech = check_speech(samples, str(file), enough=self.enough)
                self.speech_s[index] = speech.seconds
                found[index] = samples
        return found

    @contextmanager
    def _guarded(self, index: int) -> Iterator[None]:
        """Pass errors on to whom it concerns, or raise them where it is nobody."""
        try:
            yield
        except (WavLMMeetingError, OSError) as error:
            if self.failed is None:
                raise
            self.lost.add(index)
            self.failed(index, error)


def batches(seconds: Sequence[float] | NDArray[np.float64]) -> Iterator[list[int]]:
    """Give all numbers, the shortest first, so that a padded batch holds BATCH_S at most."""
    batch: list[int] = []
    for index in np.argsort(seconds, kind="stable").tolist():
        if batch and (len(batch) + 1) * seconds[index] > BATCH_S:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def embed_batch(
    model: SpeakerModel, waveforms: Sequence[NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Embed recordings (N,) of any lengths in one pass, (B, D), each as it would be alone."""
    lengths = torch.tensor([len(waveform) for waveform in waveforms])
    if len(waveforms) == 1 or lengths.max() > LONGEST_S * SAMPLE_RATE:
        return torch.stack([model.embed(waveform) for waveform in waveforms]).numpy()
    padded = torch.zeros(len(waveforms), int(lengths.max()))
    for row, waveform in zip(padded, waveforms, strict=True):
        row[: len(waveform)] = torch.from_numpy(waveform)
    device = next(model.parameters()).device
    found: NDArray[np.float32] = model(padded.to(device), lengths.to(device)).float().cpu().numpy()
    return found
