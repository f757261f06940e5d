"""Audio for pyannote.audio's models from our reader, where its own decoder may not load.

A bridge: needs the extra `pyannote`.
"""

from collections.abc import Mapping
from typing import Any

import soundfile
import torch
from pyannote.audio import Audio
from pyannote.core import Segment
from torch import Tensor
from torch.nn import functional as F

from wavlm_meeting.audio.read import read_audio
from wavlm_meeting.units import SAMPLE_RATE


class MeetingAudio(Audio):
    """pyannote.audio's access to recordings, mono at 16 kHz, without torchcodec.

    Pieces of what libsndfile reads are read alone; of anything else the whole recording is read.
    """

    def __init__(self) -> None:
        super().__init__(sample_rate=SAMPLE_RATE, mono="downmix")

    def __call__(self, file: Any) -> tuple[Tensor, int]:
        """Return a recording (1, N) and its rate; raises AudioError if it cannot be read."""
        return self.downmix_and_resample(*self._whole(self.validate_file(file)))

    def get_duration(self, file: Any) -> float:
        """Return the length of a recording in seconds."""
        samples, rate, _ = self._whole(self.validate_file(file))
        return samples.shape[1] / rate

    def crop(self, file: Any, segment: Segment, mode: str = "raise") -> tuple[Tensor, int]:
        """Return a piece (1, N) of a recording and its rate.

        What lies outside of the recording is zero if `mode` is "pad", else it raises ValueError.
        """
        file = self.validate_file(file)
        if "waveform" not in file:
            try:
                return self._piece(file, segment, mode)
            except soundfile.LibsndfileError:
                samples, rate, _ = self._whole(file)
                file = {"waveform": samples, "sample_rate": rate, "uri": file["uri"]}
        piece: tuple[Tensor, int] = super().crop(file, segment, mode=mode)
        return piece

    def _whole(self, file: Mapping[str, Any]) -> tuple[Tensor, int, int | None]:
        """Return samples (channels, N), their rate and the channel to take, counted from 0."""
        channel = file.get("channel")
        if "waveform" in file:
            return file["waveform"], file["sample_rate"], channel
        samples = read_audio(file["audio"], channel=None if channel is None else channel + 1)
        return torch.from_numpy(samples)[None], SAMPLE_RATE, None

    def _piece(self, file: Mapping[str, Any], segment: Segment, mode: str) -> tuple[Tensor, int]:
        with soundfile.SoundFile(file["audio"]) as opened:
            rate, frames = opened.samplerate, opened.frames
            # In whole samples: the ends of a segment may be float32.
            start = self.get_num_samples(float(segment.start), rate)
            end = start + self.get_num_samples(float(segment.duration), rate)
            if mode == "raise" and not 0 <= start <= end <= frames:
                raise ValueError(
                    f"the piece from {segment.start:.3f} to {segment.end:.3f} s is not within "
                    f"{file['uri']} ({frames / rate:.3f} s)."
                )
            first, last = min(max(start, 0), frames), min(max(end, 0), frames)
            opened.seek(first)
            samples = opened.read(last - first, dtype="float32", always_2d=True)
        padded = F.pad(torch.from_numpy(samples.T.copy()), (first - start, end - last))
        return self.downmix_and_resample(padded, rate, channel=file.get("channel"))
