"""The features of the first labels: MFCC with two derivatives, as in HuBERT's first iteration.

N samples, T frames.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torchaudio.compliance.kaldi import mfcc
from torchaudio.functional import compute_deltas

from wavlm_meeting.errors import SettingsError
from wavlm_meeting.units import SAMPLE_RATE

SHIFT = SAMPLE_RATE // 100
"""Samples from one vector to the next: 10 ms."""


def mfcc_features(hop: int) -> Callable[[Tensor], Tensor]:
    """Return a function from samples (N,) to (T, 39), one row for each `hop` samples.

    13 coefficients without energy, 25 ms windows, with first and second derivatives taken at 10 ms.
    Row t covers the samples from t * hop on, as frame t of an encoder does. Raises SettingsError
    unless `hop` is a whole number of 10 ms.
    """
    if hop % SHIFT:
        raise SettingsError(
            f"a hop of {hop} samples is no multiple of {SHIFT}: MFCC come each 10 ms."
        )

    def features(samples: Tensor) -> Tensor:
        static = mfcc(samples[None].float(), sample_frequency=SAMPLE_RATE, use_energy=False).T
        first = compute_deltas(static)
        second = compute_deltas(first)
        return torch.cat([static, first, second]).T[:: hop // SHIFT].contiguous()

    return features
