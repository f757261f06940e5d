"""Settings of separation: the paper's by default, and sizes that do not fit are refused."""

import pytest

from wavlm_meeting.config import parse_settings
from wavlm_meeting.errors import SettingsError
from wavlm_meeting.separation.settings import SeparationSettings


def test_defaults_are_the_papers() -> None:
    """2.4 s windows give out 0.8 s each; 16 blocks of 256 channels."""
    settings = SeparationSettings()
    assert settings.current_s == pytest.approx(0.8)
    assert (settings.layers, settings.width, settings.heads) == (16, 256, 4)
    assert (settings.ffn, settings.kernel, settings.fft, settings.hop) == (1024, 33, 512, 256)


@pytest.mark.parametrize(
    ("values", "cure"),
    [
        ({"history_s": 2.0}, "window_s 2.4 must exceed history_s and future_s together, 2.4"),
        ({"width": 30}, "width 30 is not a multiple of heads 4"),
        ({"kernel": 4}, "make it odd"),
        ({"hop": 300}, "leaves less than half of fft 512"),
        ({"widht": 8}, "did you mean 'width'"),
    ],
)
def test_sizes_that_do_not_fit(values: dict[str, object], cure: str) -> None:
    """One line says which number is wrong."""
    with pytest.raises(SettingsError, match=cure) as caught:
        parse_settings(values, SeparationSettings, "here")
    assert "\n" not in str(caught.value)
