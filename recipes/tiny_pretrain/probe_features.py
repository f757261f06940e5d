"""What is probed: anything that turns waveforms into hidden states of frames.

B batch, N samples, T frames, C channels, S hidden states (L + 1 of an encoder with L layers).
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torchaudio.compliance.kaldi import fbank

from wavlm_meeting.errors import TrainingError
from wavlm_meeting.recipes.tiny_pretrain.probe_data import ProbeSet
from wavlm_meeting.units import SAMPLE_RATE
from wavlm_meeting.wavlm.model import WavLM

BATCH_SAMPLES = 40 * SAMPLE_RATE
"""Length of a batch, padding included; longer ones were no faster on a processor."""
FBANK_WINDOW, FBANK_SHIFT = SAMPLE_RATE // 40, SAMPLE_RATE // 100


@dataclass(frozen=True)
class FrameFeatures:
    """Hidden states and where their frames lie."""

    states: Callable[[Tensor, Tensor], Sequence[Tensor]]
    """From waveforms (B, N), float32 at 16 kHz and zero padded, and their lengths (B,) to S tensors
    (B, T, C); frames that reach into the padding may hold anything."""
    hop: int
    """Samples from one frame to the next."""
    receptive_field: int
    """Samples that a frame covers; frame t begins at sample t * hop."""

    def centres(self, samples: int) -> NDArray[np.int64]:
        """Return the sample in the middle of each of the frames (T,) of a recording."""
        count = max(0, (samples - self.receptive_field) // self.hop + 1)
        return np.arange(count) * self.hop + self.receptive_field // 2


def encoder_features(encoder: WavLM) -> FrameFeatures:
    """Return an encoder's hidden states, in the mode that it is in, on the device where it is."""

    def states(waveforms: Tensor, lengths: Tensor) -> Sequence[Tensor]:
        device = encoder.mask_embedding.device
        return encoder(waveforms.to(device), lengths.to(device)).hidden_states

    return FrameFeatures(states, encoder.config.hop, encoder.config.receptive_field)


def fbank_features(bands: int = 80, frames: int = 4) -> FrameFeatures:
    """Return log-mel energies as a single hidden state: what any encoder must beat.

    Each frame is the mean of `frames` vectors at 10 ms; four make the 40 ms of a tiny encoder.
    """

    def states(waveforms: Tensor, _: Tensor) -> Sequence[Tensor]:
        rows = [
            fbank(wave[None] * 2.0**15, num_mel_bins=bands, sample_frequency=SAMPLE_RATE)
            for wave in waveforms
        ]
        energies = torch.stack(rows)  # (B, T of 10 ms, C)
        return [energies.unfold(1, frames, frames).mean(dim=-1)]

    window = FBANK_WINDOW + (frames - 1) * FBANK_SHIFT
    return FrameFeatures(states, frames * FBANK_SHIFT, window)


@torch.inference_mode()
def encode(features: FrameFeatures, recordings: ProbeSet) -> Iterator[tuple[int, Tensor]]:
    """Give number and hidden states (S, T, C), float32, of each recording; short ones come first.

    Raises AudioError for a recording too short for a frame, TrainingError for hidden states that
    are not finite.
    """
    waves = recordings.recordings()
    for numbers in _batches(recordings.lengths):
        batch = [torch.from_numpy(waves[number].astype(np.float32) / 32768) for number in numbers]
        lengths = torch.tensor([len(wave) for wave in batch])
        states = torch.stack(
            [
                state.float().cpu()
                for state in features.states(pad_sequence(batch, batch_first=True), lengths)
            ]
        )  # (S, B, T, C)
        for place, number in enumerate(numbers):
            own = states[:, place, : len(features.centres(len(waves[number])))]
            if not own.isfinite().all():
                raise TrainingError("hidden states are not finite; probe an earlier checkpoint.")
            yield number, own


def _batches(lengths: NDArray[np.int64]) -> Iterator[list[int]]:
    """Give the recordings' numbers in batches of similar length."""
    batch: list[int] = []
    for number in np.argsort(lengths, kind="stable").tolist():
        if batch and (len(batch) + 1) * lengths[number] > BATCH_SAMPLES:
            yield batch
            batch = []
        batch.append(number)
    if batch:
        yield batch
