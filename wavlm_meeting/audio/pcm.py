"""Samples without a file around them: the bytes of a WAV or raw stream that cannot be sought in."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from wavlm_meeting.errors import AudioError

Kind = Literal["int", "float"]

KINDS: dict[int, Kind] = {1: "int", 3: "float"}
"""Kinds of samples by the format tag of a WAV header."""
EXTENSIBLE = 0xFFFE
"""Format tag of a header that has the tag further behind."""
UNKNOWN = 0x7FFFF000
"""Sizes from here on stand for "unknown" in headers of 32 bits, written to a pipe."""
READ_BYTES = 1 << 15
"""Most bytes that are taken at once: a second of 16 bits at 16 kHz."""


class Readable(Protocol):
    """A stream of bytes that gives what is there, such as `sys.stdin.buffer`."""

    def read1(self, size: int = ..., /) -> bytes:
        """Wait for any bytes and return up to `size` of them; none at the end."""


@dataclass(frozen=True)
class PcmFormat:
    """How samples are written, little end first."""

    kind: Kind
    """Integers, unsigned if of 8 bits, or floats."""
    bits: int
    """Of a sample: 8, 16, 24 or 32 of an integer, 32 or 64 of a float."""
    rate: int
    """Samples per second and channel."""
    channels: int
    """Channels, whose samples take turns."""


def read_wav_header(stream: Readable) -> tuple[PcmFormat, int | None]:
    """Read on from behind `RIFF` to the samples; return their format and bytes, None if unknown.

    Source: Microsoft and IBM, "Multimedia Programming Interface and Data Specifications 1.0" (1991)
    for the chunks, and Microsoft's WAVEFORMATEXTENSIBLE. Raises AudioError.
    """
    form = None
    if read_exactly(stream, 8)[4:] == b"WAVE":
        while len(head := read_exactly(stream, 8)) == 8:
            size = int.from_bytes(head[4:], "little")
            if head[:4] == b"data" and form is not None:
                return form, size if 0 < size < UNKNOWN else None
            chunk = read_exactly(stream, size + size % 2)
            if head[:4] == b"fmt ":
                form = _format(chunk)
    raise AudioError(
        "standard input: a WAV header that is broken; put 'ffmpeg -i - -f wav -' before it."
    )


def samples_of(
    stream: Readable, form: PcmFormat, size: int | None = None, head: bytes = b""
) -> Iterator[NDArray[np.float32]]:
    """Give samples (n, channels) from -1 to 1 as they come; a frame cut off at the end is left out.

    `head` are bytes that have been read already. At most `size` bytes are read, None is all.
    """
    frame = form.bits // 8 * form.channels
    held = head
    left = size
    while left is None or left > 0:
        more = stream.read1(READ_BYTES if left is None else min(READ_BYTES, left))
        if not more:
            break
        left = None if left is None else left - len(more)
        held += more
        whole = len(held) - len(held) % frame
        if whole:
            yield _decoded(held[:whole], form).reshape(-1, form.channels)
            held = held[whole:]


def read_exactly(stream: Readable, size: int) -> bytes:
    """Return the next `size` bytes, fewer only at the end."""
    read = b""
    while len(read) < size and (more := stream.read1(size - len(read))):
        read += more
    return read


def _format(chunk: bytes) -> PcmFormat:
    """Read the chunk `fmt `; raises AudioError for samples that are not stored plainly."""
    tag, channels = (int.from_bytes(chunk[at : at + 2], "little") for at in (0, 2))
    rate, bits = int.from_bytes(chunk[4:8], "little"), int.from_bytes(chunk[14:16], "little")
    if tag == EXTENSIBLE:
        tag = int.from_bytes(chunk[24:26], "little")
    kind = KINDS.get(tag)
    plain = {"int": (8, 16, 24, 32), "float": (32, 64)}
    if kind is None or bits not in plain[kind] or not channels or not rate:
        raise AudioError(
            f"standard input: WAV of {bits} bits with format {tag}, which is not plain samples; "
            "put 'ffmpeg -i - -f wav -' before it."
        )
    return PcmFormat(kind, bits, rate, channels)


def _decoded(data: bytes, form: PcmFormat) -> NDArray[np.float32]:
    """Return the samples of whole frames as floats."""
    if form.kind == "float":
        return np.frombuffer(data, f"<f{form.bits // 8}").astype(np.float32)
    if form.bits == 8:
        return (np.frombuffer(data, np.uint8).astype(np.float32) - 128.0) / 128.0
    if form.bits == 24:  # to the upper bytes of 32 bits
        wide = np.zeros((len(data) // 3, 4), np.uint8)
        wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
        return (wide.view("<i4")[:, 0] / 2.0**31).astype(np.float32)
    return (np.frombuffer(data, f"<i{form.bits // 8}") / 2.0 ** (form.bits - 1)).astype(np.float32)
