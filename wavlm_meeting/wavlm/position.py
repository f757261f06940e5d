"""Where a frame stands: the positional convolution and the buckets of relative positions.

B batch, T frames, D width, K kernel, G groups, F frequencies, H heads.
"""

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class PositionalConv(nn.Module):
    """Grouped convolution over time with weight norm along the kernel, then GELU.

    On a CPU it runs by FFT: with 128 taps that takes a seventh of the time of the direct way.
    """

    def __init__(self, width: int, kernel: int, groups: int) -> None:
        super().__init__()
        self.kernel, self.groups = kernel, groups
        direction = torch.empty(width, width // groups, kernel)
        nn.init.normal_(direction, std=math.sqrt(4 / (kernel * width)))
        self.weight_g = nn.Parameter(_norm_over_channels(direction))  # (1, 1, K)
        self.weight_v = nn.Parameter(direction)  # (D, D / G, K)
        self.bias = nn.Parameter(torch.zeros(width))
        self._kept: tuple[tuple[int, ...], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, T, D) to the position term (B, T, D)."""
        if x.device.type == "cpu":
            with torch.autocast("cpu", enabled=False):
                y = fft_conv(x.float(), self._spectrum(), self.kernel) + self.bias
                return F.gelu(y).to(x.dtype)
        y = F.conv1d(
            x.transpose(1, 2),
            self._weight().to(x.dtype),
            self.bias,
            padding=self.kernel // 2,
            groups=self.groups,
        )
        return F.gelu(y[:, :, : x.shape[1]]).transpose(1, 2)

    def _weight(self) -> Tensor:
        direction = self.weight_v.float()
        return direction * (self.weight_g.float() / _norm_over_channels(direction))

    def _spectrum(self) -> Tensor:
        """Return the weight's spectrum; without gradients it is kept until the weight changes."""
        weights = (self.weight_v, self.weight_g)
        if torch.is_grad_enabled() or any(weight.is_inference() for weight in weights):
            return kernel_spectrum(self._weight(), self.groups)
        state = tuple(n for weight in weights for n in (weight.data_ptr(), weight._version))  # noqa: SLF001
        if self._kept is None or self._kept[0] != state:
            self._kept = (state, kernel_spectrum(self._weight(), self.groups))
        return self._kept[1]


def kernel_spectrum(weight: Tensor, groups: int) -> Tensor:
    """Transform (D, D / G, K) for `fft_conv`: (F, G, D / G in, D / G out), conjugated.

    By a product and not by FFT: its results come in the order that is needed.
    """
    kernel = weight.shape[2]
    taps = weight.view(groups, -1, *weight.shape[1:]).permute(3, 0, 2, 1)  # (K, G, in, out)
    cosine, sine = _fourier_matrices(1 << (2 * kernel - 1).bit_length(), kernel)
    taps_in_rows = taps.flatten(1)
    spectrum = torch.complex(cosine @ taps_in_rows, sine @ taps_in_rows)
    return spectrum.view(-1, *taps.shape[1:])


def fft_conv(x: Tensor, spectrum: Tensor, kernel: int) -> Tensor:
    """Convolve (B, T, D) over time, zeros around it, by overlap-save.

    out[t] = sum_k x[t + k - K // 2] weight[k], the T frames that the padded convolution gives
    when the last one of an even kernel is dropped.
    """
    batch, frames, _ = x.shape
    groups, size = spectrum.shape[1], 2 * (spectrum.shape[0] - 1)
    hop = size - kernel + 1
    blocks = -(-frames // hop)
    left = kernel // 2
    padded = F.pad(x.transpose(1, 2), (left, (blocks - 1) * hop + size - frames - left))
    pieces = torch.fft.rfft(padded.unfold(2, size, hop))  # (B, D, blocks, F)
    grouped = pieces.view(batch, groups, -1, blocks, spectrum.shape[0])
    by_frequency = grouped.permute(4, 1, 0, 3, 2).flatten(2, 3)  # (F, G, B blocks, D / G)
    product = torch.matmul(by_frequency, spectrum)
    product = product.view(*product.shape[:2], batch, blocks, -1)
    y: Tensor = torch.fft.irfft(product.permute(2, 3, 1, 4, 0), size)  # (B, blocks, G, D / G, size)
    return y[..., :hop].flatten(2, 3).transpose(2, 3).flatten(1, 2)[:, :frames]


@lru_cache
def _fourier_matrices(size: int, kernel: int) -> tuple[Tensor, Tensor]:
    """Return cosines and sines (F, K) of the frequencies of K frames padded to `size`."""
    with torch.inference_mode(mode=False):  # they are kept, and gradients will need them
        frequencies = torch.arange(size // 2 + 1, device="cpu")
        turns = frequencies[:, None] * torch.arange(kernel, device="cpu") % size
        angles = turns.double() * (2 * math.pi / size)
        return angles.cos().float(), angles.sin().float()


def _norm_over_channels(weight: Tensor) -> Tensor:
    """Return the norm of each kernel position's slice, (1, 1, K)."""
    norm: Tensor = torch.linalg.vector_norm(weight, dim=(0, 1), keepdim=True)
    return norm


def relative_buckets(offsets: Tensor, buckets: int, max_distance: int) -> Tensor:
    """Map key minus query offsets to T5's bidirectional buckets (arXiv 1910.10683, section 2.1).

    Half of the buckets serve each direction, keys to the right the upper half. In a direction the
    first half of its buckets holds one distance each; the others widen logarithmically, and the
    last one takes everything from `max_distance` on.
    """
    side = buckets // 2
    exact = side // 2
    distance = offsets.abs()
    # float32, in this order: the released code's rounding decides at the edges of buckets
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(max_distance / exact)
    far = (exact + (ratio * (side - exact)).long()).clamp(max=side - 1)
    return torch.where(distance < exact, distance, far) + side * (offsets > 0)


def toeplitz_table(table: Tensor, frames: int, max_distance: int) -> Tensor:
    """Spread the bias table (buckets, H) over all offsets of `frames` frames.

    Returns (H, 2 T - 1): entry d + T - 1 is the bias of offset d = key - query.
    """
    offsets = torch.arange(1 - frames, frames, device=table.device)
    buckets = relative_buckets(offsets, table.shape[0], max_distance)
    return F.embedding(buckets, table).transpose(0, 1).contiguous()
