"""What the two decoders, libsndfile and FFmpeg, have in common."""

from collections.abc import Iterator
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


class NotDecodable(Exception):  # noqa: N818 - not a fault: the next decoder is asked
    """This decoder cannot read the file."""


class DecodingStopped(Exception):  # noqa: N818 - not a fault of ours: what came before counts
    """The data ended before the length that its header promises, or turned to garbage."""


class Decoder(Protocol):
    """An opened recording that hands out its samples once, from the first to the last."""

    rate: int
    channels: int
    duration_s: float | None
    """What the header says, where it says anything."""
    container: str
    """Kind of the file as libsndfile names it (WAV, FLAC, ...); empty for any other."""
    subtype: str
    """How samples are stored, as libsndfile names it (PCM_16, ...); empty for any other."""

    def chunks(self) -> Iterator[NDArray[np.float32]]:
        """Yield (frames, channels), full scale at 1; raises DecodingStopped where it breaks."""

    def close(self) -> None:
        """Let go of the file."""
