"""Audio out: tracks of a recording as files like its own.

J tracks, n samples of a block.
"""

import os
import wave
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
import soundfile
from numpy.typing import NDArray

from wavlm_meeting.audio.read import AudioReader
from wavlm_meeting.errors import AudioError
from wavlm_meeting.files import atomic_write
from wavlm_meeting.units import SAMPLE_RATE

Container = Literal["wav", "flac"]
Samples = NDArray[np.float32]

SUBTYPES: dict[Container, dict[str, str]] = {
    "wav": {
        "PCM_S8": "PCM_U8",
        **{name: name for name in ("PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE")},
    },
    "flac": {
        "PCM_U8": "PCM_S8",
        **{name: name for name in ("PCM_S8", "PCM_16", "PCM_24")},
        **dict.fromkeys(("PCM_32", "FLOAT", "DOUBLE"), "PCM_24"),
    },
}
"""How samples are stored in each container, by how the recording's own are; both names are
libsndfile's. What is not here was compressed with loss, or has 16 bits, and becomes 16 bits."""

LOSSLESS = {"ALAC_20": "PCM_24", "ALAC_24": "PCM_24", "ALAC_32": "PCM_32"}
"""Samples compressed without loss to which no container of ours has the name, and what they are."""

BYTES = {"PCM_S8": 1, "PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8}

WAV_LIMIT = (1 << 32) - (1 << 16)
"""Bytes from which on a WAV file is RF64 (EBU Tech 3306): its own sizes have 32 bits."""

_FULL_SCALE = 1 - 2.0**-15  # the highest sample of 16 bits


@dataclass(frozen=True)
class TrackForm:
    """How a track is written."""

    rate: int
    """Samples per second."""
    container: Container = "wav"
    """Kind of the file, which is its suffix, too."""
    subtype: str = "PCM_16"
    """How a sample is stored, as libsndfile names it."""

    @property
    def is_float(self) -> bool:
        """Whether samples beyond full scale can be stored."""
        return self.subtype in {"FLOAT", "DOUBLE"}

    def gain_for(self, peak: float) -> float:
        """Return the gain with which tracks of this peak are not clipped, 1 if none is needed."""
        return 1.0 if self.is_float or peak <= 1.0 else _FULL_SCALE / peak


def form_of(reader: AudioReader, container: Container | None = None) -> TrackForm:
    """Return the form of tracks that is a recording's own: rate, kind of file, kind of samples.

    What is neither WAV nor FLAC becomes WAV, unless `container` says otherwise; samples that the
    file cannot hold become the nearest that it can, and those compressed with loss 16 bits.
    """
    container = container or ("flac" if reader.container == "FLAC" else "wav")
    own = LOSSLESS.get(reader.subtype, reader.subtype)
    return TrackForm(reader.rate, container, SUBTYPES[container].get(own, "PCM_16"))


def write_tracks(
    paths: Sequence[Path], blocks: Iterable[Samples], form: TrackForm, frames: int, gain: float = 1
) -> None:
    """Write J tracks to as many files, all of them or none.

    `blocks` are (J, n), one after the other, `frames` samples in all; each is multiplied by `gain`.
    Raises AudioError if the files cannot be written whole.
    """
    too_long = form.container == "wav" and frames * BYTES[form.subtype] > WAV_LIMIT
    kind = "RF64" if too_long else form.container.upper()
    with ExitStack() as stack:
        temporaries = [stack.enter_context(atomic_write(path)) for path in paths]
        for temporary in temporaries:
            temporary.touch()  # raises what the system says, where libsndfile says little
        try:
            _write_mono(temporaries, blocks, form, kind, gain)
            for temporary in temporaries:
                _check_whole(temporary, frames)
        except soundfile.SoundFileError as error:
            raise AudioError(
                f"{paths[0].parent}: the tracks cannot be written ({error}); free some space."
            ) from None


def _write_mono(
    paths: Sequence[Path], blocks: Iterable[Samples], form: TrackForm, kind: str, gain: float
) -> None:
    """Write each row of the blocks to one of the files, and close them all."""
    with ExitStack() as stack:
        files = [
            stack.enter_context(
                # As bytes, so that names that are not UTF-8 can be written.
                soundfile.SoundFile(os.fsencode(path), "w", form.rate, 1, form.subtype, format=kind)
            )
            for path in paths
        ]
        for block in blocks:
            for file, track in zip(files, gain * block, strict=True):
                file.write(track)


def _check_whole(path: Path, frames: int) -> None:
    """Read the last sample: FLAC writes its end as it is closed, and tells no failure of that."""
    with soundfile.SoundFile(os.fsencode(path)) as file:
        file.seek(max(0, frames - 1))
        if len(file.read(1)) < min(1, frames):
            raise soundfile.SoundFileError(f"{frames} samples were written, fewer are there")


class GrowingTracks:
    """Tracks that anybody may read while they are written: WAV of 16 bits at 16 kHz.

    Their headers are right after each block. Use them in a `with` statement.
    """

    def __init__(self, paths: Sequence[Path]) -> None:
        """Begin the files; older ones are replaced."""
        self.clipped = 0
        """Samples beyond full scale, which have been cut off there."""
        with ExitStack() as stack:
            self._files = [_begun(path, stack) for path in paths]
            self._stack = stack.pop_all()  # closed at once only where one cannot be begun

    def append(self, block: Samples) -> None:
        """Write the next samples (J, n)."""
        self.clipped += int((np.abs(block) > 1.0).sum())
        steps = np.clip(np.rint(block * 32768.0), -32768, 32767).astype("<i2")
        for file, track in zip(self._files, steps, strict=True):
            file.writeframes(track.tobytes())

    def __enter__(self) -> Self:
        """Give the tracks themselves."""
        return self

    def __exit__(self, *_error: object) -> None:
        """Close the files, which stay."""
        self._stack.close()


def _begun(path: Path, stack: ExitStack) -> wave.Wave_write:
    """Begin a file that the stack closes, with a header that says that it is empty."""
    raw = stack.enter_context(path.open("wb", buffering=0))
    file = stack.enter_context(wave.Wave_write(raw))
    file.setparams((1, 2, SAMPLE_RATE, 0, "NONE", ""))
    file.writeframes(b"")
    return file
