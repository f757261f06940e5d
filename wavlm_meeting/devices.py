"""Which device to compute on, from what a user says."""

import torch

from wavlm_meeting.errors import DeviceError


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
