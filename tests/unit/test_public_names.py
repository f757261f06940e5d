"""What `import wavlm_meeting` offers."""

import subprocess
import sys

import pytest

import wavlm_meeting


def test_public_names_load() -> None:
    """Every name in `__all__` is there, and a wrong one is an AttributeError that names it."""
    assert set(wavlm_meeting.__all__) == set(dir(wavlm_meeting))
    for name in wavlm_meeting.__all__:
        assert getattr(wavlm_meeting, name)
    with pytest.raises(AttributeError, match="diarise"):
        _ = wavlm_meeting.diarise


def test_import_is_light() -> None:
    """`import wavlm_meeting` leaves torch to those who use it."""
    code = "import sys, wavlm_meeting; print('torch' in sys.modules)"
    answer = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    assert answer.stdout.strip() == b"False"
