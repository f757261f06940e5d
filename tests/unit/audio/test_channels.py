"""All channels of a recording at once: each is what it is alone."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

from wavlm_meeting.audio import open_audio, read_audio
from wavlm_meeting.errors import AudioError


@pytest.mark.parametrize("rate", [16_000, 44_100])
@pytest.mark.parametrize("channels", [1, 3])
def test_channels_are_what_they_are_alone(rate: int, channels: int, tmp_path: Path) -> None:
    """Blocks of any size hold each channel as reading it alone gives it, to the bit."""
    samples = np.random.default_rng(0).uniform(-1, 1, (rate, channels))
    soundfile.write(tmp_path / "x.wav", samples, rate)
    alone = [read_audio(tmp_path / "x.wav", channel=place + 1) for place in range(channels)]
    for block_s in (0.03, 10.0):
        with open_audio(tmp_path / "x.wav") as reader:
            found = np.concatenate(list(reader.channel_blocks(block_s)), axis=1)
            assert reader.frames == rate
        np.testing.assert_array_equal(found, alone)


def test_any_channel_must_be_finite(tmp_path: Path) -> None:
    """Infinity in a channel is refused with its place, and what is too short as everywhere."""
    samples: NDArray[np.float32] = np.zeros((16_000, 2), np.float32)
    samples[8000, 1] = np.inf
    soundfile.write(tmp_path / "x.wav", samples, 16_000, "FLOAT")
    with open_audio(tmp_path / "x.wav") as reader, pytest.raises(AudioError, match=r"at 0\.500 s"):
        list(reader.channel_blocks())
    soundfile.write(tmp_path / "x.wav", samples[:100], 16_000)
    with open_audio(tmp_path / "x.wav") as reader, pytest.raises(AudioError, match="at least"):
        list(reader.channel_blocks())
