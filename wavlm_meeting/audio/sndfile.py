"""Decoding with libsndfile: WAV, FLAC, Ogg Vorbis and Opus, AIFF and many more."""

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from wavlm_meeting.audio.decoder import DecodingStopped, NotDecodable
from wavlm_meeting.audio.headers import is_cut, is_mpeg_audio

_CHUNK, _FLAC_CHUNK = 65_536, 4096
"""Frames in a read. Cut FLAC fails in a read that loses what it had decoded: one FLAC block."""

_UNKNOWN_FRAMES = 2**62
"""libsndfile gives a stream of unknown length the largest number it has."""


class SndfileDecoder:
    """A recording opened with libsndfile; see `Decoder`."""

    def __init__(self, path: Path) -> None:
        """Open `path`; raises NotDecodable."""
        if is_mpeg_audio(path):
            # libsndfile reads MP3 too, but its decoder writes remarks on odd files to stderr.
            raise NotDecodable
        try:
            # As bytes, so that names that are not UTF-8 can be opened.
            self._file = soundfile.SoundFile(os.fsencode(path))
        except (soundfile.SoundFileError, TypeError):  # TypeError: a name that ends in .raw
            raise NotDecodable from None
        if self._file.frames >= _UNKNOWN_FRAMES:
            self._file.close()
            raise NotDecodable  # it would end such a stream with an error, as if it were cut
        self.rate: int = self._file.samplerate
        self.channels: int = self._file.channels
        self.duration_s: float | None = self._file.frames / self.rate
        self.container: str = self._file.format
        self.subtype: str = self._file.subtype
        self._cut = is_cut(path)

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """Yield (frames, channels), full scale at 1; raises DecodingStopped where it breaks."""
        count = 0
        size = _FLAC_CHUNK if self._file.format == "FLAC" else _CHUNK
        while True:
            try:
                chunk = self._file.read(size, dtype="float32", always_2d=True)
            except soundfile.SoundFileError:
                raise DecodingStopped from None
            if not len(chunk):
                break
            count += len(chunk)
            yield chunk
        if self._cut or count < self._file.frames:
            raise DecodingStopped

    def close(self) -> None:
        """Let go of the file."""
        self._file.close()
