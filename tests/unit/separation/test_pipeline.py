"""From a recording to two tracks."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import butter, sosfilt
from torch import Tensor

from wavlm_meeting.audio.windows import iter_windows
from wavlm_meeting.checkpoints import load_encoder
from wavlm_meeting.errors import AudioError
from wavlm_meeting.separation.model import SeparationHead, build_head
from wavlm_meeting.separation.pipeline import LOUDEST, SeparationPipeline, channel_windows
from wavlm_meeting.separation.settings import SeparationSettings
from wavlm_meeting.wavlm.model import WavLM

# N samples, C microphones, J tracks

RATE = 16_000
SPLIT_HZ = 2_000


class BandHead(SeparationHead):
    """Gives one track the sound below 2 kHz and the other what is above, in an order by chance."""

    def __init__(self, settings: SeparationSettings, *, shuffle: bool = True) -> None:
        sizes = {"conformer_layers": 1, "hidden": 4, "attention_heads": 1, "ffn": 4}
        super().__init__(None, 0, **{**settings.head_sizes(), **sizes})
        self.chance = torch.Generator().manual_seed(0) if shuffle else None

    def forward(
        self,
        spectra: Tensor,
        hidden_states: Sequence[Tensor] = (),  # noqa: ARG002 - not listened to
        frame_lengths: Tensor | None = None,  # noqa: ARG002
    ) -> Tensor:
        """Return masks of 0 and 1; nothing is noise."""
        masks = torch.zeros(len(spectra), 3, *spectra.shape[1:])
        split = round(SPLIT_HZ / RATE * self.fft)
        masks[:, 0, :, :split] = 1
        masks[:, 1, :, split:] = 1
        if self.chance is not None:
            for own in masks:
                own[:2] = own[torch.randperm(2, generator=self.chance)]
        return masks


@pytest.fixture(scope="module")
def encoder() -> WavLM:
    """Give the embedded encoder."""
    return load_encoder("tiny")


def drawn(encoder: WavLM, **settings: Any) -> SeparationPipeline:
    """Make a pipeline with a small head of random weights."""
    torch.manual_seed(0)
    small = SeparationSettings(layers=1, width=16, heads=2, ffn=16, kernel=5, **settings)
    return SeparationPipeline(encoder, build_head(encoder.config, small), small, "drawn", "")


def by_band(encoder: WavLM, *, shuffle: bool = True, **settings: Any) -> SeparationPipeline:
    """Make a pipeline whose tracks are known."""
    own = SeparationSettings(features=False, **settings)
    return SeparationPipeline(encoder, BandHead(own, shuffle=shuffle), own, "bands", "")


def voices(length: int, seed: int = 0) -> np.ndarray:
    """Draw a low and a high voice (J, N), well away from the split."""
    noise = np.random.default_rng(seed).standard_normal((2, length))
    low = sosfilt(butter(8, 1000, fs=RATE, output="sos"), noise[0])
    high = sosfilt(butter(8, [3000, 7000], "band", fs=RATE, output="sos"), noise[1])
    return np.stack([low / low.std(), high / high.std()]).astype(np.float32) * 0.1


def passes(module: torch.nn.Module, calls: list[int]) -> Any:
    """Count how often a module is run."""
    return module.register_forward_hook(lambda *_: calls.append(1))


@pytest.mark.parametrize("length", [0, 1, 2, 399, 4000, 38_400, 38_401, 51_199, 100_003])
def test_tracks_are_as_long_as_the_recording(encoder: WavLM, length: int) -> None:
    """Every number of samples, from none on, comes out twice, in float32."""
    found = drawn(encoder).separate(voices(100_003)[0, :length])
    assert found.shape == (2, length)
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


@pytest.mark.parametrize(
    "settings",
    [{}, {"window_s": 4.0, "history_s": 1.0, "future_s": 1.0}, {"history_s": 1.6, "future_s": 0.0}],
)
def test_each_talker_stays_on_a_track(encoder: WavLM, settings: dict[str, float]) -> None:
    """Two voices come out as they went in, though the head changes their order at every window."""
    both = voices(20 * RATE + 77)
    found = by_band(encoder, **settings).separate(both.sum(axis=0))
    if np.square(found[0] - both[0]).sum() > np.square(found[1] - both[0]).sum():
        found = found[::-1]
    errors = np.square(found - both).sum(axis=1)
    assert (errors < 1e-3 * np.square(both).sum(axis=1)).all()


def test_nothing_is_lost_or_added(encoder: WavLM) -> None:
    """Where masks leave nothing to noise, the tracks add up to the recording, to the sample."""
    mixture = voices(10 * RATE + 5).sum(axis=0)
    found = by_band(encoder).separate(mixture)
    assert np.abs(found.sum(axis=0) - mixture).max() < 1e-5


def test_who_talks_alone_is_on_one_track_and_the_other_is_silent(encoder: WavLM) -> None:
    """Through long pauses and at every window, a voice stays where it began."""
    voice = voices(30 * RATE)[0]
    voice[5 * RATE : 12 * RATE] = 0
    voice[20 * RATE : 24 * RATE] = 0
    found = by_band(encoder).separate(voice)
    loudest = int(np.square(found).sum(axis=1).argmax())
    assert np.abs(found[loudest] - voice).max() < 1e-4
    assert np.abs(found[1 - loudest]).max() < 1e-4


@pytest.mark.parametrize("sizes", [(1000,), (16_000,), (7, 50_000, 0, 333)])
def test_blocks_do_not_matter(encoder: WavLM, sizes: tuple[int, ...]) -> None:
    """Blocks of any lengths give, bit by bit, what the whole gives."""
    pipeline, mixture = drawn(encoder), voices(6 * RATE + 3).sum(axis=0)

    def blocks() -> Iterator[np.ndarray]:
        start, turn = 0, 0
        while start < len(mixture):
            end = start + sizes[turn % len(sizes)]
            yield mixture[start:end]
            start, turn = end, turn + 1

    found = np.concatenate(list(pipeline.stream(blocks())), axis=1)
    assert np.array_equal(found, pipeline.separate(mixture))


def test_one_window_at_a_time_gives_what_many_do(encoder: WavLM) -> None:
    """Live, where every window is run alone, tracks are the same."""
    pipeline, mixture = drawn(encoder), voices(8 * RATE).sum(axis=0)
    found = np.concatenate(list(pipeline.stream([mixture], batch=1)), axis=1)
    assert np.allclose(found, pipeline.separate(mixture), atol=1e-5)


def test_no_more_is_read_than_a_batch_needs(encoder: WavLM) -> None:
    """An endless recording is separated: nothing is kept but a few windows."""
    pipeline, read = by_band(encoder), 0

    def endless() -> Iterator[np.ndarray]:
        nonlocal read
        while True:
            read += RATE
            yield np.zeros(RATE, np.float32)

    given, (window, hop) = 0, pipeline.sizes()
    for _, piece in zip(range(100), pipeline.stream(endless()), strict=False):
        given += piece.shape[1]
        assert read - given <= window + 8 * hop + RATE


def test_live_tracks_are_no_later_than_they_say(encoder: WavLM) -> None:
    """Whatever has been read, the tracks reach to `latency_s` before it."""
    pipeline, read = by_band(encoder), 0

    def slowly() -> Iterator[np.ndarray]:
        nonlocal read
        for block in np.split(voices(10 * RATE)[0], 1000):
            read += len(block)
            yield block

    given = 0
    for piece in pipeline.stream(slowly(), batch=1):
        assert given == 0 or read - given <= pipeline.latency_s * RATE + 160
        given += piece.shape[1]
    assert pipeline.latency_s == pytest.approx(0.8 + 0.4)


def test_what_the_encoder_heard_for_another_task_is_enough(encoder: WavLM) -> None:
    """With hidden states given, the encoder is not run again, and tracks are the same."""
    pipeline = drawn(encoder)
    mixture = voices(8 * RATE).sum(axis=0)
    windows = list(iter_windows([mixture], *pipeline.sizes()))
    samples = torch.from_numpy(np.stack([window.samples for window in windows]))
    calls: list[int] = []
    with torch.inference_mode():
        encoded = encoder(samples, torch.tensor([window.valid for window in windows]))
    hook = passes(encoder, calls)
    found = pipeline.window_tracks(windows, encoded)
    hook.remove()
    assert not calls
    joined = np.concatenate(list(pipeline.put_together(zip(windows, found, strict=True))), axis=1)
    assert np.allclose(joined, pipeline.separate(mixture), atol=1e-5)


@pytest.mark.parametrize(("features", "runs"), [(True, 1), (False, 0)])
def test_the_encoder_is_run_if_it_is_listened_to(encoder: WavLM, features: bool, runs: int) -> None:
    """One pass for a batch; none for a head that hears the spectrum alone."""
    calls: list[int] = []
    hook = passes(encoder, calls)
    drawn(encoder, features=features).separate(voices(5 * RATE).sum(axis=0))
    hook.remove()
    assert len(calls) == runs


def test_windows_can_be_those_of_diarization(encoder: WavLM) -> None:
    """Window and hop are rounded as diarization rounds them: to whole frames of the encoder."""
    window, hop = drawn(encoder, window_s=3.2, history_s=1.6, future_s=0.8).sizes()
    assert (window, hop) == (51_200, 12_800)
    _, hop = drawn(encoder, window_s=2.0, history_s=0.5, future_s=0.49).sizes()
    assert hop % encoder.config.hop == 0


def rooms(both: np.ndarray, microphones: int) -> tuple[np.ndarray, np.ndarray]:
    """Let microphones hear two voices from two sides; return both (C, N), and each (J, C, N)."""
    images = np.stack(
        [
            np.stack([(1 - 0.1 * c) * np.roll(voice, way * c) for c in range(microphones)])
            for voice, way in zip(both, (1, -1), strict=True)
        ]
    )
    return images.sum(axis=0), images


@pytest.mark.parametrize("reference", [0, 2])
def test_several_microphones_give_the_tracks_of_one(encoder: WavLM, reference: int) -> None:
    """Beams keep each voice as the reference hears it: its delay and its level."""
    mixture, images = rooms(voices(6 * RATE), 4)
    found = by_band(encoder, shuffle=False).separate(mixture, reference)
    wanted = images[:, reference]
    errors = np.square(found - wanted).sum(axis=1)
    assert (errors < 0.01 * np.square(wanted).sum(axis=1)).all()


@pytest.mark.parametrize("beam", ["wiener", "mvdr"])
def test_a_beam_towards_nobody_is_silent(encoder: WavLM, beam: str) -> None:
    """Who talks alone is on one track with several microphones, too."""
    mixture, _ = rooms(voices(6 * RATE) * np.array([[1], [0]], np.float32), 4)
    found = by_band(encoder, shuffle=False, beam=beam).separate(mixture)
    power = np.square(found).mean(axis=1)
    assert power[1] < 1e-4 * power[0]


def test_blocks_of_several_microphones_do_not_matter() -> None:
    """Channels are cut alike, whatever the blocks."""
    samples = np.random.default_rng(0).standard_normal((3, 1001)).astype(np.float32)
    windows = list(channel_windows(np.split(samples, [1, 400, 777], axis=1), 300, 100))
    for channel, own in enumerate(samples):
        for window, alone in zip(windows, iter_windows([own], 300, 100), strict=True):
            assert (window.start, window.valid, window.is_last) == (
                alone.start,
                alone.valid,
                alone.is_last,
            )
            assert np.array_equal(window.samples[channel], alone.samples)


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 3, 4), np.float32), r"\(2, 3, 4\)"),
        (np.zeros((0, 4), np.float32), r"\(0, 4\)"),
        (np.zeros(100, np.int16), "int16"),
        (np.full(100, np.nan, np.float32), "NaN"),
        (np.full(100_000, 1e19, np.float32), "as large as 1e[+]19"),
    ],
)
def test_what_is_no_recording_is_refused(encoder: WavLM, samples: np.ndarray, message: str) -> None:
    """Shapes, integers, NaN and what is beyond all measure are told, not separated."""
    with pytest.raises(AudioError, match=message):
        drawn(encoder).separate(samples)


@pytest.mark.parametrize("microphones", [1, 3])
@pytest.mark.parametrize("level", [1e-9, 1e5, LOUDEST])
def test_any_level_is_separated(encoder: WavLM, level: float, microphones: int) -> None:
    """From next to nothing to the loudest that is taken, tracks are finite and as loud."""
    noise = np.random.default_rng(0).uniform(-level, level, 60_000).astype(np.float32)
    found = drawn(encoder).separate(np.stack([noise] * microphones))
    assert np.isfinite(found).all()
    assert 0.1 * level < np.abs(found).max() < 2 * level


def test_microphones_that_are_not_there_are_refused(encoder: WavLM) -> None:
    """The reference is one of the channels, and their number does not change."""
    pipeline = drawn(encoder)
    with pytest.raises(AudioError, match="microphone 1"):
        pipeline.separate(np.zeros(RATE, np.float32), reference=1)
    blocks = [np.zeros((2, RATE), np.float32), np.zeros((3, RATE), np.float32)]
    with pytest.raises(AudioError, match="3 channels"):
        list(pipeline.stream(blocks))


def test_tensors_of_doubles_are_taken(encoder: WavLM) -> None:
    """A tensor of any float gives what its array gives."""
    mixture = voices(RATE).sum(axis=0)
    pipeline = drawn(encoder)
    found = pipeline.separate(torch.from_numpy(mixture).double())
    assert np.array_equal(found, pipeline.separate(mixture))
