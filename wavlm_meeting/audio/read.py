"""Any audio or video file to mono float32 at 16 kHz, streamed."""

import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import soxr
from numpy.typing import NDArray

from wavlm_meeting.audio.decoder import Decoder, DecodingStopped, NotDecodable
from wavlm_meeting.audio.ffmpeg import FFmpegDecoder
from wavlm_meeting.audio.headers import is_mp4, is_text
from wavlm_meeting.audio.sndfile import SndfileDecoder
from wavlm_meeting.errors import AudioError, AudioWarning
from wavlm_meeting.units import SAMPLE_RATE

Take = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""What is taken of (frames, channels): (frames,) or all of it."""

MINIMUM_S = 0.1
"""Shorter recordings are refused: they hold no syllable."""


def open_audio(source: str | Path, *, channel: int | None = None) -> "AudioReader":
    """Open a recording for streaming; use it in a `with` statement.

    All channels are averaged unless `channel` (counted from 1) picks one. Raises AudioError, in one
    line that names the cure, for whatever holds no audio that can be read.
    """
    return AudioReader(source, channel=channel)


def read_audio(source: str | Path, *, channel: int | None = None) -> NDArray[np.float32]:
    """Read a whole recording as (samples,) at 16 kHz; parameters and errors as `open_audio`."""
    with open_audio(source, channel=channel) as reader:
        return np.concatenate(list(reader.blocks()))


class AudioReader:
    """An opened recording; made by `open_audio`."""

    def __init__(self, source: str | Path, *, channel: int | None = None) -> None:
        """Open `source`; raises AudioError."""
        self.source = source
        path = _existing_file(source)
        self._decoder = _open_decoder(path)
        self._channel = channel
        self._consumed = False
        self.frames = 0
        """Frames decoded so far, at the recording's own rate: all, once blocks() is done."""
        channels = self._decoder.channels
        if channel is not None and not 1 <= channel <= channels:
            self.close()
            has = "has one channel" if channels == 1 else f"has channels 1 to {channels}"
            raise AudioError(f"{source}: no channel {channel}; the recording {has}.")

    @property
    def duration_s(self) -> float | None:
        """Length in seconds as the header states or suggests it; None where it does not."""
        return self._decoder.duration_s

    @property
    def rate(self) -> int:
        """The recording's own frames per second."""
        return self._decoder.rate

    @property
    def container(self) -> str:
        """Kind of the file as libsndfile names it (WAV, FLAC, ...); empty for any other."""
        return self._decoder.container

    @property
    def subtype(self) -> str:
        """How samples are stored, as libsndfile names it (PCM_16, ...); empty for any other."""
        return self._decoder.subtype

    def blocks(self, block_s: float = 10.0) -> Iterator[NDArray[np.float32]]:
        """Yield the samples once, in blocks of about `block_s` seconds.

        Block sizes do not change the samples, and there are round(frames * 16000 / rate) of them.
        Raises AudioError for a recording that is too short or holds NaN or infinite samples, and
        gives an AudioWarning where a damaged one ends before its header says.
        """
        return self._checked(self._resampled(block_s, 1, self._mixed))

    def channel_blocks(self, block_s: float = 10.0) -> Iterator[NDArray[np.float32]]:
        """Yield all channels (C, n), also where one was picked, as `blocks` does their mean."""
        channels = self._decoder.channels
        for block in self._checked(self._resampled(block_s, channels, np.asarray)):
            yield np.ascontiguousarray(block.T)

    def close(self) -> None:
        """Let go of the file."""
        self._decoder.close()

    def __enter__(self) -> Self:
        """Give the reader itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def _checked(self, blocks: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        """Pass blocks on, once; raises AudioError if they are too short together."""
        if self._consumed:
            raise RuntimeError("blocks() gives the recording once; open it again to read it again.")
        self._consumed = True
        pending: list[NDArray[np.float32]] = []
        samples = 0
        for block in blocks:
            if len(block):
                samples += len(block)
                pending.append(block)
            if samples >= MINIMUM_S * SAMPLE_RATE:
                yield from pending
                pending.clear()
        if samples < MINIMUM_S * SAMPLE_RATE:
            raise AudioError(
                f"{self.source}: only {samples / SAMPLE_RATE:.4f} s of audio; "
                f"give at least {MINIMUM_S} s."
            )

    def _resampled(
        self, block_s: float, channels: int, take: Take
    ) -> Iterator[NDArray[np.float32]]:
        """Yield blocks at 16 kHz of what is taken; a recording at 16 kHz passes unaltered."""
        rate = self._decoder.rate
        if rate == SAMPLE_RATE:
            yield from self._taken(block_s, take)
            return
        resampler = soxr.ResampleStream(rate, SAMPLE_RATE, channels, dtype="float32", quality="HQ")
        block = np.zeros((0, channels), np.float32)
        for block in self._taken(block_s, take):
            yield resampler.resample_chunk(block)
        yield resampler.resample_chunk(np.zeros_like(block[:0]), last=True)

    def _taken(self, block_s: float, take: Take) -> Iterator[NDArray[np.float32]]:
        """Yield finite blocks at the recording's own rate of what is taken of its channels."""
        rate = self._decoder.rate
        gathered = 0
        chunks: list[NDArray[np.float32]] = []
        stopped = False
        try:
            for chunk in self._decoder.chunks():
                chunks.append(chunk)
                gathered += len(chunk)
                if gathered >= block_s * rate:
                    yield self._finite(take(np.concatenate(chunks)))
                    gathered = 0
                    chunks.clear()
        except DecodingStopped:
            stopped = True
        if chunks:
            yield self._finite(take(np.concatenate(chunks)))
        if stopped:
            self._report_break(self.frames / rate)

    def _mixed(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Turn (frames, channels) into (frames,): the picked channel or the mean of all."""
        channels = block.shape[1]
        first = 0 if self._channel is None else self._channel - 1
        mono = block[:, first].copy()
        if self._channel is None and channels > 1:
            # Column by column: faster than mean(axis=1), and the same bits in blocks of any size.
            for column in range(1, channels):
                mono += block[:, column]
            mono /= channels
        return mono

    def _finite(self, block: NDArray[np.float32]) -> NDArray[np.float32]:
        """Count a block (frames,) or (frames, channels); raises AudioError if it is not finite."""
        finite = np.isfinite(block)
        if not finite.all():
            place = np.argwhere(~finite)[0, 0]
            place_s = (self.frames + int(place)) / self._decoder.rate
            raise AudioError(
                f"{self.source}: NaN or infinite samples at {place_s:.3f} s; "
                "export the recording again."
            )
        self.frames += len(block)
        return block

    def _report_break(self, end_s: float) -> None:
        """Warn that the data ends at `end_s`; raises AudioError if next to nothing is left."""
        if end_s < MINIMUM_S:
            raise AudioError(
                f"{self.source}: damaged from the start, nothing can be decoded; copy it again."
            )
        warnings.warn(
            f"{self.source}: the file is damaged or cut off at {end_s:.2f} s; "
            "only what comes before is analysed.",
            AudioWarning,
            stacklevel=2,
        )


def _existing_file(source: str | Path) -> Path:
    """Return the path of a file that is there and not empty; raises AudioError."""
    path = Path(source)
    try:
        if path.is_file():
            if path.stat().st_size == 0:
                raise AudioError(f"{source}: the file is empty (0 bytes); copy it again.")
            return path
        if path.is_dir():
            raise AudioError(f"{source}: a folder, not a recording; name a file in it.")
        exists = path.exists()
    except (OSError, ValueError) as error:  # a name too long, a null byte, a folder without access
        raise AudioError(f"{source!r}: cannot be opened: {error}.") from None
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(source)):
        raise AudioError(f"{source}: a URL; download it first and give the file's path.")
    if exists:
        raise AudioError(f"{source}: not a regular file; save the audio to a file first.")
    raise AudioError(f"{source}: no such file; check the path.")


def _open_decoder(path: Path) -> Decoder:
    """Open a file with libsndfile, or else with FFmpeg; raises AudioError."""
    try:
        return SndfileDecoder(path)
    except NotDecodable:
        pass
    except PermissionError:
        raise AudioError(f"{path}: no permission to read it; change its rights.") from None
    # FFmpeg takes some texts for playlists, and waits for what they name.
    if is_text(path):
        raise AudioError(f"{path}: a text file, not a recording; give an audio or video file.")
    try:
        return FFmpegDecoder(path)
    except NotDecodable:
        pass
    if is_mp4(path):
        raise AudioError(
            f"{path}: cut off before its index ('moov'), so nothing can be decoded; copy it again."
        )
    raise AudioError(
        f"{path}: not audio that libsndfile or FFmpeg can decode; convert it to WAV or FLAC first."
    )
