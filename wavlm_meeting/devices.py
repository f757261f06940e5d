"""Which device to compute on, from what a user says."""

from collections.abc import Mapping

import torch

from wavlm_meeting.errors import DeviceError

BFLOAT16 = {"avx512_bf16", "amx_bf16", "avx10_2", "bf16"}
"""What CPUs with products in bfloat16 tell of themselves; the last one is Arm's."""


def resolve_device(device: str | torch.device) -> torch.device:
    """Turn "auto", "cpu", "cuda" or a device into a device that is there.

    "auto" takes a GPU if there is one. Raises DeviceError for an unknown or absent device.
    """
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        found = torch.device(device)
    except RuntimeError:
        raise DeviceError(f"'{device}' is no device: choose auto, cpu or cuda.") from None
    if found.type not in ("cpu", "cuda"):
        raise DeviceError(f"'{device}' is not supported: choose auto, cpu or cuda.")
    if found.type == "cuda" and (found.index or 0) >= torch.cuda.device_count():
        raise DeviceError(
            f"'{device}' was asked for, but PyTorch {torch.__version__} sees "
            f"{torch.cuda.device_count()} GPUs: choose auto or cpu, or install a PyTorch for CUDA."
        )
    return found


def capabilities() -> Mapping[str, object]:
    """Return what PyTorch tells of the CPU: instructions by name, nothing in some releases."""
    told: Mapping[str, object] = getattr(torch.cpu, "get_capabilities", dict)()
    return told


def has_bfloat16(kind: str) -> bool:
    """Tell whether products in bfloat16 are worth it on a kind of device, such as "cpu".

    A CPU without instructions for them takes ten times as long as in float32. Where PyTorch does
    not tell (2.11 may not), they are taken to be there.
    """
    told = capabilities()
    return kind != "cpu" or not told or any(told.get(name) for name in BFLOAT16)


def in_bfloat16(kind: str, *, wanted: bool) -> torch.autocast:
    """Return the context for a training's products: bfloat16 if that is wanted and worth it."""
    return torch.autocast(kind, torch.bfloat16, enabled=wanted and has_bfloat16(kind))
