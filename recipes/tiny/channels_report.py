"""How well conversations are diarized that are heard through other channels."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from pyannote.core import Annotation, Segment
from scipy.signal import resample_poly

from wavlm_meeting.diarization.pipeline import DiarizationPipeline
from wavlm_meeting.recipes.tiny.evaluate import Recording, score_found
from wavlm_meeting.training.codecs import through_codec
from wavlm_meeting.units import SAMPLE_RATE

FLAT_HZ = 100.0
"""Below it the tilted equaliser does not rise any more."""
FAINT_S, FAINTER_DB = 12, 35
"""How much is heard of the talk before a meeting, and how far below it."""


def codec(name: str, bit_rate: int) -> Callable[[Recording], Recording]:
    """Return the channel that is a codec."""
    return lambda recording: _heard(recording, through_codec(recording.waveform, name, bit_rate))


def quieter(recording: Recording) -> Recording:
    """Return a recording 20 dB lower, in 16 bits as a file keeps it."""
    steps = np.round(recording.waveform * np.float32(0.1 * 32768))
    return _heard(recording, steps.clip(-32768, 32767) / np.float32(32768))


def tilted(recording: Recording) -> Recording:
    """Return a recording whose spectrum falls by 6 dB in each octave more than it did."""
    waveform = recording.waveform
    spectrum = np.fft.rfft(waveform)
    frequency = np.fft.rfftfreq(len(waveform), 1 / SAMPLE_RATE)
    heard = np.fft.irfft(spectrum * FLAT_HZ / np.maximum(frequency, FLAT_HZ), len(waveform))
    return _heard(recording, heard)


def at_speed(up: int, down: int) -> Callable[[Recording], Recording]:
    """Return the channel that plays `up` samples for `down`, its pitch and reference moved along.

    Its speed is `down / up`.
    """

    def changed(recording: Recording) -> Recording:
        reference = Annotation(uri=recording.reference.uri)
        for turn, track, speaker in recording.reference.itertracks(yield_label=True):
            reference[Segment(turn.start * up / down, turn.end * up / down), track] = speaker
        waveform = resample_poly(recording.waveform, up, down)
        return replace(_heard(recording, waveform), reference=reference)

    return changed


def after_faint_talk(recording: Recording) -> Recording:
    """Return a recording after its own last seconds, so faint that nobody would write them down."""
    waveform = recording.waveform
    faint = waveform[-FAINT_S * SAMPLE_RATE :] * np.float32(10 ** (-FAINTER_DB / 20))
    reference = Annotation(uri=recording.reference.uri)
    for turn, track, speaker in recording.reference.itertracks(yield_label=True):
        shifted = Segment(*(time + len(faint) / SAMPLE_RATE for time in turn))
        reference[shifted, track] = speaker
    heard = _heard(recording, np.concatenate([faint, waveform]))
    return replace(heard, reference=reference)


CHANNELS: dict[str, Callable[[Recording], Recording]] = {
    "opus 12 kb/s": codec("opus", 12_000),
    "mp3 32 kb/s": codec("mp3", 32_000),
    "g711": codec("g711", 64_000),
    "gain -20 dB": quieter,
    "tilt -6 dB/octave": tilted,
    "speed 0.95": at_speed(20, 19),
    "speed 1.05": at_speed(20, 21),
    "talk 35 dB fainter before it": after_faint_talk,
}
"""What is reported on, by the name that the card gives it."""


def by_channel(
    pipeline: DiarizationPipeline, recordings: list[Recording]
) -> Iterator[tuple[str, float]]:
    """Give the DER of recordings as they are heard through each channel."""
    for name, channel in CHANNELS.items():
        others, found = [], []
        for recording in recordings:
            other = channel(recording)
            heard = pipeline.listen(other.waveform)
            found.append(pipeline.assemble(other.name, heard, 1, None).to_annotation())
            others.append(replace(other, waveform=np.zeros(0, np.float32)))  # an hour is 230 MB
        yield name, score_found(others, found).total.der


def _heard(recording: Recording, waveform: NDArray[np.floating]) -> Recording:
    return replace(recording, waveform=waveform.astype(np.float32))
