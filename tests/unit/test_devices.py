"""What a device can do, as training asks for it."""

from pathlib import Path

import pytest
import torch

from wavlm_meeting.devices import has_bfloat16, in_bfloat16

CPUINFO = Path("/proc/cpuinfo")


@pytest.mark.skipif(not CPUINFO.exists(), reason="Linux says what its CPU has")
@pytest.mark.skipif(not hasattr(torch.cpu, "get_capabilities"), reason="PyTorch 2.11 does not")
def test_bfloat16_is_used_where_the_cpu_has_it() -> None:
    """Linux and PyTorch name instructions alike; products in it take ten times as long without."""
    flags = set(CPUINFO.read_text().replace("\t", " ").split())
    assert has_bfloat16("cpu") == bool(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    assert has_bfloat16("cuda")


@pytest.mark.parametrize("wanted", [False, True])
def test_products_are_in_what_is_wanted_and_worth_it(*, wanted: bool) -> None:
    """Settings ask for bfloat16, and the device has the last word."""
    with in_bfloat16("cpu", wanted=wanted):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    assert (product.dtype == torch.bfloat16) == (wanted and has_bfloat16("cpu"))
