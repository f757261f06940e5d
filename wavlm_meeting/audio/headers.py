"""What the first and last bytes of a file tell: its kind, and whether it was cut off.

libsndfile silently shortens a cut WAV or Ogg file to what is there, and FFmpeg guesses the length
of an MP3 without a length tag, so these few bytes are read here.
"""

import codecs
import os
from pathlib import Path
from typing import Literal

_STREAMED = 0x7FFFF000
"""Sizes from here on stand for "unknown" in headers of 32 bits, written to a pipe."""

_OGG_TAIL = 65_536
"""An Ogg page is at most 65 307 bytes long (RFC 3533), so the last one begins within this tail."""


def is_cut(path: Path) -> bool:
    """Whether a WAV, AIFF or Ogg file ends before it says; False for what has no such word."""
    with path.open("rb") as file:
        head = file.read(36)
    if head[:4] == b"OggS":
        return _ogg_is_cut(path)
    if head[:4] == b"RF64":
        # In RF64 (EBU Tech 3306) a first chunk `ds64` holds the size of the data in 64 bits.
        return _chunk_is_cut(path, b"data", "little", int.from_bytes(head[28:36], "little"))
    if head[:4] == b"RIFF":
        return _chunk_is_cut(path, b"data", "little")
    return head[:4] == b"FORM" and _chunk_is_cut(path, b"SSND", "big")


def is_text(path: Path) -> bool:
    """Whether a file begins like a text in UTF-8, whose last character read may be cut."""
    with path.open("rb") as file:
        head = file.read(1024)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:
        return False
    return b"\0" not in head


def is_mp4(path: Path) -> bool:
    """Whether a file begins like MP4, M4A or MOV."""
    with path.open("rb") as file:
        return file.read(8)[4:] == b"ftyp"


def is_mpeg_audio(path: Path) -> bool:
    """Whether a file is MP3 (or its kin MP1, MP2, AAC in ADTS) by its name or first bytes."""
    with path.open("rb") as file:
        head = file.read(3)
    synchronised = len(head) > 1 and head[0] == 0xFF and head[1] >= 0xE0
    return path.suffix.lower() in {".mp1", ".mp2", ".mp3"} or head == b"ID3" or synchronised


def mp3_states_length(path: Path) -> bool:
    """Whether an MP3 has a Xing, Info or VBRI tag, which holds its number of frames."""
    with path.open("rb") as file:
        tag = file.read(10)
        if tag[:3] == b"ID3" and len(tag) == 10:
            # The size of an ID3v2 tag has seven bits in each of its last four bytes.
            file.seek(10 + sum((byte & 0x7F) << 7 * i for i, byte in enumerate(tag[:5:-1])))
        else:
            file.seek(0)
        frame = file.read(2048)
    return any(name in frame for name in (b"Xing", b"Info", b"VBRI"))


def _chunk_is_cut(
    path: Path, name: bytes, order: Literal["little", "big"], length64: int | None = None
) -> bool:
    """Walk over the chunks to `name` and compare its length with what is left of the file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(12)
        while len(header := file.read(8)) == 8:
            length = int.from_bytes(header[4:], order)
            if header[:4] == name:
                streamed = length >= _STREAMED and length64 is None
                return not streamed and file.tell() + (length64 or length) > size
            file.seek(length + length % 2, os.SEEK_CUR)
    return False


def _ogg_is_cut(path: Path) -> bool:
    """Look for the end-of-stream flag on the last Ogg page, and for that page's last byte."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _OGG_TAIL))
        tail = file.read()
    page = tail[tail.rfind(b"OggS") :]
    if not page.startswith(b"OggS") or len(page) < 27 or len(page) < 27 + page[26]:
        return True
    complete = len(page) >= 27 + page[26] + sum(page[27 : 27 + page[26]])
    return not (complete and page[5] & 0x04)
