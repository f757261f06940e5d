"""Mean and covariance of a waveform's windows: what the norm after a first convolution needs.

The convolution is linear: mean and variance of its outputs follow from the mean m and the
covariance S of the windows, as w m and w S w^T for a channel's weight w.

B batch, N samples, K kernel.
"""

import torch
from torch import Tensor

MOMENT_ROWS = 1 << 17
"""Windows that are taken into the covariance at a time."""


def window_moments(
    waveforms: Tensor, kernel: int, stride: int, counts: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Return mean (B, K) and covariance (B, K, K) of the windows of (B, N), in float64.

    Only the first `counts` (B,) windows of each waveform count, if given. Sums of squares minus the
    square of sums would lose a small variance beside a large mean in float32; in float64 they do
    not.
    """
    batch, samples = waveforms.shape
    total = (samples - kernel) // stride + 1
    count = torch.full((batch,), total, device=waveforms.device) if counts is None else counts
    sums = waveforms.new_zeros(batch, kernel, dtype=torch.float64)
    products = waveforms.new_zeros(batch, kernel, kernel, dtype=torch.float64)
    for row in range(0, total, MOMENT_ROWS):
        rows = min(MOMENT_ROWS, total - row)
        part = waveforms[:, row * stride : (row + rows - 1) * stride + kernel]
        windows = part.double().unfold(1, kernel, stride)
        if counts is not None:
            valid = torch.arange(row, row + rows, device=waveforms.device) < count[:, None]
            windows = windows * valid[..., None]
        sums += windows.sum(dim=1)
        products += windows.transpose(1, 2) @ windows
    mean = sums / count[:, None]
    covariance = products / count[:, None, None] - mean[:, :, None] * mean[:, None]
    return mean, covariance
