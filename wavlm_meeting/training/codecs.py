"""Speech through lossy codecs and back, in memory.

N samples.
"""

from collections.abc import Iterator
from typing import Literal, NamedTuple, cast, get_args

import av
import numpy as np
import soxr
from numpy.typing import NDArray

from wavlm_meeting.audio.simulate import Samples, mu_law
from wavlm_meeting.units import SAMPLE_RATE

TELEPHONE_RATE = 8000


class Codec(NamedTuple):
    """What FFmpeg calls a codec's two sides, and the bit rates that speech is sent at."""

    encoder: str
    decoder: str
    bit_rates: tuple[int, ...]
    options: dict[str, str]


VOIP = {"application": "voip", "compression_level": "3"}
"""Of Opus's ten levels of effort the third, which takes two thirds of the last one's time."""
CODECS = {
    "opus": Codec("libopus", "libopus", (8000, 12_000, 16_000, 24_000, 32_000), VOIP),
    "mp3": Codec("libmp3lame", "mp3float", (16_000, 24_000, 32_000, 48_000, 64_000), {}),
    "aac": Codec("aac", "aac", (16_000, 24_000, 32_000, 48_000, 64_000), {}),
    "g722": Codec("adpcm_g722", "g722", (64_000,), {}),
}
"""Codecs that FFmpeg encodes; "g711" is computed here, at its one bit rate."""
CodecName = Literal["g711", "g722", "opus", "mp3", "aac"]
NAMES: tuple[CodecName, ...] = get_args(CodecName)


def bit_rates(name: str) -> tuple[int, ...]:
    """Return the bit rates of a codec."""
    return CODECS[name].bit_rates if name in CODECS else (64_000,)


def through_codec(waveform: Samples, name: str, bit_rate: int) -> Samples:
    """Return what a listener hears of (N,), as many samples; the codec's delay stays in.

    Encoders take 16 bits: what is louder than full scale is lowered first, and raised again.
    """
    peak = max(1.0, float(np.abs(waveform).max(initial=0.0)))
    heard = _g711(waveform / peak) if name == "g711" else _ffmpeg(waveform / peak, name, bit_rate)
    whole = np.zeros(len(waveform), np.float32)
    kept = heard[: len(whole)]
    whole[: len(kept)] = kept
    return whole * np.float32(peak)


def _g711(waveform: Samples) -> Samples:
    narrow = mu_law(soxr.resample(waveform, SAMPLE_RATE, TELEPHONE_RATE))
    wide: Samples = soxr.resample(narrow, TELEPHONE_RATE, SAMPLE_RATE)
    return wide


def _ffmpeg(waveform: Samples, name: str, bit_rate: int) -> Samples:
    codec = CODECS[name]
    encoder = cast("av.AudioCodecContext", av.CodecContext.create(codec.encoder, "w"))
    encoder.sample_rate, encoder.layout, encoder.bit_rate = SAMPLE_RATE, "mono", bit_rate
    encoder.format = (encoder.codec.audio_formats or [av.AudioFormat("flt")])[0]
    encoder.options = codec.options
    encoder.open()
    decoder = cast("av.AudioCodecContext", av.CodecContext.create(codec.decoder, "r"))
    decoder.sample_rate, decoder.layout = SAMPLE_RATE, "mono"
    if encoder.extradata:
        decoder.extradata = encoder.extradata
    parts, rate = [], SAMPLE_RATE
    for packet in _packets(encoder, waveform):
        for frame in decoder.decode(packet):
            parts.append(_samples(frame.to_ndarray()))
            rate = frame.sample_rate
    heard = np.concatenate(parts) if parts else np.zeros(0, np.float32)
    if rate == SAMPLE_RATE:
        return heard
    lower: Samples = soxr.resample(heard, rate, SAMPLE_RATE)
    return lower


def _packets(
    encoder: av.AudioCodecContext, waveform: Samples
) -> Iterator["av.Packet[av.AudioStream] | None"]:
    """Give the encoded packets, and None at the end, which makes a decoder give its last."""
    size = encoder.frame_size or len(waveform)
    frame = av.AudioFrame.from_ndarray(waveform[None], format="flt", layout="mono")
    frame.sample_rate, frame.pts = SAMPLE_RATE, 0
    converter = av.AudioResampler(encoder.format, "mono", SAMPLE_RATE, frame_size=size)
    for part in (*converter.resample(frame), *converter.resample(None)):
        yield from encoder.encode(part)
    yield from encoder.encode(None)
    yield None


def _samples(values: NDArray[np.generic]) -> Samples:
    """Turn a decoded frame into float32, full scale at 1."""
    flat = values.reshape(-1)
    if flat.dtype.kind == "i":
        return flat.astype(np.float32) / np.float32(2.0 ** (8 * flat.dtype.itemsize - 1))
    return flat.astype(np.float32)
