"""The numbers that a model computes with: float32, or what CPUs multiply faster.

With bfloat16 all of the encoder but the frontend's first layer is in it. With int8 large linear
maps are: weights have a scale for each output channel, inputs one for each frame, found as they
come, so that no frame depends on what else is in a batch. Convolutions, attention, norms and small
maps stay in float32. Either way hidden states come out in float32.

C channels.
"""

import warnings
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from wavlm_meeting.checkpoints.quantisation import LIMIT, SMALLEST, quantise
from wavlm_meeting.devices import capabilities, has_bfloat16
from wavlm_meeting.errors import DeviceError, SettingsError, WavLMMeetingWarning
from wavlm_meeting.wavlm.encoder import FeedForward
from wavlm_meeting.wavlm.model import EncoderOutput, WavLM

Precision = Literal["float32", "bfloat16", "int8"]
"""Number format of products."""

LEAST_WEIGHTS = 1 << 14
"""Weights of a linear map from which on eight bits save more than quantising the input takes."""


def check_precision(precision: str, device: torch.device) -> None:
    """Raise an error where nothing computes like this, warn where it is slow.

    Raises SettingsError for an unknown precision, DeviceError for one that the device has not.
    """
    if precision not in get_args(Precision):
        choices = ", ".join(get_args(Precision))
        raise SettingsError(f"precision is '{precision}': choose one of {choices}.")
    if precision == "int8" and device.type != "cpu":
        raise DeviceError("int8 is for CPUs: choose float32 or bfloat16, or the device cpu.")
    if precision == "int8" and not int8_is_exact():
        raise DeviceError(
            "this CPU has no fast and exact products in int8 (AVX-512 VNNI): choose float32."
        )
    if precision == "bfloat16" and not has_bfloat16(device.type):
        message = "this CPU has no products in bfloat16: float32 is faster here."
        warnings.warn(message, WavLMMeetingWarning, stacklevel=3)


def int8_is_exact() -> bool:
    """Tell whether oneDNN multiplies int8 here, and without overflow.

    Without VNNI it adds pairs of products in 16 bits, where two of 127 x 127 have no place.
    """
    told = capabilities()
    if not torch.backends.mkldnn.is_available() or not told.get("avx512_vnni", "avx2" not in told):
        return False  # a loop would do it, far slower than float32
    full = torch.full((64, 256), LIMIT, dtype=torch.int8)
    return bool((torch._int_mm(full, full.t()[:, :64]) == 256 * LIMIT**2).all())  # noqa: SLF001


def lower_encoder(encoder: WavLM, precision: Precision) -> None:
    """Make an encoder compute with these numbers from now on, for inference alone."""
    if precision == "bfloat16":
        encoder.to(torch.bfloat16)
        encoder.register_forward_hook(_in_float32)
    elif precision == "int8":
        lower_linear_maps(encoder)


def lower_linear_maps(module: nn.Module) -> None:
    """Make the large linear maps inside of a module multiply in int8, for inference alone."""
    for name, child in module.named_children():
        if isinstance(child, FeedForward):
            setattr(module, name, Int8FeedForward(child))
        elif type(child) is nn.Linear and child.weight.numel() >= LEAST_WEIGHTS:
            setattr(module, name, Int8Linear(child))
        elif not isinstance(child, nn.TransformerEncoderLayer):  # which reads its weights itself
            lower_linear_maps(child)


class Int8Linear(nn.Module):
    """A linear map by products of whole numbers; the input is quantised frame by frame."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        numbers, scales = quantise(linear.weight)
        self.numbers: Tensor
        self.scales: Tensor
        self.bias: Tensor
        self.register_buffer("numbers", numbers)  # (C', C)
        self.register_buffer("scales", scales)  # (C')
        bias = torch.zeros_like(scales) if linear.bias is None else linear.bias.detach()
        self.register_buffer("bias", bias)  # (C')

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C')."""
        frames = x.reshape(-1, x.shape[-1])
        highest, lowest = frames.amax(dim=1, keepdim=True), frames.amin(dim=1, keepdim=True)
        scales = torch.maximum(highest, lowest.neg_()).div_(LIMIT).clamp_(min=SMALLEST)
        numbers = (frames / scales).round_().to(torch.int8)
        product = torch._int_mm(numbers, self.numbers.t())  # noqa: SLF001 - nothing public does
        y = product * scales
        return torch.addcmul(self.bias, y, self.scales, out=y).view(*x.shape[:-1], -1)


class Int8FeedForward(nn.Module):
    """The feed-forward part of an encoder layer."""

    def __init__(self, part: FeedForward) -> None:
        super().__init__()
        self.up, self.down = Int8Linear(part.up), Int8Linear(part.down)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., C) to (..., C)."""
        output: Tensor = self.down(F.gelu(self.up(x)))
        return output


def _in_float32(_encoder: nn.Module, _arguments: object, output: EncoderOutput) -> EncoderOutput:
    states = tuple(state.float() for state in output.hidden_states)
    return EncoderOutput(states, output.frame_lengths)
