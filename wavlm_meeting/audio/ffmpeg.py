"""Decoding with FFmpeg's libraries (PyAV): M4A, MP3, AMR, WMA and the sound of videos."""

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.audio.decoder import DecodingStopped, NotDecodable
from wavlm_meeting.audio.headers import mp3_states_length
from wavlm_meeting.errors import AudioError

_TRUSTED = {"mov,mp4,m4a,3gp,3g2,mj2", "matroska,webm"}
"""Formats whose duration FFmpeg reads from the header; elsewhere it extrapolates the bit rate."""

_SHORTFALL_S = 0.3
"""Lossy codecs pad or drop up to some frames at the ends; less than this is no cut."""

_OPTIONS = {"protocol_whitelist": "none"}
"""A playlist inside the file must not lead to other files or to the network."""


class FFmpegDecoder:
    """A recording opened with FFmpeg's libraries; see `Decoder`."""

    def __init__(self, path: Path) -> None:
        """Open `path`; raises NotDecodable, or AudioError for a picture or a silent film."""
        # An open file and not its name, which FFmpeg may take for a protocol ("concat:x").
        self._file = path.open("rb")
        try:
            self._container = av.open(
                self._file, mode="r", options=_OPTIONS, metadata_errors="replace"
            )
        except (av.FFmpegError, OSError, ValueError):
            self._file.close()
            raise NotDecodable from None
        try:
            self._stream = _audio_stream(self._container, path)
        except Exception:
            self.close()
            raise
        self.rate: int = self._stream.rate
        self.channels: int = self._stream.channels
        duration = self._container.duration
        self.duration_s = duration / av.time_base if duration else None
        self.container = self.subtype = ""
        name = self._container.format.name
        self._trusted = name in _TRUSTED or (name == "mp3" and mp3_states_length(path))

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """Yield (frames, channels), full scale at 1; raises DecodingStopped where it breaks."""
        end_s = 0.0
        begun = False
        packets = self._container.demux()
        while True:
            try:
                packet = next(packets, None)
                if packet is None:
                    break
                # Packets of all streams count: a picture may go on after the sound has ended.
                if packet.pts is not None:
                    ticks = packet.pts + (packet.duration or 0)
                    end_s = max(end_s, float(ticks * packet.time_base))
                if packet.stream_index != self._stream.index:
                    continue
                frames = packet.decode()
            except (av.FFmpegError, OSError):
                if begun:
                    raise DecodingStopped from None
                continue  # junk before the first sound
            for frame in frames:
                begun = True
                yield self._samples(frame)
        if self._trusted and self.duration_s and end_s < self.duration_s - _SHORTFALL_S:
            raise DecodingStopped

    def close(self) -> None:
        """Let go of the file."""
        self._container.close()
        self._file.close()

    def _samples(self, frame: object) -> NDArray[np.float32]:
        """Turn a decoded frame into (frames, channels) float32."""
        if not isinstance(frame, av.AudioFrame) or (
            (frame.sample_rate, frame.layout.nb_channels) != (self.rate, self.channels)
        ):
            raise DecodingStopped  # such a change within a recording is damage, or a second one
        samples = frame.to_ndarray()
        samples = samples.T if frame.format.is_planar else samples.reshape(-1, self.channels)
        if samples.dtype == np.uint8:
            return (samples.astype(np.float32) - 128.0) / 128.0
        if samples.dtype.kind == "i":
            full_scale = 2.0 ** (8 * samples.dtype.itemsize - 1)
            return (samples / full_scale).astype(np.float32)
        return samples.astype(np.float32, copy=False)


def _audio_stream(container: av.container.InputContainer, path: Path) -> av.AudioStream:
    """Return the main audio stream; raises NotDecodable or, for a picture, AudioError."""
    stream = container.streams.best("audio")
    if isinstance(stream, av.AudioStream) and stream.rate and stream.channels:
        return stream
    if stream is None and container.streams.video:
        raise AudioError(f"{path}: {_without_sound(container.format.name)}")
    raise NotDecodable


def _without_sound(container: str) -> str:
    """Say what a file without an audio stream is, by the name of its container."""
    if container.endswith("_pipe") or container in {"image2", "gif", "apng", "ico"}:
        return "a picture, not a recording; give an audio or video file."
    return "the video has no audio stream; give a recording with sound."
